//! The waiters of one path, as a state machine: when to attempt, when to check the file, whom to answer.
//!
//! It touches no file and no clock, so that a simulation can run it: what it wants done is a [`Job`], and what became of
//! that comes back.
#![forbid(unsafe_code)]

use std::mem;
use std::time::{Duration, Instant};

use super::{Refused, WaiterId};
use crate::platform::{Ahead, HolderEvent};

/// How often to check although no event came: a directory that was renamed, for example, sends none.
const RESCAN_INTERVAL: Duration = Duration::from_millis(250);

/// The shortest pause until the next one.
pub(super) const SHORTEST_RESCAN: Duration = Duration::from_micros(62_500);

/// The longest pause between two attempts or checks where there are no events at all, for as many paths as `FEW` or fewer.
const MAX_BACKOFF: Duration = Duration::from_millis(50);

/// With more paths than these the pauses are longer, so that all checks together cost a few per cent of a processor.
const FEW: usize = 250;

/// The shortest pause.
const MIN_BACKOFF: Duration = Duration::from_millis(1);

/// How long those who came before have to attempt first: they may be stopped, or busy.
pub(super) const QUEUE_YIELD: Duration = Duration::from_millis(5);

/// How long the next one of the queue gives the first one until it checks.
const FIRST_QUEUE_YIELD: Duration = Duration::from_micros(200);

/// How long all others do: it is not their turn soon.
const LATER_QUEUE_YIELD: Duration = Duration::from_millis(2);

/// How long a cancelled attempt may go on until its waiter is answered: a disk may hang.
pub(super) const CANCEL_GRACE: Duration = Duration::from_millis(25);

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
    fn is_provable(&self) -> bool {
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

enum State<P: Platform> {
    /// The lock may be free.
    Open,
    Held(Observation<P>),
    Attempting(WaiterId),
    /// An event may come meanwhile.
    Rechecking(Observation<P>, Option<HolderEvent>),
    Observing,
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

/// The waiters of one path.
pub(super) struct PathWaiters<P: Platform> {
    /// In the order in which they came.
    waiters: Vec<Waiter<P>>,
    pub(super) refused: Refused,
    /// The first waiter's place, unless an attempt has it with it.
    queue: Queue<P::Ticket>,
    state: State<P>,
    /// When to do something next, unless a job is under way.
    due: Instant,
    /// Since when the lock may be free.
    vacant_since: Option<Instant>,
    /// Those who came before were given time since then.
    has_yielded: bool,
    /// The holder may have closed the file just before its kernel lock goes.
    may_be_closing: bool,
    backoff: Duration,
    ended: Option<u32>,
    random: u64,
}

impl<P: Platform> PathWaiters<P> {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        Self {
            waiters: Vec::new(),
            refused: Refused::default(),
            queue: Queue::Unknown,
            state: State::Open,
            due: now,
            vacant_since: None,
            has_yielded: false,
            may_be_closing: false,
            backoff: MIN_BACKOFF,
            ended: None,
            random: seed | 1,
        }
    }

    /// Enters a waiter. Who came first is first, whoever's first attempt took longer.
    pub(super) fn add(&mut self, waiter: Waiter<P>) {
        let index = self.waiters.partition_point(|other| other.id < waiter.id);
        self.waiters.insert(index, waiter);
    }

    pub(super) fn waiter(&self, id: WaiterId) -> Option<&Waiter<P>> {
        self.waiters.iter().find(|waiter| waiter.id == id)
    }

    pub(super) fn waiter_mut(&mut self, id: WaiterId) -> Option<&mut Waiter<P>> {
        self.waiters.iter_mut().find(|waiter| waiter.id == id)
    }

    pub(super) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    pub(super) fn into_waiters(self) -> Vec<Waiter<P>> {
        self.waiters
    }

    /// Takes out those who are meant.
    pub(super) fn take(&mut self, is_meant: &dyn Fn(&Waiter<P>) -> bool) -> Vec<Waiter<P>> {
        let taken: Vec<_> = self.waiters.extract_if(.., |waiter| is_meant(waiter)).collect();
        if self.waiters.is_empty() {
            // Nobody of us is in the queue any more.
            self.queue = Queue::Unknown;
        }
        taken
    }

    /// Takes out one whose wait is cancelled. While it attempts, it stays for a moment.
    pub(super) fn cancel(&mut self, id: WaiterId, now: Instant) -> Option<Waiter<P>> {
        if !self.is_attempted_by(id) {
            return self.take(&|waiter| waiter.id == id).pop();
        }
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.id == id) {
            let end = now + CANCEL_GRACE;
            waiter.is_cancelled = true;
            waiter.deadline = Some(waiter.deadline.map_or(end, |deadline| deadline.min(end)));
        }
        None
    }

    pub(super) fn is_attempted_by(&self, id: WaiterId) -> bool {
        matches!(self.state, State::Attempting(attempting) if attempting == id)
    }

    /// Takes out those whose deadline has come.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Waiter<P>> {
        self.take(&|waiter| waiter.deadline.is_some_and(|deadline| deadline <= now))
    }

    /// Whether nobody needs it any more.
    pub(super) fn is_over(&self) -> bool {
        self.waiters.is_empty() && !self.is_busy()
    }

    fn is_busy(&self) -> bool {
        matches!(self.state, State::Attempting(_) | State::Rechecking(..) | State::Observing)
    }

    /// The next moment at which there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let deadline = self.waiters.iter().filter_map(|waiter| waiter.deadline).min();
        [deadline, (!self.is_busy()).then_some(self.due)].into_iter().flatten().min()
    }

    pub(super) fn watch(&self) -> Option<&P::Watch> {
        match &self.state {
            State::Held(observation) | State::Rechecking(observation, _) => Some(&observation.watch),
            _ => None,
        }
    }

    pub(super) fn on_event(&mut self, event: HolderEvent, now: Instant) {
        match &mut self.state {
            State::Held(observation) => {
                self.due = now;
                if event == HolderEvent::Closed {
                    self.may_be_closing = true;
                    return;
                }
                if event == HolderEvent::Ended {
                    self.ended = observation.process;
                }
                self.open(now);
            }
            // The worst of them counts: a close tells less than any other.
            State::Rechecking(_, pending) if pending.is_none_or(|other| other == HolderEvent::Closed) => {
                *pending = Some(event);
            }
            _ => {}
        }
    }

    /// The lock may be free: attempt at once.
    fn open(&mut self, now: Instant) {
        self.state = State::Open;
        self.due = now;
        self.vacant_since.get_or_insert(now);
        self.has_yielded = false;
    }

    /// What there is to do, if it is time to do anything.
    pub(super) fn next_job(&mut self, now: Instant) -> Option<Job<P>> {
        let waiter = self.waiters.first()?;
        if self.is_busy() || self.due > now {
            return None;
        }
        let (id, arrival, deadline) = (waiter.id, waiter.arrival, waiter.deadline);
        match mem::replace(&mut self.state, State::Open) {
            State::Held(observation) if observation.is_provable() => {
                let (file, sees_process) = (observation.file.clone(), observation.process.is_some());
                self.state = State::Rechecking(observation, None);
                return Some(Job::Recheck { file, sees_process });
            }
            _ => {}
        }
        let since = now.saturating_duration_since(*self.vacant_since.get_or_insert(now));
        let has_time = since < QUEUE_YIELD && deadline.is_none_or(|deadline| deadline > now + QUEUE_YIELD);
        if let Queue::Ticket(ticket) = &mut self.queue {
            ticket.take(arrival);
            if has_time && self.has_yielded && !ticket.is_first() {
                self.state = State::Observing;
                return Some(Job::Observe);
            }
            if has_time && !self.has_yielded {
                let pause = match ticket.ahead() {
                    Ahead::Nobody => None,
                    Ahead::One => Some(FIRST_QUEUE_YIELD),
                    Ahead::More => Some(LATER_QUEUE_YIELD),
                };
                if let Some(pause) = pause {
                    (self.has_yielded, self.due) = (true, now + pause);
                    return None;
                }
            }
        }
        self.state = State::Attempting(id);
        let queue = mem::replace(&mut self.queue, Queue::Unknown);
        let has_waited = since >= QUEUE_YIELD;
        Some(Job::Attempt(Attempt { id, arrival, queue, has_time, has_waited, ended: self.ended }))
    }

    pub(super) fn on_done(&mut self, done: Done<P>, now: Now) {
        match (done, mem::replace(&mut self.state, State::Open)) {
            (Done::Rechecked { is_same }, State::Rechecking(observation, pending)) => {
                self.rechecked(observation, is_same, now);
                if let Some(event) = pending {
                    self.on_event(event, now.time);
                }
            }
            (Done::Observed(Observed::Held(observation)), _) if observation.is_provable() => {
                self.held(observation, now);
            }
            (Done::Observed(observed), _) => {
                if let Observed::Ended(pid) = observed {
                    self.ended = Some(pid);
                }
                self.yield_longer(now.time);
            }
            (Done::Attempted { queue, outcome }, _) => {
                self.queue = if self.waiters.is_empty() { Queue::Unknown } else { queue };
                self.attempted(outcome, now);
            }
            (Done::Rechecked { .. }, state) => self.state = state,
        }
    }

    fn rechecked(&mut self, observation: Observation<P>, is_same: bool, now: Now) {
        if is_same {
            self.rest_at(observation, now);
        } else {
            self.open(now.time);
        }
    }

    fn attempted(&mut self, outcome: Outcome<P>, now: Now) {
        match outcome {
            Outcome::Over => {
                self.vacant_since = None;
                self.has_yielded = false;
            }
            Outcome::Queued => self.yield_longer(now.time),
            Outcome::Refused(refused, observed) => {
                self.refused = refused;
                self.vacant_since = None;
                match observed {
                    Observed::Held(observation) => {
                        self.backoff = MIN_BACKOFF;
                        self.held(observation, now);
                    }
                    Observed::Changed => {
                        self.backoff = MIN_BACKOFF;
                        self.open(now.time);
                    }
                    Observed::Ended(pid) => {
                        self.ended = Some(pid);
                        self.back_off(now);
                    }
                    Observed::Nothing => self.back_off(now),
                }
            }
        }
    }

    fn held(&mut self, observation: Observation<P>, now: Now) {
        self.vacant_since = None;
        self.has_yielded = false;
        self.may_be_closing = false;
        self.rest_at(observation, now);
    }

    /// Checks again after a while.
    fn rest_at(&mut self, observation: Observation<P>, now: Now) {
        // The kernel tells of the close before it ends the lock: check once more.
        let pause = if mem::take(&mut self.may_be_closing) {
            MIN_BACKOFF
        } else if observation.sees_file {
            to_next(RESCAN_INTERVAL, now)
        } else {
            to_next(self.next_backoff(now.paths), now)
        };
        self.due = now.time + pause;
        self.state = State::Held(observation);
    }

    /// Those who came before are still at it.
    fn yield_longer(&mut self, now: Instant) {
        let vacant_since = *self.vacant_since.get_or_insert(now);
        let since = now.saturating_duration_since(vacant_since);
        self.has_yielded = true;
        self.due = (now + since.max(FIRST_QUEUE_YIELD)).min(vacant_since + QUEUE_YIELD);
    }

    /// Without events, pauses that grow.
    fn back_off(&mut self, now: Now) {
        let pause = self.next_backoff(now.paths);
        self.open(now.time);
        self.vacant_since = None;
        self.due = now.time + self.jittered(pause);
    }

    fn next_backoff(&mut self, paths: usize) -> Duration {
        let longest = MAX_BACKOFF * u32::try_from(paths / FEW).unwrap_or(u32::MAX).max(1);
        let pause = self.backoff.min(longest);
        self.backoff = pause * 2;
        pause
    }

    /// Between half and all of `pause`, so that waiters do not come back in step (xorshift).
    fn jittered(&mut self, pause: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = u32::try_from(self.random % 512).unwrap_or(0) + 512;
        pause * share / 1024
    }
}

/// How long it is until all paths with this interval are checked in a row.
fn to_next(interval: Duration, now: Now) -> Duration {
    let since = now.time.saturating_duration_since(now.epoch).as_micros() % interval.as_micros();
    let left = interval.saturating_sub(Duration::from_micros(u64::try_from(since).unwrap_or(0)));
    // A sleep may end a moment too early.
    if left < interval / 4 { left + interval } else { left }
}
