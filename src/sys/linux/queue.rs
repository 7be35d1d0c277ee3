//! The queue of those who wait for a lock, in all processes of this kernel.
//!
//! A place in it is an open file description lock (`fcntl(2)`, `F_OFD_SETLK`) of one byte of the lock file's
//! *directory*, which stays while the files in it come and go. The byte tells the file's name and when its
//! waiter came. Nobody else locks bytes of a directory, and the kernel takes a place away however its waiter
//! ends. Only who tries first depends on the queue, so a system that refuses it costs fairness alone.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::time::{ClockId, clock_gettime};

use crate::sys::Os;
use crate::system::{FsKind, System};

/// As many bytes for each name: 16 us a byte, enough for 35 years since boot.
const LANE: i64 = 1 << 46;

/// When a waiter came; who came first is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(i64);

impl Rank {
    /// The rank of one who comes now, by a clock that all processes of this kernel share.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self((now.tv_sec * 1_000_000 + now.tv_nsec / 1000) >> 4)
    }
}

/// A waiter's place.
#[derive(Debug)]
pub(crate) struct Place {
    directory: OwnedFd,
    lane: i64,
    rank: Option<Rank>,
}

impl Place {
    /// A place for those who wait for the lock at `path`, not taken yet. `None`: no queue is possible.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path.parent()?, flags, Mode::empty()).ok()?;
        // A network's server is not asked for locks.
        let is_local = Os::get().fs_kind(&directory) == FsKind::Local;
        let lane = i64::from(lane(path.file_name()?.as_encoded_bytes())) * LANE;
        is_local.then_some(Self { directory, lane, rank: None })
    }

    /// Takes the place of one who came at `rank`.
    pub(crate) fn take(&mut self, rank: Rank) {
        if self.rank != Some(rank) {
            self.leave();
            let place = range(libc::F_RDLCK, self.lane + rank.0, 1);
            let _ = fcntl(&self.directory, FcntlArg::F_OFD_SETLK(&place));
            self.rank = Some(rank);
        }
    }

    /// Lets those who came later try.
    pub(crate) fn leave(&mut self) {
        if self.rank.take().is_some() {
            let _ = fcntl(&self.directory, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, self.lane, LANE)));
        }
    }

    /// Whether nobody came before us.
    pub(crate) fn is_first(&self) -> bool {
        self.rank.is_none_or(|Rank(rank)| rank == 0 || !self.is_taken(rank))
    }

    /// Whether anybody else waits.
    pub(crate) fn has_others(&self) -> bool {
        self.is_taken(LANE)
    }

    /// Whether somebody else has one of the first places.
    fn is_taken(&self, length: i64) -> bool {
        let mut found = range(libc::F_WRLCK, self.lane, length);
        fcntl(&self.directory, FcntlArg::F_OFD_GETLK(&mut found)).is_ok()
            && i32::from(found.l_type) != libc::F_UNLCK
    }
}

fn range(kind: i32, start: i64, length: i64) -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "the constants are small, the field is a short")]
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    libc::flock { l_type, l_whence, l_start: start, l_len: length, l_pid: 0 }
}

/// FNV-1a, folded to 16 bits: all processes must agree. Names that share a lane wait for each other's turns.
fn lane(name: &[u8]) -> u16 {
    let hash =
        name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    #[expect(clippy::cast_possible_truncation, reason = "folded on purpose")]
    let folded = ((hash >> 16) ^ hash) as u16;
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &Path, rank: i64) -> Place {
        let mut place = Place::at(path).expect("a local directory");
        place.take(Rank(rank));
        place
    }

    #[test]
    fn who_came_first_is_first_until_he_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let (second, first) = (place(&path, 8), place(&path, 7));
        assert!(first.is_first() && !second.is_first());
        drop(first);
        assert!(second.is_first());
    }

    #[test]
    fn a_place_changes_with_its_waiter() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let (mut a, b) = (place(&path, 1), place(&path, 2));
        assert!(!b.is_first());
        a.take(Rank(3));
        assert!(b.is_first() && !a.is_first());
        a.leave();
        assert!(!b.has_others());
    }

    #[test]
    fn another_lock_of_the_directory_has_a_queue_of_its_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let (a, b) = (place(&directory.path().join("a"), 1), place(&directory.path().join("b"), 2));
        assert!(b.is_first() && !b.has_others() && !a.has_others());
    }

    #[test]
    fn a_newcomer_sees_whether_anybody_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let newcomer = Place::at(&path).expect("a local directory");
        assert!(!newcomer.has_others());
        let waiter = place(&path, Rank::now().0);
        assert!(newcomer.has_others() && !waiter.has_others());
    }

    #[test]
    fn the_lane_of_a_name_is_the_same_in_every_version() {
        assert_eq!(lane(b""), 0x811c ^ 0x9dc5);
        assert_eq!(lane(b"a"), 0xe40c ^ 0x292c, "FNV-1a of a is e40c292c");
    }
}
