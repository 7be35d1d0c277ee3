//! Files and processes as every Unix has them: `open(2)`, `flock(2)`, `fstat(2)`, `kill(2)`.
#![forbid(unsafe_code)]

pub(super) mod process;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::system::System;
use super::types::{
    Access, Failed, FileId, FileKind, FsKind, LockMode, Opened, ProcessIdentity, ProcessState, Stat, TryLock,
    Unlinked,
};
use super::{clock, own};

/// The real system, with the constants of this process.
#[derive(Debug)]
pub(crate) struct Os {
    identity: ProcessIdentity,
    start: Instant,
}

impl Os {
    /// The `Os` of this process.
    pub(crate) fn get() -> &'static Self {
        static OS: LazyLock<Os> = LazyLock::new(|| Os { identity: own::identity(), start: Instant::now() });
        &OS
    }
}

/// Repeats a call that a signal interrupted; the bound prevents an endless loop on a faulty system.
pub(super) fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    const MAX: u32 = 1000;
    for _ in 0..MAX {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::INTR)
}

/// Whether a call failed because descriptors or memory have run out, which may pass.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

impl System for Os {
    type File = OwnedFd;

    fn create(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match retried(|| fs::openat(CWD, path, flags, PRIVATE)) {
            Ok(file) => Ok(Some(above_streams(file))),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Opened<OwnedFd>> {
        let access = match access {
            Access::Read => OFlags::RDONLY | own::NO_TRACE,
            Access::ReadWrite => OFlags::RDWR,
        };
        // O_NONBLOCK: opening a FIFO for reading waits for a writer otherwise.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let error = match retried(|| opened(path, flags)) {
            Ok(file) => return Ok(Opened::File(above_streams(file))),
            Err(Errno::NOENT) => return Ok(Opened::Missing),
            // Of a regular file, `O_NONBLOCK` means a lease: open(2).
            Err(Errno::WOULDBLOCK) => return Ok(Opened::Leased),
            Err(error) => error,
        };
        // ELOOP, EISDIR and ENXIO (a socket) do not show the kind of the file; `lstat` does.
        match fs::lstat(path).map(|stat| kind(stat.st_mode)) {
            Ok(FileKind::File) | Err(_) => Err(error.into()),
            Ok(kind) => Ok(Opened::NotAFile(kind)),
        }
    }

    fn try_lock(&self, file: &OwnedFd, mode: LockMode) -> io::Result<TryLock> {
        let operation = match mode {
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
        };
        match retried(|| fs::flock(file, operation)) {
            Ok(()) => Ok(TryLock::Acquired),
            Err(Errno::WOULDBLOCK) => Ok(TryLock::WouldBlock),
            Err(Errno::ACCESS) if own::is_smb(file) => Ok(TryLock::WouldBlock),
            // EINVAL and ENOSYS: FUSE and old network filesystems without that operation.
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(TryLock::Unsupported),
            // On macOS it is not EOPNOTSUPP, and the error of a network volume without locks.
            Err(error) if error == Errno::NOTSUP => Ok(TryLock::Unsupported),
            Err(error) => Err(error.into()),
        }
    }

    fn lock_owner(&self, id: FileId) -> Option<u32> {
        own::lock_owner(id)
    }

    fn shared_lock_owners(&self, id: FileId) -> Vec<u32> {
        own::shared_lock_owners(id)
    }

    fn unlock(&self, file: &OwnedFd) {
        let _ = retried(|| fs::flock(file, FlockOperation::Unlock));
    }

    fn descriptor(&self, file: &OwnedFd) -> Option<i32> {
        Some(file.as_raw_fd())
    }

    fn is_open(&self, file: &OwnedFd, id: FileId) -> bool {
        self.is_open_number(file.as_raw_fd(), id)
    }

    fn is_open_number(&self, number: i32, id: FileId) -> bool {
        match own::stat_number(number) {
            Ok(stat) => described(&stat).id == id,
            Err(error) => error != Errno::BADF,
        }
    }

    fn stat(&self, file: &OwnedFd) -> io::Result<Stat> {
        Ok(described(&fs::fstat(file)?))
    }

    fn stat_path(&self, path: &Path) -> io::Result<Option<Stat>> {
        match fs::lstat(path) {
            Ok(stat) => Ok(Some(described(&stat))),
            // ENOTDIR: the directory of the path is another kind of file now.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, file: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while length < buffer.len() {
            let at = length as u64;
            match retried(|| rustix::io::pread(file, &mut buffer[length..], at)) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(Errno::ACCESS) if own::is_smb(file) => return Err(Errno::BUSY.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(length)
    }

    fn write(&self, file: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            // A full disk may accept a part. The write of the remaining bytes returns the reason.
            match retried(|| rustix::io::pwrite(file, &bytes[written..], written as u64))? {
                0 => return Err(Errno::IO.into()),
                more => written += more,
            }
        }
        Ok(())
    }

    fn flush(&self, file: &OwnedFd) -> io::Result<()> {
        match retried(|| fs::fsync(file)) {
            // The filesystem has no such operation.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn truncate(&self, file: &OwnedFd, length: u64) -> io::Result<()> {
        Ok(retried(|| fs::ftruncate(file, length))?)
    }

    fn set_mode(&self, file: &OwnedFd, mode: u32) -> io::Result<()> {
        // The type of the bits has 16 of them on macOS.
        let bits = RawMode::try_from(mode).unwrap_or(RawMode::MAX);
        Ok(retried(|| fs::fchmod(file, Mode::from_bits_truncate(bits)))?)
    }

    fn sync(&self, file: &OwnedFd, path: &Path) -> Result<(), Failed> {
        retried(|| own::sync_data(file)).map_err(failed("fdatasync"))?;
        let directory = path.parent().unwrap_or(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            retried(|| fs::openat(CWD, directory, flags, Mode::empty())).map_err(failed("open"))?;
        retried(|| own::sync_directory(&directory)).map_err(failed("fsync"))
    }

    fn unlink(&self, path: &Path, id: FileId) -> Result<Unlinked, Failed> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Unlinked::Missing);
        };
        let flags = own::DIRECTORY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retried(|| fs::openat(CWD, directory, flags, Mode::empty())) {
            Ok(directory) => unlinked(&directory, Path::new(name), id),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Unlinked::Missing),
            // A release must not fail because descriptors have run out.
            Err(_) => unlinked(CWD, path, id),
        }
    }

    fn is_mount_point(&self, path: &Path) -> bool {
        own::is_mount_point(path)
    }

    fn is_planted(&self, path: &Path, owner: u32) -> bool {
        /// Stands for each user that a user namespace does not map: `overflowuid` of `proc_sys_kernel(5)`.
        const OVERFLOW: u32 = 65_534;
        if owner == 0 || owner == rustix::process::geteuid().as_raw() {
            return false;
        }
        let directory = path.parent().and_then(|directory| fs::stat(directory).ok());
        directory.is_none_or(|directory| {
            let mode = Mode::from_raw_mode(directory.st_mode);
            mode.contains(Mode::SVTX)
                && mode.intersects(Mode::from_raw_mode(0o022))
                && (owner != directory.st_uid || owner == OVERFLOW)
        })
    }

    fn fs_kind(&self, file: &OwnedFd) -> FsKind {
        if own::is_local(file) { FsKind::Local } else { FsKind::Shared }
    }

    #[cfg(target_os = "linux")]
    fn has_server_locks(&self, file: &OwnedFd) -> bool {
        own::has_server_locks(file)
    }

    fn wall_clock(&self) -> u64 {
        clock::wall_clock()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn pause(&self, duration: Duration) {
        thread::sleep(duration);
    }

    fn process_exists(&self, pid: u32) -> bool {
        process::process_exists(pid)
    }

    fn process(&self, pid: u32) -> ProcessState {
        match own::state(pid) {
            // A process without a start time of its own reads none that others know.
            ProcessState::Alive { .. } if self.identity.start.is_none() => {
                ProcessState::Alive { start: None }
            }
            state => state,
        }
    }

    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }
}

fn failed(syscall: &'static str) -> impl FnOnce(Errno) -> Failed {
    move |error| Failed { syscall, source: error.into() }
}

fn unlinked(directory: impl AsFd, name: &Path, id: FileId) -> Result<Unlinked, Failed> {
    match fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if described(&stat).id != id => return Ok(Unlinked::Another),
        Ok(_) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Unlinked::Missing),
        Err(error) => return Err(failed("lstat")(error)),
    }
    match fs::unlinkat(&directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(Unlinked::Missing),
        outcome => outcome.map(|()| Unlinked::Removed).map_err(failed("unlink")),
    }
}

/// The file by a number above those of the standard streams, if there is one. A program that has closed a stream can still
/// write to its number, and a child inherits it.
fn above_streams(file: OwnedFd) -> OwnedFd {
    const STREAMS: i32 = 3;
    if file.as_raw_fd() >= STREAMS {
        return file;
    }
    rustix::io::fcntl_dupfd_cloexec(&file, STREAMS).unwrap_or(file)
}

/// Opens an existing file. Only its owner may open it without an access time, so others open it with one.
fn opened(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::PERM) if flags.intersects(own::NO_TRACE) => {
            fs::openat(CWD, path, flags.difference(own::NO_TRACE), Mode::empty())
        }
        outcome => outcome,
    }
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "widths differ by system"
)]
fn described(stat: &fs::Stat) -> Stat {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let millis = u64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0);
    Stat {
        id: FileId { device: device(stat.st_dev), inode: u128::from(stat.st_ino) },
        kind: kind(stat.st_mode),
        links: u64::from(stat.st_nlink),
        owner: stat.st_uid,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: u32::from(stat.st_mode) & 0o7777,
        modified: seconds.saturating_mul(1000).saturating_add(millis),
    }
}

/// Its sign has no meaning.
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "macOS has a signed word of 32 bits")]
fn device(number: fs::Dev) -> u64 {
    number as u64
}

fn kind(mode: RawMode) -> FileKind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice => FileKind::Device,
        FileType::Unknown => FileKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_is_a_zombie_until_it_is_waited_for() {
        let os = Os::get();
        let mut child = std::process::Command::new("true").spawn().expect("true runs");
        while os.process(child.id()) != ProcessState::Zombie {
            thread::yield_now();
        }
        assert!(os.process_exists(child.id()), "kill still finds a zombie");
        child.wait().expect("waited for");
        assert_eq!(os.process(child.id()), ProcessState::Dead);
    }

    /// The kernel makes the text of a file in `/proc` a page at a time.
    #[test]
    #[cfg(target_os = "linux")]
    fn short_reads_are_continued() {
        let file = OwnedFd::from(std::fs::File::open("/proc/self/smaps").expect("opened"));
        let mut buffer = [0; 1 << 14];
        let short = rustix::io::pread(&file, &mut buffer, 0).expect("read");
        assert!(short < buffer.len() && Os::get().read(&file, &mut buffer).expect("read") > short);
    }

    #[test]
    fn a_file_in_an_unknown_directory_is_planted() {
        let (os, me) = (Os::get(), rustix::process::geteuid().as_raw());
        let is_planted = |owner| os.is_planted(Path::new("/proc/none/l"), owner);
        assert!(is_planted(me + 1) && !is_planted(me) && !is_planted(0));
    }
}
