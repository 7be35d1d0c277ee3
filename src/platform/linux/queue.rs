//! The queue of the waiters for a lock, in all processes of this kernel.
//!
//! A waiter in it has an open file description lock (`fcntl(2)`, `F_OFD_SETLK`) of one byte of the lock file's
//! *directory*, which stays while the files in it come and go. The offset of the byte stands for the file's name and
//! the arrival of the waiter. Other programs do not lock bytes of a directory, and the kernel unlocks the byte when its
//! waiter ends. The queue decides only which waiter attempts first: without it, waiting is less fair.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::time::{ClockId, clock_gettime};

use super::calls::{find_lock, lock_bytes, unlock_bytes};
use super::filesystem::is_local;

/// How many bytes each name has: two for each 32 us, which is enough for 50 days. After that arrivals begin at 0 again,
/// and later waiters come before a process that waits at that moment.
const LANE: i64 = 1 << 38;

/// The bits that distinguish names: few enough for the last lane to end within the range of the system call.
const NAME_BITS: u32 = 24;

/// How many waiters that were passed over are remembered.
const MAX_PASSED: usize = 64;

/// The arrival of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival(i64);

impl Arrival {
    /// The current moment, by a clock that all processes of this kernel share. It is even, the first of its two bytes.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self((now.tv_sec * 1_000_000 + now.tv_nsec / 1000) >> 5 << 1 & (LANE - 1))
    }
}

/// A ticket in the queue. It is in the queue from [`Self::take`] to [`Self::leave`].
#[derive(Debug)]
pub(crate) struct QueueTicket {
    directory: OwnedFd,
    lane: i64,
    arrival: Option<Arrival>,
    /// 0 or 1, added to the arrival: a byte that changes shows that its waiter is not stopped.
    parity: i64,
    path: PathBuf,
    /// The bytes of waiters that were passed over, because they did not move.
    passed: Vec<i64>,
}

/// The bytes of the waiters that this process has passed over, by the path of the lock.
static PASSED_OVER: Mutex<Vec<(PathBuf, i64)>> = Mutex::new(Vec::new());

fn passed_over() -> MutexGuard<'static, Vec<(PathBuf, i64)>> {
    PASSED_OVER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn passed_at(passed: &[(PathBuf, i64)], path: &Path) -> Vec<i64> {
    passed.iter().filter(|(known, _)| known == path).map(|(_, byte)| *byte).collect()
}

impl QueueTicket {
    /// A ticket for the lock at `path`, which is not in the queue yet. `None`: no queue is possible.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path.parent()?, flags, Mode::empty()).ok()?;
        // A network filesystem would send each lock to its server.
        let is_local = is_local(&directory);
        let lane = lane(path.file_name()?.as_encoded_bytes()) * LANE;
        let passed = passed_at(&passed_over(), path);
        let path = path.to_owned();
        is_local.then_some(Self { directory, lane, arrival: None, parity: 0, path, passed })
    }

    /// Puts a waiter with this arrival into the queue.
    pub(crate) fn take(&mut self, arrival: Arrival) {
        if self.arrival != Some(arrival) {
            self.leave();
            self.lock(arrival);
        }
    }

    fn lock(&mut self, arrival: Arrival) {
        lock_bytes(&self.directory, self.lane + arrival.0 + self.parity, 1);
        self.arrival = Some(arrival);
    }

    /// Moves to the other byte of the arrival, which shows other waiters that this one is not stopped.
    pub(crate) fn move_on(&mut self) {
        if let Some(arrival) = self.arrival {
            let before = self.lane + arrival.0 + self.parity;
            self.parity ^= 1;
            self.lock(arrival);
            // Not earlier, because it would leave the queue for a moment.
            unlock_bytes(&self.directory, before, 1);
        }
    }

    /// Leaves the queue, so that later waiters attempt.
    pub(crate) fn leave(&mut self) {
        if self.arrival.take().is_some() {
            unlock_bytes(&self.directory, self.lane, LANE);
        }
    }

    /// Whether no earlier waiter is in the queue, except those that were passed over.
    pub(crate) fn is_first(&self) -> bool {
        self.arrival.is_none_or(|Arrival(mine)| self.other_in(0, mine).is_none())
    }

    /// How many earlier waiters are in the queue, except those that were passed over, counted up to `most`.
    pub(crate) fn ahead(&self, most: u32) -> u32 {
        self.arrival.map_or(0, |Arrival(mine)| self.count(0, mine, most))
    }

    fn count(&self, start: i64, end: i64, most: u32) -> u32 {
        // The kernel finds one of them, not the first.
        let Some(found) = self.locked_byte(start, end).filter(|_| most > 0) else { return 0 };
        let arrival = found & !1;
        let counted = u32::from(!self.passed.contains(&found));
        let counted = counted + self.count(start, arrival, most - counted);
        counted + self.count(arrival + 2, end, most - counted)
    }

    /// Whether another waiter is in the queue, except those that were passed over.
    pub(crate) fn has_others(&self) -> bool {
        self.other_in(0, LANE).is_some()
    }

    /// Passes over an earlier waiter until it moves.
    pub(crate) fn pass_over(&mut self) {
        let Some(other) = self.arrival.and_then(|Arrival(mine)| self.other_in(0, mine)) else { return };
        let mut passed = passed_over();
        if passed.len() >= MAX_PASSED {
            passed.remove(0);
        }
        passed.push((self.path.clone(), other));
        self.passed = passed_at(&passed, &self.path);
    }

    /// The byte of another waiter in this range, except those that were passed over.
    fn other_in(&self, start: i64, end: i64) -> Option<i64> {
        let found = self.locked_byte(start, end)?;
        if !self.passed.contains(&found) {
            return Some(found);
        }
        self.other_in(start, found).or_else(|| self.other_in(found + 1, end))
    }

    /// The byte that another waiter has locked in this range.
    fn locked_byte(&self, start: i64, end: i64) -> Option<i64> {
        // A length of 0 means all that follows.
        if start >= end {
            return None;
        }
        let (found, length) = find_lock(&self.directory, self.lane + start, end - start)?;
        let found = found - self.lane;
        // A waiter has locked one byte, and two while it moves, of which the first is even. A process that may read the
        // directory can lock other ranges, also one that begins before `start`.
        let is_waiter = length == 1 || (length == 2 && found & 1 == 0);
        (is_waiter && found >= start).then_some(found)
    }
}

/// FNV-1a, folded: all processes must agree. Names that share a lane share a queue.
fn lane(name: &[u8]) -> i64 {
    let hash =
        name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    i64::from((hash >> NAME_BITS ^ hash) & ((1 << NAME_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::map::Set;

    fn ticket(path: &Path, arrival: i64) -> QueueTicket {
        let mut ticket = QueueTicket::at(path).expect("a local directory");
        ticket.take(Arrival(arrival));
        ticket
    }

    fn is_first(ticket: &QueueTicket) -> bool {
        ticket.ahead(1) == 0
    }

    #[test]
    fn ahead_counts_earlier_waiters_up_to_a_limit() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let mut tickets = [12, 20, 2, 8, 16, 4, 6].map(|arrival| ticket(&path, arrival));
        let ahead = |tickets: &[QueueTicket], most| {
            tickets.iter().map(|ticket| ticket.ahead(most)).collect::<Vec<_>>()
        };
        assert_eq!(ahead(&tickets, 9), [4, 6, 0, 3, 5, 1, 2]);
        assert_eq!(ahead(&tickets, 3), [3, 3, 0, 3, 3, 1, 2]);
        // A waiter that moves counts once.
        tickets[5].parity ^= 1;
        tickets[5].lock(Arrival(4));
        assert_eq!(ahead(&tickets, 9), [4, 6, 0, 3, 5, 1, 2]);
        tickets[0].pass_over();
        assert_eq!(tickets[0].ahead(9), 3);
    }

    #[test]
    fn first_arrival_is_first_until_it_leaves() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let (second, first) = (ticket(&path, 8), ticket(&path, 7));
        assert!(is_first(&first) && !is_first(&second));
        drop(first);
        assert!(is_first(&second));
    }

    #[test]
    fn an_arrival_is_the_first_of_two_bytes() {
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_millis(1) {
            assert_eq!(Arrival::now().0 & 1, 0);
        }
    }

    #[test]
    fn a_ticket_can_change_its_arrival() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let (mut a, b) = (ticket(&path, 1), ticket(&path, 2));
        assert!(!is_first(&b));
        a.take(Arrival(3));
        assert!(is_first(&b) && !is_first(&a));
        a.move_on();
        a.leave();
        assert!(!b.has_others());
    }

    #[test]
    fn a_stopped_waiter_is_passed_over_until_it_moves() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let (mut stopped, mut other) = (ticket(&path, 2), ticket(&path, 4));
        assert!(!is_first(&other));
        other.pass_over();
        assert!(is_first(&other) && !other.has_others());
        let newcomer = QueueTicket::at(&path).expect("a local directory");
        assert!(newcomer.has_others(), "the other one waits");
        other.leave();
        assert!(!newcomer.has_others(), "the whole process passes it over");
        let mut next = ticket(&path, 6);
        let before_it = ticket(&path, 0);
        assert!(!is_first(&next), "an earlier waiter comes first");
        drop(before_it);
        assert!(is_first(&next));
        stopped.move_on();
        assert!(!is_first(&next) && newcomer.has_others());
        next.pass_over();
        next.leave();
        let newcomer = QueueTicket::at(&path).expect("a local directory");
        assert!(!newcomer.has_others(), "the byte to which it has moved is passed over");
    }

    #[test]
    fn each_stopped_waiter_is_passed_over_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let mut stopped = [4, 2, 6].map(|arrival| ticket(&path, arrival));
        let mut other = ticket(&path, 8);
        for _ in &stopped {
            assert!(!is_first(&other) && !other.is_first());
            other.pass_over();
        }
        assert!(is_first(&other) && other.is_first() && !other.has_others());
        other.leave();
        let newcomer = QueueTicket::at(&path).expect("a local directory");
        assert!(!newcomer.has_others(), "the whole process passes them over");
        stopped[1].move_on();
        assert!(newcomer.has_others());
    }

    #[test]
    fn a_lock_on_the_whole_directory_delays_no_waiter() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let reader = std::fs::File::open(directory.path()).expect("opened");
        lock_bytes(&reader, 0, 0);
        let ticket = ticket(&path, 8);
        assert_eq!(find_lock(&ticket.directory, 0, 0), Some((0, 0)), "locked");
        assert!(is_first(&ticket) && !ticket.has_others());
    }

    #[test]
    fn a_lock_across_two_waiters_delays_no_waiter() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let mut ticket = ticket(&path, 8);
        let reader = std::fs::File::open(directory.path()).expect("opened");
        for length in [2, 4] {
            lock_bytes(&reader, ticket.lane + 1, length);
            assert_eq!(ticket.ahead(16), 0, "{length} bytes");
            assert!(is_first(&ticket) && !ticket.has_others(), "{length} bytes");
        }
        ticket.passed = vec![1];
        assert_eq!(ticket.ahead(16), 0);
        assert!(is_first(&ticket) && !ticket.has_others());
        ticket.pass_over();
        assert_eq!(ticket.passed, [1], "there is no waiter to pass over");
    }

    #[test]
    fn lock_names_of_one_directory_have_different_lanes() {
        let lanes: Set<i64> = (0..450).map(|name| lane(format!("invoice-{name}.lock").as_bytes())).collect();
        assert_eq!(lanes.len(), 450);
    }

    #[test]
    fn each_lock_of_a_directory_has_its_own_queue() {
        let directory = tempfile::tempdir().expect("a directory");
        let (a, b) = (ticket(&directory.path().join("a"), 1), ticket(&directory.path().join("b"), 2));
        assert!(is_first(&b) && !b.has_others() && !a.has_others());
    }

    #[test]
    fn has_others_reports_waiters() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let newcomer = QueueTicket::at(&path).expect("a local directory");
        assert!(!newcomer.has_others());
        let waiter = ticket(&path, Arrival::now().0);
        assert!(newcomer.has_others() && !waiter.has_others());
    }

    #[test]
    fn the_kernel_has_the_whole_offset_of_a_waiter() {
        let directory = tempfile::tempdir().expect("a directory");
        let ticket = ticket(&directory.path().join("l"), 8);
        let start = ticket.lane + 8;
        let inode = std::fs::metadata(directory.path()).expect("its inode").ino();
        let expected = format!(":{inode} {start} {start}");
        // A line can be missed between the reads of two parts, while other processes lock files.
        let is_listed = (0..20).any(|_| {
            let locks = std::fs::read_to_string("/proc/locks").expect("read");
            locks.contains(&expected)
        });
        assert!(start > i64::from(u32::MAX) && is_listed, "{expected} is not in /proc/locks");
    }

    #[test]
    fn the_lane_of_a_name_is_fixed() {
        assert_eq!(lane(b""), 0x1c_9dc5 ^ 0x81);
        assert_eq!(lane(b"a"), 0x0c_292c ^ 0xe4, "FNV-1a of a is e40c292c");
        const { assert!((1 << NAME_BITS) <= i64::MAX / LANE, "the last lane ends within the range") };
    }
}
