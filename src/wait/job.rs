//! The jobs of the waiters of a path, and their results.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::request::{LastRefusal, WaiterId};
use crate::platform::HolderEvent;

/// The types that the state machine passes on without using them; the simulation has its own.
pub(super) trait Platform {
    /// The call of a waiter, and how to answer it.
    type Call;
    type Arrival: Copy;
    /// A ticket in the queue of all processes.
    type Ticket: Ticket<Self::Arrival>;
    /// The state of a file, for a later comparison.
    type File: Clone;
    /// Events of a file or its holder, until this is dropped.
    type Watch: Watch;
}

/// A watch of a file or its holder.
pub(super) trait Watch {
    /// An event that came while the job that began the watch was still under way.
    fn missed(&self) -> Option<HolderEvent>;
}

/// A ticket in the queue of all processes. No disk blocks its operations.
pub(super) trait Ticket<A> {
    fn take(&mut self, arrival: A);
    fn is_first(&self) -> bool;
    /// How many waiters are ahead, counted up to `most`.
    fn ahead(&self, most: u32) -> u32;
}

/// The queue of all processes.
pub(super) enum Queue<T> {
    /// Not requested yet.
    Unknown,
    /// There is no queue.
    No,
    Ticket(T),
}

/// One call that waits.
pub(super) struct Waiter<P: Platform> {
    pub(super) id: WaiterId,
    pub(super) call: P::Call,
    pub(super) arrival: P::Arrival,
    /// `None`: it has no timeout.
    pub(super) deadline: Option<Instant>,
    /// A lock that its attempt acquires is rolled back.
    pub(super) is_cancelled: bool,
    /// Its deadline has come, and one attempt is left.
    pub(super) is_last: bool,
}

/// A lock file that a process holds.
pub(super) struct Observation<P: Platform> {
    pub(super) file: P::File,
    pub(super) watch: P::Watch,
    /// The process whose end is an event.
    pub(super) process: Option<u32>,
    /// Whether a change of the file is an event.
    pub(super) watches_file: bool,
    /// Whether the kernel lock was held.
    pub(super) was_locked: bool,
}

impl<P: Platform> Observation<P> {
    /// Whether a check can prove that the holder exists. Otherwise an attempt is needed.
    pub(super) fn is_provable(&self) -> bool {
        self.process.is_some() || self.was_locked
    }
}

/// Work for a thread that a disk may block. A path has one job at a time.
pub(super) enum Job<P: Platform> {
    /// Acquire for the first waiter.
    Attempt(Attempt<P>),
    /// Check whether the file is unchanged and its holder exists.
    Recheck { file: P::File, watches_process: bool },
    /// Check whether a process holds the file at the path again.
    Observe,
}

pub(super) struct Attempt<P: Platform> {
    pub(super) id: WaiterId,
    pub(super) arrival: P::Arrival,
    pub(super) queue: Queue<P::Ticket>,
    /// There is time to let earlier waiters attempt first.
    pub(super) has_time: bool,
    /// Earlier waiters have had that time.
    pub(super) has_waited: bool,
    /// The process that ended last: it sends no more events.
    pub(super) ended: Option<u32>,
}

/// The result of a job.
pub(super) enum Done<P: Platform> {
    Attempted { queue: Queue<P::Ticket>, outcome: Outcome<P> },
    Rechecked { is_same: bool },
    Observed(Observed<P>),
}

pub(super) enum Outcome<P: Platform> {
    /// The waiter was answered.
    Over,
    /// Earlier waiters attempt first.
    Queued,
    Refused(LastRefusal, Observed<P>),
}

/// The state of the path.
pub(super) enum Observed<P: Platform> {
    Held(Observation<P>),
    /// It changed while it was observed.
    Changed,
    /// The holder's process has ended.
    Ended(u32),
    /// No file or process sends events or can be checked.
    Nothing,
}

/// The time, and the number of paths.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) time: Instant,
    /// The moment from which intervals are counted, so that all paths wake their thread together.
    pub(super) epoch: Instant,
    /// How many paths there are.
    pub(super) paths: usize,
}
