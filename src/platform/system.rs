//! The operations that the protocol needs of an operating system, few enough to be simulated.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;
use std::time::Duration;

use super::types::{
    Access, Failed, FileId, FsKind, LockMode, Opened, ProcessIdentity, ProcessState, Stat, TryLock, Unlinked,
};

/// The operations on files, processes and clocks that the protocol is written over.
///
/// Dropping a [`System::File`] closes it, which releases its kernel lock.
pub trait System: HeldFiles {
    /// An open file description.
    type File: Send;

    /// Creates the file exclusively, mode 0600 (`O_CREAT | O_EXCL | O_NOFOLLOW`). `None`: the path exists.
    ///
    /// # Errors
    /// The system's errors, except that the path exists.
    fn create(&self, path: &Path) -> io::Result<Option<Self::File>>;

    /// Opens an existing file. Does not follow a symbolic link, and does not block on a FIFO.
    ///
    /// # Errors
    /// The system's errors, except those that [`Opened`] has a case for.
    fn open(&self, path: &Path, access: Access) -> io::Result<Opened<Self::File>>;

    /// Tries the kernel lock, without waiting for it.
    ///
    /// # Errors
    /// The system's errors, except those that [`TryLock`] has a case for.
    fn try_lock(&self, file: &Self::File, mode: LockMode) -> io::Result<TryLock>;

    /// The process that holds the exclusive kernel lock of a file, found without trying that lock. `None`: there is
    /// none, or the system does not report it.
    fn lock_owner(&self, _: FileId) -> Option<u32> {
        None
    }

    /// The processes that hold the shared kernel lock of a file, found without trying that lock. Empty if the system
    /// does not list them.
    fn shared_lock_owners(&self, _: FileId) -> Vec<u32> {
        Vec::new()
    }

    /// Releases the kernel lock in every process that has inherited the file. Closing it does so in this process only.
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

    /// As [`Self::is_open`], by the number of [`Self::descriptor`]: another thread may close the file during the call.
    fn is_open_number(&self, _: i32, _: FileId) -> bool {
        true
    }

    /// Describes the open file.
    ///
    /// # Errors
    /// The system's errors.
    fn stat(&self, file: &Self::File) -> io::Result<Stat>;

    /// Describes the path, without following a symbolic link. `None`: it does not exist.
    ///
    /// # Errors
    /// The system's errors, except that the path does not exist.
    fn stat_path(&self, path: &Path) -> io::Result<Option<Stat>>;

    /// Reads from the file's beginning, at most the buffer's length.
    ///
    /// # Errors
    /// The system's errors; [`io::ErrorKind::ResourceBusy`] if a kernel lock denies it.
    fn read(&self, file: &Self::File, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at the file's beginning, by one call if the system accepts all of it.
    ///
    /// # Errors
    /// The system's errors, such as a full disk.
    fn write(&self, file: &Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Sends what was written from the cache of a network filesystem to its server.
    ///
    /// # Errors
    /// The system's errors of the write.
    fn flush(&self, _: &Self::File) -> io::Result<()> {
        Ok(())
    }

    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// The system's errors.
    fn truncate(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Sets the permission bits of the file. Does nothing on Windows, which has none.
    ///
    /// # Errors
    /// The system's errors.
    fn set_mode(&self, file: &Self::File, mode: u32) -> io::Result<()>;

    /// Writes the content of the file to the disk, then the directory that has its name (`fdatasync(2)`, `fsync(2)`).
    ///
    /// # Errors
    /// The system's errors of the three calls: `fdatasync`, `open` of the directory, `fsync`.
    fn sync(&self, file: &Self::File, path: &Path) -> Result<(), Failed>;

    /// Removes the path's name for the file `id`, if that is what the path names. A change of the directories above
    /// does not make it remove a name in another directory.
    ///
    /// # Errors
    /// The system's errors, except that the path does not name the file.
    fn unlink(&self, path: &Path, id: FileId) -> Result<Unlinked, Failed>;

    /// Whether another user may have put the file there to own the lock: the directory lets all users or a group create
    /// files, only their owners may remove them (the sticky bit), and `owner` is neither this user, root, nor the
    /// directory's owner. As `fs.protected_regular` of `proc_sys_fs(5)`.
    fn is_planted(&self, path: &Path, owner: u32) -> bool;

    /// Whether something is mounted at the path itself. `false` if the system does not report it.
    fn is_mount_point(&self, _: &Path) -> bool {
        false
    }

    /// Whether the file's filesystem belongs to one kernel alone.
    fn fs_kind(&self, file: &Self::File) -> FsKind;

    /// Whether a server has the kernel locks of the file's filesystem, so that they hold for all mounts of this kernel.
    fn has_server_locks(&self, _: &Self::File) -> bool {
        false
    }

    /// Milliseconds since the Unix epoch.
    fn wall_clock(&self) -> u64;

    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// Sleeps.
    fn pause(&self, duration: Duration);

    /// Whether a process has this pid, by one cheap call. No permission to signal it means yes.
    fn process_exists(&self, pid: u32) -> bool;

    /// The state of the process with this pid.
    fn process(&self, pid: u32) -> ProcessState;

    /// The identity of this process.
    fn identity(&self) -> &ProcessIdentity;
}

/// The locks that this process holds.
pub trait HeldFiles {
    /// Whether this process holds the lock of this file.
    fn holds(&self, id: FileId) -> bool;
}
