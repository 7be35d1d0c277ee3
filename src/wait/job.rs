//! The jobs that the waiters of a path ask for, and what comes back.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::request::{Refused, WaiterId};
use crate::platform::Ahead;

/// What the machine passes on without a look inside; the simulation has its own.
pub(super) trait Platform {
    /// What a waiter wants, and how to answer it.
    type Request;
    type Arrival: Copy;
    /// A place in the queue of all processes.
    type Ticket: Ticket<Self::Arrival>;
    /// What to compare a file with later.
    type File: Clone;
    /// Events of a file or its holder, until this is dropped.
    type Watch;
}

/// A place in the queue of all processes. Its operations are short, whatever the disk does.
pub(super) trait Ticket<A> {
    fn take(&mut self, arrival: A);
    fn is_first(&self) -> bool;
    fn ahead(&self) -> Ahead;
}

/// What is known of the queue of all processes.
pub(super) enum Queue<T> {
    /// Nobody has asked yet.
    Unknown,
    /// There can be none.
    No,
    Ticket(T),
}

/// One call that waits.
pub(super) struct Waiter<P: Platform> {
    pub(super) id: WaiterId,
    pub(super) request: P::Request,
    pub(super) arrival: P::Arrival,
    /// `None`: it has no timeout.
    pub(super) deadline: Option<Instant>,
    /// Whatever its attempt comes to, it gets no lock.
    pub(super) is_cancelled: bool,
}

/// A file that somebody holds.
pub(super) struct Observation<P: Platform> {
    pub(super) file: P::File,
    pub(super) watch: P::Watch,
    /// The process whose end is an event.
    pub(super) process: Option<u32>,
    /// Whether a change of the file is an event.
    pub(super) sees_file: bool,
    /// Whether somebody had the kernel lock.
    pub(super) was_locked: bool,
}

impl<P: Platform> Observation<P> {
    /// Whether a check can prove that the holder is there. Otherwise only an attempt does.
    pub(super) fn is_provable(&self) -> bool {
        self.process.is_some() || self.was_locked
    }
}

/// What is to be done on a thread that a disk may hold up. No path has two at once.
pub(super) enum Job<P: Platform> {
    /// Acquire for the first waiter.
    Attempt(Attempt<P>),
    /// Is the file as it was, and its holder there?
    Recheck { file: P::File, sees_process: bool },
    /// Does somebody hold the file at the path again?
    Observe,
}

pub(super) struct Attempt<P: Platform> {
    pub(super) id: WaiterId,
    pub(super) arrival: P::Arrival,
    pub(super) queue: Queue<P::Ticket>,
    /// Others may go first.
    pub(super) has_time: bool,
    /// Those who came before have had their time.
    pub(super) has_waited: bool,
    /// The process that was seen to end last: no event will tell of it.
    pub(super) ended: Option<u32>,
}

/// What a job came to.
pub(super) enum Done<P: Platform> {
    Attempted { queue: Queue<P::Ticket>, outcome: Outcome<P> },
    Rechecked { is_same: bool },
    Observed(Observed<P>),
}

pub(super) enum Outcome<P: Platform> {
    /// The waiter was answered.
    Over,
    /// Others come first.
    Queued,
    Refused(Refused, Observed<P>),
}

/// What was found at the path.
pub(super) enum Observed<P: Platform> {
    Held(Observation<P>),
    /// It changed while it was observed.
    Changed,
    /// The holder's process has ended.
    Ended(u32),
    /// Nothing that events or checks tell of.
    Nothing,
}

/// What the machine needs to know of the rest.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) time: Instant,
    /// Since when intervals are counted: all paths are to wake their thread together.
    pub(super) epoch: Instant,
    /// How many paths there are.
    pub(super) paths: usize,
}
