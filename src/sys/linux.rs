//! Linux, by system calls alone: `open(2)`, `flock(2)`, `statfs(2)`, `kill(2)`, `proc(5)`; for waiting,
//! `fcntl(2)`, `inotify(7)`, `pidfd_open(2)`, `eventfd(2)` and `poll(2)`.

mod process;
mod queue;
mod stake;
mod watch;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{self, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub(crate) use self::queue::{Place, Rank};
pub(crate) use self::stake::Stake;
pub(crate) use self::watch::{Bell, Signal, Signals, Watch, Watched, Watcher};
use crate::error::FileKind;
use crate::system::{Access, FileId, FsKind, Here, LockMode, Locking, Opened, ProcessState, Stat, System};

/// The real system, with what does not change while this process lives.
#[derive(Debug)]
pub(crate) struct Os {
    here: Here,
    start: Instant,
}

impl Os {
    /// The one of this process.
    pub(crate) fn get() -> &'static Self {
        static OS: LazyLock<Os> = LazyLock::new(|| Os { here: process::here(), start: Instant::now() });
        &OS
    }
}

/// Repeats a call that a signal interrupted; a bound keeps a system that is ill from hanging us.
fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    const MOST: u32 = 1000;
    for _ in 0..MOST {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::INTR)
}

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

impl System for Os {
    type File = OwnedFd;

    fn create(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match retried(|| fs::openat(CWD, path, flags, PRIVATE)) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Opened<OwnedFd>> {
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        // O_NONBLOCK: opening a FIFO for reading waits for a writer otherwise.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let error = match retried(|| fs::openat(CWD, path, flags, Mode::empty())) {
            Ok(file) => return Ok(Opened::File(file)),
            Err(Errno::NOENT) => return Ok(Opened::Missing),
            Err(error) => error,
        };
        // ELOOP, EISDIR and ENXIO (a socket) say what stands there only together with a look at it.
        match fs::lstat(path).map(|stat| kind(stat.st_mode)) {
            Ok(FileKind::File) | Err(_) => Err(error.into()),
            Ok(kind) => Ok(Opened::NotAFile(kind)),
        }
    }

    fn try_lock(&self, file: &OwnedFd, mode: LockMode) -> io::Result<Locking> {
        let operation = match mode {
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
        };
        match retried(|| fs::flock(file, operation)) {
            Ok(()) => Ok(Locking::Taken),
            Err(Errno::WOULDBLOCK) => Ok(Locking::Busy),
            // EINVAL and ENOSYS: FUSE and old network filesystems that know no such operation.
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(Locking::Unsupported),
            Err(error) => Err(error.into()),
        }
    }

    fn stat(&self, file: &OwnedFd) -> io::Result<Stat> {
        Ok(described(&fs::fstat(file)?))
    }

    fn stat_path(&self, path: &Path) -> io::Result<Option<Stat>> {
        match fs::lstat(path) {
            Ok(stat) => Ok(Some(described(&stat))),
            // ENOTDIR: what was its directory is something else now.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, file: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while length < buffer.len() {
            let at = length as u64;
            match retried(|| rustix::io::pread(file, &mut buffer[length..], at))? {
                0 => break,
                more => length += more,
            }
        }
        Ok(length)
    }

    fn write(&self, file: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            // A full disk may take a part; asking for the rest brings the reason out.
            match retried(|| rustix::io::pwrite(file, &bytes[written..], written as u64))? {
                0 => return Err(Errno::IO.into()),
                more => written += more,
            }
        }
        Ok(())
    }

    fn truncate(&self, file: &OwnedFd, length: u64) -> io::Result<()> {
        Ok(retried(|| fs::ftruncate(file, length))?)
    }

    fn make_private(&self, file: &OwnedFd) -> io::Result<()> {
        Ok(retried(|| fs::fchmod(file, PRIVATE))?)
    }

    fn unlink(&self, path: &Path) -> io::Result<bool> {
        match std::fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn fs_kind(&self, file: &OwnedFd) -> FsKind {
        // `f_type` is a signed word: its width and sign differ by architecture, its low 32 bits do not.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the magic number is 32 bits"
        )]
        match fs::fstatfs(file) {
            Ok(stat) if is_local(stat.f_type as u32) => FsKind::Local,
            _ => FsKind::Shared,
        }
    }

    fn wall_clock(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn pause(&self, duration: Duration) {
        thread::sleep(duration);
    }

    fn process_exists(&self, pid: u32) -> bool {
        process::exists(pid)
    }

    fn process(&self, pid: u32) -> ProcessState {
        process::state(pid)
    }

    fn here(&self) -> &Here {
        &self.here
    }
}

fn described(stat: &fs::Stat) -> Stat {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let modified = seconds.saturating_mul(1000).saturating_add(stat.st_mtime_nsec / 1_000_000);
    Stat {
        id: FileId { device: stat.st_dev, inode: stat.st_ino },
        kind: kind(stat.st_mode),
        links: stat.st_nlink,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        modified,
    }
}

fn kind(mode: u32) -> FileKind {
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

/// Filesystems that one kernel alone has mounted, by `f_type` of `statfs(2)` (`linux/magic.h` and the
/// filesystems' own headers). FUSE and 9p can be anything, so they are not here.
fn is_local(magic: u32) -> bool {
    const LOCAL: [u32; 17] = [
        0xEF53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683E, // btrfs
        0x0102_1994, // tmpfs
        0x8584_58F6, // ramfs
        0x794C_7630, // overlayfs
        0xF2F5_2010, // f2fs
        0x2FC1_2FC1, // zfs
        0xCA45_1A4E, // bcachefs
        0x7366_746E, // ntfs3
        0x5346_544E, // ntfs
        0x2011_BAB0, // exfat
        0x4D44,      // vfat
        0x3153_464A, // jfs
        0x5265_4973, // reiserfs
        0x3434,      // nilfs2
        0xE0F5_E1E2, // erofs
    ];
    LOCAL.contains(&magic)
}
