//! The errors, each with the code that JavaScript gets.
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

use super::record::Holder;
use crate::platform::FileKind;

/// The error of a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `E_LOCK_CONTENTION`: another process, thread or call holds the lock. A later call can succeed.
    #[error("{message}")]
    Contention {
        /// The configured message and nothing more, because tools show it to people.
        message: String,
        /// The lock file.
        path: PathBuf,
        /// The holder, if the record could be read.
        holder: Option<Holder>,
        /// The reason beside the holder, such as why the lock of another host is not taken over.
        reason: Option<String>,
    },
    /// `E_LOCK_DEADLOCK`: the call would wait for a lock that its own thread has acquired and, while it waits, cannot
    /// release. In Rust another thread may have that lock now and release it; the call does not know.
    #[error("cannot wait for {}: this thread holds it and cannot release it while it waits", path.display())]
    Deadlock {
        /// The lock file.
        path: PathBuf,
    },
    /// `E_LOCK_SYMLINK`: the path is a symbolic link, which could point the lock at any file.
    #[error("Refusing to read symlinked lock file: {}", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// `E_LOCK_NOT_A_FILE`: the path is not a file that a lock may use. It stays as it is.
    #[error("cannot use {} as a lock file: it is {kind}; choose another path", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// The kind of the file.
        kind: FileKind,
    },
    /// `E_LOCK_LOST`: the file was removed or replaced while this process held the lock, or its descriptor was closed.
    #[error("lost the lock {} while holding it: {reason}; another process may have acquired it", path.display())]
    Lost {
        /// The lock file.
        path: PathBuf,
        /// Why it is lost.
        reason: &'static str,
    },
    /// `E_LOCK_STALE`: the holder is gone, but this filesystem has no kernel locks, so that taking
    /// over could make two owners.
    #[error(
        "cannot take over the stale lock {} ({reason}): its filesystem has no kernel locks; check that no process \
         uses it, then break it",
        path.display()
    )]
    Stale {
        /// The lock file.
        path: PathBuf,
        /// The previous holder.
        holder: Option<Holder>,
        /// Why the holder is gone, in one sentence.
        reason: String,
    },
    /// `E_LOCK_UNSUPPORTED`: this operating system is not supported, shared mode is not possible at this path, the
    /// mode is not the default on Windows, or JavaScript has no string for the path.
    #[error("cannot lock {}: {reason}", path.display())]
    Unsupported {
        /// The lock file.
        path: PathBuf,
        /// The reason.
        reason: &'static str,
    },
    /// `ERR_INVALID_ARG_VALUE`: the arguments cannot name a lock file. Nothing was touched.
    #[error("{0}")]
    InvalidArgument(String),
    /// The operating system refused: its own code, such as `EACCES`.
    #[error("{syscall} '{}': {source}", path.display())]
    System {
        /// The system call, by the name that Node.js uses.
        syscall: &'static str,
        /// The path of the call.
        path: PathBuf,
        /// The system's error number.
        source: io::Error,
    },
}

impl Error {
    /// The code for JavaScript; `None` for the system's own errors, which carry an `errno`.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Contention { .. } => "E_LOCK_CONTENTION",
            Self::Deadlock { .. } => "E_LOCK_DEADLOCK",
            Self::Symlink { .. } => "E_LOCK_SYMLINK",
            Self::NotAFile { .. } => "E_LOCK_NOT_A_FILE",
            Self::Lost { .. } => "E_LOCK_LOST",
            Self::Stale { .. } => "E_LOCK_STALE",
            Self::Unsupported { .. } => "E_LOCK_UNSUPPORTED",
            Self::InvalidArgument(_) => "ERR_INVALID_ARG_VALUE",
            Self::System { .. } => return None,
        })
    }

    /// Whether the same call can succeed later: of contention, also if only a person can end it.
    #[must_use]
    pub fn recoverable(&self) -> bool {
        matches!(self, Self::Contention { .. })
    }

    /// The lock file that the error is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Contention { path, .. }
            | Self::Deadlock { path }
            | Self::Symlink { path }
            | Self::NotAFile { path, .. }
            | Self::Lost { path, .. }
            | Self::Stale { path, .. }
            | Self::Unsupported { path, .. }
            | Self::System { path, .. } => Some(path),
            Self::InvalidArgument(_) => None,
        }
    }

    /// The holder that the record names, for contention and stale locks.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Contention { holder, .. } | Self::Stale { holder, .. } => holder.as_ref(),
            _ => None,
        }
    }

    /// One sentence beside the message, for contention, stale locks, lost locks and what is not supported.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Contention { reason, .. } => reason.as_deref(),
            Self::Stale { reason, .. } => Some(reason),
            Self::Lost { reason, .. } | Self::Unsupported { reason, .. } => Some(reason),
            _ => None,
        }
    }
}
