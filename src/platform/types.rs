//! Plain types for files, kernel locks and processes.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

/// How to open an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading alone.
    Read,
    /// For reading and writing, which kernel locks on network filesystems need.
    ReadWrite,
}

/// The result of [`System::open`](super::system::System::open).
#[derive(Debug)]
pub enum Opened<F> {
    /// An open file, which may not be a regular file.
    File(F),
    /// No file.
    Missing,
    /// A symbolic link, or something else that cannot be opened as a file.
    NotAFile(FileKind),
    /// A file that another process has a lease on, which it must release first: `fcntl(2)`, `F_SETLEASE`.
    Leased,
}

/// The failed system call of an operation that consists of several.
#[derive(Debug)]
pub struct Failed {
    /// Which, by the name that Node.js uses.
    pub syscall: &'static str,
    /// Its error.
    pub source: io::Error,
}

/// The result of [`System::unlink`](super::system::System::unlink).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    /// It removed the name.
    Removed,
    /// There was no file.
    Missing,
    /// The path names another file.
    Another,
}

/// The two modes of a kernel lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Held by one process, and by none in shared mode: ownership.
    Exclusive,
    /// Held by any number of readers.
    Shared,
}

/// The answer of [`System::try_lock`](super::system::System::try_lock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryLock {
    /// This process holds it now.
    Acquired,
    /// Another process holds it.
    WouldBlock,
    /// This filesystem has no kernel locks.
    Unsupported,
}

/// Which file: two names with the same identity are the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The device.
    pub device: u64,
    /// The inode number; on Windows the file id, which has 128 bits on `ReFS`.
    pub inode: u128,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Printing a number of 128 bits takes code that nothing else needs.
        let folded = (self.inode ^ (self.inode >> 64)) & u128::from(u64::MAX);
        write!(f, "{}:{}", self.device, u64::try_from(folded).unwrap_or_default())
    }
}

/// The properties of a file.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Which file it is.
    pub id: FileId,
    /// Its kind.
    pub kind: FileKind,
    /// How many names it has; 0 after its unlink.
    pub links: u64,
    /// The user that owns it; 0 on Windows.
    pub owner: u32,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last modification, in milliseconds since the Unix epoch.
    pub modified: u64,
}

/// Whether one kernel alone can have the filesystem mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsKind {
    /// Local to this kernel: its kernel locks hold for every process that can reach the file.
    Local,
    /// Shared with other kernels, or unknown.
    Shared,
}

/// The state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// There is none with this pid.
    Dead,
    /// It has ended and waits for its parent; it can run nothing any more.
    Zombie,
    /// It runs, but does not hold the lock: it has become another program (`execve(2)`), or closed the file.
    Replaced,
    /// It runs.
    Alive {
        /// When it started, in the system's own unit counted from boot; `None` if that is hidden.
        start: Option<u64>,
    },
}

/// The identity of a process, as its record names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// This process.
    pub pid: u32,
    /// When it started, in the unit of [`ProcessState::Alive`].
    pub start: Option<u64>,
    /// Names this boot of the machine.
    pub boot: Option<String>,
    /// Names the pid namespace.
    pub pid_namespace: Option<u64>,
    /// The host's name.
    pub host: Option<String>,
}

/// The command line and the user of a process at one moment. Either is `None` if the system does not show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessDetails {
    /// Its arguments, joined by spaces, up to 4096 characters. It can contain any character, and passwords.
    pub command: Option<String>,
    /// The name of its effective user, or the number of that.
    pub user: Option<String>,
}

impl ProcessDetails {
    /// The longest command line, in characters.
    pub(crate) const MAX_COMMAND: usize = 4096;

    #[cfg_attr(
        not(any(target_os = "linux", target_os = "macos", windows)),
        expect(dead_code, reason = "it reads no process")
    )]
    pub(crate) fn new(command: Option<String>, user: Option<String>) -> Self {
        let cut = |text: String| match text.char_indices().nth(Self::MAX_COMMAND) {
            Some(_) => text.chars().take(Self::MAX_COMMAND - 1).chain(['…']).collect(),
            None => text,
        };
        let known = |text: &String| !text.is_empty();
        Self { command: command.filter(known).map(cut), user: user.filter(known) }
    }
}

/// The kind of a file, as far as a lock depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    File,
    /// A regular file with several hard links that holds no record: another file could be overwritten.
    HardLink,
    /// A regular file with content that no lock leaves, under a file name that the caller chose.
    NotALock,
    /// A regular file without links at a path that keeps naming it: a mount point whose original was removed.
    Unlinked,
    /// A regular file of another user in a directory with the sticky bit: that user could remove a held lock.
    Planted,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character or block device.
    Device,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::HardLink => "a file with several hard links",
            Self::NotALock => "a file that contains no lock record",
            Self::Unlinked => "a file without links, such as a mount point whose original was removed",
            Self::Planted => "a file of another user in a directory with the sticky bit",
            Self::Directory => "a directory",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
            Self::Symlink => "a symbolic link",
            Self::Other => "not a file",
        })
    }
}
