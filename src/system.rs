//! What the protocol asks of an operating system, small enough to be simulated.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::protocol::error::FileKind;

/// The operations on files, processes and clocks that the protocol is written over.
///
/// Dropping a [`System::File`] closes it, which lets go of its kernel lock.
pub trait System {
    /// An open file description.
    type File: Send;

    /// Creates the file exclusively, mode 0600 (`O_CREAT | O_EXCL | O_NOFOLLOW`). `None`: the path exists.
    ///
    /// # Errors
    /// What the system refuses, except that the path exists.
    fn create(&self, path: &Path) -> io::Result<Option<Self::File>>;

    /// Opens what is there without following a symbolic link and without hanging on a FIFO.
    ///
    /// # Errors
    /// What the system refuses, except where [`Opened`] has a case for it.
    fn open(&self, path: &Path, access: Access) -> io::Result<Opened<Self::File>>;

    /// Tries the kernel lock, without waiting for it.
    ///
    /// # Errors
    /// What the system refuses, except where [`Locking`] has a case for it.
    fn try_lock(&self, file: &Self::File, mode: LockMode) -> io::Result<Locking>;

    /// The process that holds the exclusive kernel lock of a file, found without a try of that lock. `None`: there is
    /// none, or the system does not say.
    fn lock_owner(&self, _: FileId) -> Option<u32> {
        None
    }

    /// Lets go of the kernel lock in every process that has inherited the file. Closing it does so in this one alone.
    fn unlock(&self, _: &Self::File) {}

    /// The number by which a child can inherit the file, and its kernel lock with it. `None`: there is none.
    fn descriptor(&self, _: &Self::File) -> Option<i32> {
        None
    }

    /// Whether the file is open still, and not closed by another part of the program, whose next file may have got its
    /// number since.
    fn is_open(&self, _: &Self::File, _: FileId) -> bool {
        true
    }

    /// Whether this process knows that it holds the lock of this file.
    fn holds(&self, id: FileId) -> bool;

    /// Describes the open file.
    ///
    /// # Errors
    /// What the system refuses.
    fn stat(&self, file: &Self::File) -> io::Result<Stat>;

    /// Describes what the path names, without following a symbolic link. `None`: nothing is there.
    ///
    /// # Errors
    /// What the system refuses, except that nothing is there.
    fn stat_path(&self, path: &Path) -> io::Result<Option<Stat>>;

    /// Reads from the file's beginning, at most the buffer's length.
    ///
    /// # Errors
    /// What the system refuses.
    fn read(&self, file: &Self::File, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at the file's beginning, by one call where the system takes it whole.
    ///
    /// # Errors
    /// What the system refuses, such as a full disk.
    fn write(&self, file: &Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// What the system refuses.
    fn truncate(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Sets the file's mode to 0600.
    ///
    /// # Errors
    /// What the system refuses.
    fn make_private(&self, file: &Self::File) -> io::Result<()>;

    /// Removes the path's name for the file `id`, if that is what the path names. A change of the directories above
    /// does not make it remove a name in another directory.
    ///
    /// # Errors
    /// What the system refuses, except that the path does not name the file.
    fn unlink(&self, path: &Path, id: FileId) -> Result<Unlinked, Failed>;

    /// Whether another user may have put the file there to own the lock: the directory lets everybody or a group create
    /// files, only their owners may remove them (the sticky bit), and `owner` is neither this user, root, nor the
    /// directory's owner. As `fs.protected_regular` of `proc_sys_fs(5)`.
    fn is_planted(&self, path: &Path, owner: u32) -> bool;

    /// Whether something is mounted at the path itself. `false` if the system does not say.
    fn is_mount_point(&self, _: &Path) -> bool {
        false
    }

    /// Whether the file's filesystem belongs to one kernel alone.
    fn fs_kind(&self, file: &Self::File) -> FsKind;

    /// Milliseconds since the Unix epoch.
    fn wall_clock(&self) -> u64;

    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// Sleeps.
    fn pause(&self, duration: Duration);

    /// Whether a process has this pid, by one cheap call. No permission to signal it means yes.
    fn process_exists(&self, pid: u32) -> bool;

    /// What is known of the process with this pid.
    fn process(&self, pid: u32) -> ProcessState;

    /// Who and where this process is.
    fn here(&self) -> &Here;
}

/// How to open an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading alone.
    Read,
    /// For reading and writing, which kernel locks on network filesystems ask for.
    ReadWrite,
}

/// What [`System::open`] found.
#[derive(Debug)]
pub enum Opened<F> {
    /// Something that could be opened; not yet known to be a regular file.
    File(F),
    /// Nothing.
    Missing,
    /// A symbolic link, or something else that cannot be opened as a file.
    NotAFile(FileKind),
    /// A file that another process has a lease on, which it must give up first: `fcntl(2)`, `F_SETLEASE`.
    Leased,
}

/// A system call that failed, where an operation consists of several.
#[derive(Debug)]
pub struct Failed {
    /// Which, by the name that Node.js uses.
    pub syscall: &'static str,
    /// Its error.
    pub source: io::Error,
}

/// What [`System::unlink`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    /// It removed the name.
    Removed,
    /// Nothing was there.
    Missing,
    /// The path names another file.
    Another,
}

/// The two modes of a kernel lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Held by one, and by nobody in shared mode: this is ownership.
    Exclusive,
    /// Held by any number of readers.
    Shared,
}

/// The answer of [`System::try_lock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// We hold it now.
    Taken,
    /// Somebody else does.
    Busy,
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

/// What the protocol wants to know about a file.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Which file it is.
    pub id: FileId,
    /// What it is.
    pub kind: FileKind,
    /// How many names it has; 0 once it was unlinked.
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
    /// Local to this kernel: its kernel locks see every process that can reach the file.
    Local,
    /// Shared with other kernels, or not known.
    Shared,
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// There is none with this pid.
    Dead,
    /// It has ended and waits for its parent; it can run nothing any more.
    Zombie,
    /// It runs, but holds the lock no more: it has become another program (`execve(2)`), or closed the file.
    Replaced,
    /// It runs.
    Alive {
        /// When it started, in the system's own unit counted from boot; `None` if that is hidden.
        start: Option<u64>,
    },
}

/// Who and where this process is, as its record will say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
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
