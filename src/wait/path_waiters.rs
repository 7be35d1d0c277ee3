//! The waiters of one path, as a state machine: when to attempt, when to check the file, which waiter to answer.
//!
//! It uses no file and no clock, so that a simulation can run it: it returns a [`Job`] and gets a [`Done`].
#![forbid(unsafe_code)]

use std::mem;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::intervals::{
    CANCEL_GRACE, FIRST_QUEUE_YIELD, LATER_QUEUE_YIELD, MAX_BACKOFF, MAX_COUNTED, MIN_BACKOFF, QUEUE_YIELD,
    RESCAN_INTERVAL, to_next,
};
use super::job::{
    Attempt, Done, Job, Now, Observation, Observed, Outcome, Platform, Queue, Ticket, Waiter, Watch,
};
use super::request::{LastRefusal, WaiterId};
use super::waiters::Waiters;
use crate::platform::HolderEvent;

enum State<P: Platform> {
    /// The lock may be free.
    Open,
    Held(Observation<P>),
    Attempting(WaiterId),
    /// An event may come meanwhile.
    Rechecking(Observation<P>, Option<HolderEvent>),
    Observing,
}

/// The waiters of one path.
pub(super) struct PathWaiters<P: Platform> {
    waiters: Waiters<P>,
    pub(super) last_refusal: LastRefusal,
    /// The ticket of the first waiter, unless an attempt is using it.
    queue: Queue<P::Ticket>,
    state: State<P>,
    /// The waiter of the last attempt.
    attempted: WaiterId,
    /// The next moment to act, unless a job is under way.
    due: Instant,
    /// Since when the lock may be free.
    vacant_since: Option<Instant>,
    /// Earlier waiters have had time since then.
    has_yielded: bool,
    /// How many there were, and when, while this sleeps for several of them.
    several_ahead: Option<(u32, Instant)>,
    /// Since when the lock was held, and for how long it was held the last time that this was watched.
    held_since: Instant,
    hold: Duration,
    /// The holder may have closed the file; its kernel lock ends a moment later.
    may_be_closing: bool,
    backoff: Backoff,
    ended: Option<u32>,
}

impl<P: Platform> PathWaiters<P> {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        Self {
            waiters: Waiters::new(),
            last_refusal: LastRefusal::default(),
            queue: Queue::Unknown,
            state: State::Open,
            attempted: WaiterId(0),
            due: now,
            vacant_since: None,
            has_yielded: false,
            several_ahead: None,
            held_since: now,
            hold: Duration::ZERO,
            may_be_closing: false,
            backoff: Backoff::new(seed),
            ended: None,
        }
    }

    pub(super) fn add(&mut self, waiter: Waiter<P>) {
        self.waiters.insert(waiter);
    }

    pub(super) fn waiter(&self, id: WaiterId) -> Option<&Waiter<P>> {
        self.waiters.get(id)
    }

    pub(super) fn waiter_mut(&mut self, id: WaiterId) -> Option<&mut Waiter<P>> {
        self.waiters.get_mut(id)
    }

    pub(super) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Whether its waiters sleep, and other processes cannot detect them.
    #[cfg(test)]
    pub(super) fn sleeps_without_ticket(&self) -> bool {
        self.has_waiters() && matches!(self.state, State::Held(_)) && !self.has_requested_ticket()
    }

    fn has_requested_ticket(&self) -> bool {
        !matches!(self.queue, Queue::Unknown)
    }

    /// Removes a waiter.
    pub(super) fn take(&mut self, id: WaiterId) -> Option<Waiter<P>> {
        let taken = self.waiters.remove(id);
        self.leave_if_empty();
        taken
    }

    /// Removes the waiters that match.
    pub(super) fn take_all(&mut self, is_meant: &dyn Fn(&Waiter<P>) -> bool) -> Vec<Waiter<P>> {
        let taken = self.waiters.remove_all(is_meant);
        self.leave_if_empty();
        taken
    }

    /// Leaves the queue of all processes.
    fn leave_if_empty(&mut self) {
        if self.waiters.is_empty() {
            self.queue = Queue::Unknown;
        }
    }

    /// Removes a waiter that is cancelled. During its attempt it stays, for at most [`CANCEL_GRACE`].
    pub(super) fn cancel(&mut self, id: WaiterId, now: Instant) -> Option<Waiter<P>> {
        if !self.is_attempted_by(id) {
            return self.take(id);
        }
        if let Some(waiter) = self.waiters.get_mut(id) {
            waiter.is_cancelled = true;
            let end = now + CANCEL_GRACE;
            let deadline = waiter.deadline.map_or(end, |deadline| deadline.min(end));
            self.waiters.set_deadline(id, deadline);
        }
        None
    }

    /// Whether an earlier call waits too: its first attempt took longer, so it came during the attempt of this waiter.
    pub(super) fn is_overtaking(&self, id: WaiterId) -> bool {
        self.waiters.first().is_some_and(|first| first.id < id)
    }

    pub(super) fn is_attempted_by(&self, id: WaiterId) -> bool {
        matches!(self.state, State::Attempting(attempting) if attempting == id)
    }

    /// Removes the waiters whose deadline has come.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Waiter<P>> {
        let mut late = Vec::new();
        while let Some((_, id)) = self.waiters.next_deadline().filter(|(deadline, _)| *deadline <= now) {
            if self.has_last_attempt(id) {
                self.waiters.set_deadline(id, now + QUEUE_YIELD);
                self.due = now;
            } else {
                late.extend(self.take(id));
            }
        }
        late
    }

    /// The lock refuses, not the queue: a machine that was busy for long may have left no time for an attempt.
    fn has_last_attempt(&mut self, id: WaiterId) -> bool {
        let is_possible = self.vacant_since.is_some()
            && !self.is_busy()
            && self.waiters.first().is_some_and(|first| first.id == id);
        let waiter = self.waiters.get_mut(id).filter(|waiter| is_possible && !waiter.is_cancelled);
        waiter.is_some_and(|waiter| !mem::replace(&mut waiter.is_last, true))
    }

    /// Whether there are no waiters and no job.
    pub(super) fn is_over(&self) -> bool {
        self.waiters.is_empty() && !self.is_busy()
    }

    fn is_busy(&self) -> bool {
        matches!(self.state, State::Attempting(_) | State::Rechecking(..) | State::Observing)
    }

    /// The next moment at which there is work.
    pub(super) fn next(&self) -> Option<Instant> {
        let deadline = self.waiters.next_deadline().map(|(deadline, _)| deadline);
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
                self.hold = now.saturating_duration_since(self.held_since);
                self.open(now);
            }
            // A close proves less than any other event.
            State::Rechecking(_, pending) if pending.is_none_or(|other| other == HolderEvent::Closed) => {
                *pending = Some(event);
            }
            _ => {}
        }
    }

    /// The lock may be free: attempt immediately.
    fn open(&mut self, now: Instant) {
        self.state = State::Open;
        self.due = now;
        self.vacant_since.get_or_insert(now);
        self.has_yielded = false;
    }

    /// The next job, if one is due.
    pub(super) fn next_job(&mut self, now: Instant) -> Option<Job<P>> {
        let waiter = self.waiters.first()?;
        if self.is_busy() || self.due > now {
            return None;
        }
        let (id, arrival, deadline) = (waiter.id, waiter.arrival, waiter.deadline);
        if id < self.attempted {
            // An earlier call that came later may not wait for a holder.
            self.state = State::Open;
        }
        match mem::replace(&mut self.state, State::Open) {
            State::Held(observation) if observation.is_provable() => {
                let (file, watches_process) = (observation.file.clone(), observation.process.is_some());
                self.state = State::Rechecking(observation, None);
                return Some(Job::Recheck { file, watches_process });
            }
            _ => {}
        }
        let several_ahead = self.several_ahead.take();
        if several_ahead.is_some() {
            // The lock may have become free just before.
            self.vacant_since = Some(now.checked_sub(LATER_QUEUE_YIELD).unwrap_or(now));
        }
        let since = now.saturating_duration_since(*self.vacant_since.get_or_insert(now));
        // A call that waits for a creator is refused by a holder, so it does not queue.
        let has_time = !id.is_for_creator()
            && since < QUEUE_YIELD
            && deadline.is_none_or(|deadline| deadline > now + QUEUE_YIELD);
        if let Queue::Ticket(ticket) = &mut self.queue {
            ticket.take(arrival);
            let counted = several_ahead.filter(|(before, _)| has_time && *before < MAX_COUNTED);
            if let Some((before, since)) = counted {
                let ahead = ticket.ahead(MAX_COUNTED);
                // The lock changes hands, so there is nothing to watch yet.
                if (2..before).contains(&ahead) {
                    self.hold = now.saturating_duration_since(since) / (before - ahead);
                    self.yield_to(ahead, deadline, now);
                    return None;
                }
            }
            if has_time && self.has_yielded && !ticket.is_first() {
                self.state = State::Observing;
                return Some(Job::Observe);
            }
            if has_time && !self.has_yielded {
                let ahead = ticket.ahead(MAX_COUNTED);
                if ahead > 0 {
                    self.yield_to(ahead, deadline, now);
                    return None;
                }
            }
        }
        (self.state, self.attempted) = (State::Attempting(id), id);
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
            (Done::Observed(Observed::Held(observation)), _)
                if observation.is_provable() && self.has_requested_ticket() =>
            {
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
        // A waiter that came during the check, after the others had left, has no ticket yet.
        if is_same && self.has_requested_ticket() {
            self.rest_at(observation, now);
        } else {
            self.open(now.time);
        }
    }

    fn attempted(&mut self, outcome: Outcome<P>, now: Now) {
        if self.waiters.get(self.attempted).is_some_and(|waiter| waiter.is_cancelled) {
            // Its call waits for this answer, and holds another slot meanwhile.
            self.waiters.set_deadline(self.attempted, now.time);
        }
        match outcome {
            Outcome::Over => {
                self.vacant_since = None;
                self.has_yielded = false;
            }
            Outcome::Queued => self.yield_longer(now.time),
            Outcome::Refused(refusal, observed) => {
                self.last_refusal = refusal;
                self.vacant_since = None;
                if let Some(id) = self.waiters.first().filter(|first| first.is_last).map(|first| first.id) {
                    self.waiters.set_deadline(id, now.time);
                }
                match observed {
                    Observed::Held(observation) => {
                        self.backoff.reset();
                        self.held(observation, now);
                    }
                    Observed::Changed => {
                        self.backoff.reset();
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
        self.held_since = now.time;
        let missed = observation.watch.missed();
        self.rest_at(observation, now);
        if let Some(event) = missed {
            self.on_event(event, now.time);
        }
    }

    /// Checks again after a while.
    fn rest_at(&mut self, observation: Observation<P>, now: Now) {
        // The kernel sends the close event before it ends the lock: check once more.
        let pause = if mem::take(&mut self.may_be_closing) {
            MIN_BACKOFF
        } else if observation.watches_file {
            to_next(RESCAN_INTERVAL, now)
        } else {
            to_next(self.backoff.next(now.paths), now)
        };
        self.due = now.time + pause;
        self.state = State::Held(observation);
    }

    /// Lets earlier waiters attempt. A waiter that is not next sleeps for half of the time that those before it need at
    /// the last pace.
    fn yield_to(&mut self, ahead: u32, deadline: Option<Instant>, now: Instant) {
        self.has_yielded = true;
        if ahead == 1 {
            self.due = now + FIRST_QUEUE_YIELD;
            return;
        }
        let most = deadline.map_or(MAX_BACKOFF, |deadline| (deadline - now) / 2).min(MAX_BACKOFF);
        self.due = now + (self.hold * (ahead - 1) / 2).min(most).max(LATER_QUEUE_YIELD);
        self.several_ahead = Some((ahead, now));
    }

    /// Lets earlier waiters attempt for longer.
    fn yield_longer(&mut self, now: Instant) {
        let vacant_since = *self.vacant_since.get_or_insert(now);
        let since = now.saturating_duration_since(vacant_since);
        self.has_yielded = true;
        self.due = (now + since.max(FIRST_QUEUE_YIELD)).min(vacant_since + QUEUE_YIELD);
    }

    /// Pauses for longer each time, without events.
    fn back_off(&mut self, now: Now) {
        self.open(now.time);
        self.vacant_since = None;
        self.due = now.time + self.backoff.next_jittered(now.paths);
    }
}
