//! A waiter's place at a lock file: the file, open for reading, and how long its waiter has been waiting.
//!
//! The place is an open file description lock (`fcntl(2)`, `F_OFD_SETLK`) on one byte far behind the record, at
//! the microsecond since boot at which the waiter came. On local filesystems such locks and `flock(2)` do not
//! see each other. The kernel takes the place away however its waiter ends. Nothing depends on these locks but
//! who tries first, so a kernel without them costs fairness alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{self, FlockOperation};
use rustix::time::{ClockId, clock_gettime};

use super::Os;
use crate::error::FileKind;
use crate::protocol;
use crate::record::{RECORD_LEN, Record};
use crate::system::{Access, FileId, FsKind, LockMode, Locking, Opened, Stat, System};

/// The first byte of the queue: no lock file is as long.
const QUEUE: i64 = 1 << 40;

/// When a waiter came; who came first is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(i64);

impl Rank {
    /// The rank of one who comes now: microseconds of a clock that all processes of this kernel share.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self(now.tv_sec * 1_000_000 + now.tv_nsec / 1000)
    }
}

/// A place at a lock file that somebody holds.
#[derive(Debug)]
pub(crate) struct Stake {
    file: OwnedFd,
    seen: Seen,
    pid: Option<u32>,
    rank: Option<Rank>,
}

/// What changes when the lock changes hands.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    id: Option<FileId>,
    /// `unlink(2)` drops the link and sends its event before the name goes: for a moment the path still names
    /// a file without links (`vfs_unlink` in `fs/namei.c`).
    links: u64,
    size: u64,
    modified: u64,
}

impl From<Stat> for Seen {
    fn from(Stat { id, links, size, modified, .. }: Stat) -> Self {
        Self { id: Some(id), links, size, modified }
    }
}

impl Stake {
    /// `None` where there is nothing to wait at: no file, no record in it yet, or no event that would tell of
    /// it, as on a network filesystem.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let os = Os::get();
        let Ok(Opened::File(file)) = os.open(path, Access::Read) else { return None };
        Self { file, seen: Seen::default(), pid: None, rank: None }.seeing(os)
    }

    /// The same place if the path names the same file still, and who holds that now.
    pub(crate) fn renewed(self, path: &Path) -> Option<Self> {
        let os = Os::get();
        match os.stat_path(path) {
            Ok(Some(stat)) if Some(stat.id) == self.seen.id => self.seeing(os),
            _ => Self::open(path),
        }
    }

    fn seeing(self, os: &Os) -> Option<Self> {
        let stat = os.stat(&self.file).ok()?;
        if stat.kind != FileKind::File || stat.links != 1 || os.fs_kind(&self.file) != FsKind::Local {
            return None;
        }
        let mut buffer = [0; RECORD_LEN];
        let length = os.read(&self.file, &mut buffer).ok()?;
        let record = Record::parse(&buffer[..length.min(RECORD_LEN)])?;
        let pid = (!protocol::is_elsewhere(os, &record)).then_some(record.pid);
        Some(Self { seen: stat.into(), pid, ..self })
    }

    /// The holder's process, if it is one of this kernel and pid namespace.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether the path names this file, as it was.
    pub(crate) fn is_current(&self, path: &Path) -> bool {
        Os::get().stat_path(path).is_ok_and(|stat| stat.is_some_and(|stat| Seen::from(stat) == self.seen))
    }

    /// Whether somebody has the kernel lock. Opens and closes nothing, which would be an event for others.
    pub(crate) fn is_locked(&self) -> bool {
        match Os::get().try_lock(&self.file, LockMode::Shared) {
            Ok(Locking::Taken) => {
                let _ = fs::flock(&self.file, FlockOperation::Unlock);
                false
            }
            _ => true,
        }
    }

    /// Takes the place of one who came at `rank`.
    pub(crate) fn queue(&mut self, rank: Rank) {
        if self.rank != Some(rank) {
            let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, QUEUE, 0)));
            let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, QUEUE + rank.0, 1)));
            self.rank = Some(rank);
        }
    }

    /// Whether nobody at this file came before us.
    pub(crate) fn is_first(&self) -> bool {
        self.rank.is_none_or(|Rank(rank)| rank == 0 || !is_queued(&self.file, QUEUE, rank))
    }
}

/// Whether anybody waits at a lock file that we hold.
pub(crate) fn has_waiters(file: &OwnedFd) -> bool {
    // A network's server is not asked: nobody queues there.
    Os::get().fs_kind(file) == FsKind::Local && is_queued(file, QUEUE, 0)
}

/// Whether another open file description has a lock in `length` bytes from `start`; 0 is all of them.
fn is_queued(file: &OwnedFd, start: i64, length: i64) -> bool {
    let mut found = range(libc::F_WRLCK, start, length);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found)).is_ok() && i32::from(found.l_type) != libc::F_UNLCK
}

fn range(kind: i32, start: i64, length: i64) -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "the constants are small, the field is a short")]
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    libc::flock { l_type, l_whence, l_start: start, l_len: length, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"pid":1,"createdAt":1}"#;

    fn file() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), RECORD).expect("written");
        file
    }

    fn stake(path: &Path, rank: i64) -> Stake {
        let mut stake = Stake::open(path).expect("a local file");
        stake.queue(Rank(rank));
        stake
    }

    #[test]
    fn who_came_first_is_first_until_he_goes() {
        let file = file();
        let path = file.path();
        let (second, first) = (stake(path, 8), stake(path, 7));
        assert!(first.is_first() && !second.is_first());
        drop(first);
        assert!(second.is_first());
    }

    #[test]
    fn a_place_changes_with_its_waiter() {
        let file = file();
        let (mut a, b) = (stake(file.path(), 1), stake(file.path(), 2));
        assert!(!b.is_first());
        a.queue(Rank(3));
        assert!(b.is_first() && !a.is_first());
    }

    #[test]
    fn the_holder_sees_whether_anybody_waits_and_is_not_kept_from_its_lock() {
        let file = file();
        let Ok(Opened::File(held)) = Os::get().open(file.path(), Access::ReadWrite) else { panic!("opened") };
        assert!(!has_waiters(&held));
        let waiter = stake(file.path(), 1);
        assert!(has_waiters(&held));
        assert_eq!(Os::get().try_lock(&held, LockMode::Exclusive).ok(), Some(Locking::Taken));
        assert!(waiter.is_locked());
        drop(waiter);
        assert!(!has_waiters(&held));
    }

    #[test]
    fn a_file_that_was_written_replaced_or_removed_is_not_current() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        for change in [(|path| std::fs::write(path, "other").expect("written")) as fn(&Path), |path| {
            std::fs::remove_file(path).expect("removed")
        }] {
            std::fs::write(&path, RECORD).expect("written");
            let stake = Stake::open(&path).expect("a local file");
            assert!(stake.is_current(&path) && !stake.is_locked());
            change(&path);
            assert!(!stake.is_current(&path));
        }
    }
}
