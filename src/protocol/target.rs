//! The target of a call: the absolute path of a lock file with its settings, and the errors that name that path.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::record::Holder;
use crate::platform::Failed;

/// The lock file of the reconcile tool, and the default of [`LockOptions`](crate::LockOptions).
pub const DEFAULT_FILE: &str = ".xero-reconcile-lock.json";

/// The mode of a lock file for one user.
pub(super) const PRIVATE: u32 = 0o600;

/// One lock file, and how a call uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The lock file.
    pub path: PathBuf,
    /// The whole text of the contention error.
    pub message: Cow<'static, str>,
    /// Whether legacy processes may use the file.
    pub legacy: bool,
    /// Whether an acquire syncs the record.
    pub durable: bool,
    /// The permission bits of the lock file.
    pub mode: u32,
    /// Whether to acquire in shared mode.
    pub shared: bool,
}

impl Target {
    /// The file whose kernel lock the readers hold.
    pub(crate) fn of_readers(&self) -> Self {
        Self { path: readers_of(&self.path), ..self.clone() }
    }

    /// Whether the file has the name that the legacy lock gave it.
    pub(crate) fn has_default_name(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == DEFAULT_FILE)
    }

    /// Whether the mode gives other users a permission.
    pub(crate) fn has_several_users(&self) -> bool {
        self.mode != PRIVATE
    }

    /// Whether the mode lets other users write the file.
    pub(crate) fn trusts_others(&self) -> bool {
        self.mode & 0o022 != 0
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn contention(&self, holder: Option<Holder>, reason: Option<String>) -> Error {
        Error::Contention {
            message: self.message.clone().into_owned(),
            path: self.path.clone(),
            holder,
            reason,
        }
    }

    pub(crate) fn failed(&self, Failed { syscall, source }: Failed) -> Error {
        self.system(syscall)(source)
    }

    pub(crate) fn system(&self, syscall: &'static str) -> impl FnOnce(io::Error) -> Error {
        system_error(syscall, &self.path)
    }
}

/// The file whose kernel lock the readers of the lock at `path` hold.
pub(crate) fn readers_of(path: &Path) -> PathBuf {
    beside(path, ".readers")
}

/// The path with a suffix behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::with_capacity(path.as_os_str().len() + suffix.len());
    name.push(path);
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn system_error(syscall: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| failed_call(syscall, path, source)
}

/// One copy for all calls.
#[cold]
#[inline(never)]
fn failed_call(syscall: &'static str, path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::Unsupported && source.raw_os_error().is_none() {
        return Error::Unsupported { path, reason: "reconcile-lock does not support this operating system" };
    }
    Error::System { syscall, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_system_has_its_own_error() {
        let error = system_error("open", Path::new("/a/l"))(io::ErrorKind::Unsupported.into());
        assert_eq!(error.code(), Some("E_LOCK_UNSUPPORTED"));
        let refused = system_error("open", Path::new("/a/l"))(io::Error::from_raw_os_error(95));
        assert_eq!(refused.code(), None, "a refusal of the system keeps its own code");
    }
}
