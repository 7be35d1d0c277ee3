//! One path that somebody waits for: when to look at it again, and when to try.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::mem;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Answer, Order, Refused, WaiterId};
use crate::error::Error;
use crate::protocol;
use crate::sys::{Os, Place, Rank, Signal, Stake, Watch, Watched, Watcher};
use crate::system::System;
use crate::target::Target;

/// How often to look although no event came: a directory that was renamed, for example, sends none.
const ROUTINE: Duration = Duration::from_millis(250);

/// The longest pause between two tries where there are no events at all.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The shortest.
const MOMENT: Duration = Duration::from_millis(1);

/// How long those who came before us have to try first: they may be stopped, or busy.
const TURN: Duration = Duration::from_millis(5);

/// The first pause of those who let others try first.
const GLANCE: Duration = Duration::from_micros(100);

/// One call that waits.
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) order: Order,
    pub(super) rank: Rank,
    /// `None`: it waits for ever.
    pub(super) deadline: Option<Instant>,
    pub(super) answer: Box<dyn FnOnce(Answer) + Send>,
}

impl Waiter {
    pub(super) fn refuse(self, refused: Refused) {
        let error = self.order.target.contention(refused.holder, refused.reason);
        (self.answer)(Ok(Err(error)));
    }
}

/// What is known of the queue of all processes.
pub(super) enum Queue {
    /// Nobody has asked yet.
    Unknown,
    /// There can be none.
    No,
    /// The first waiter's place.
    Place(Place),
}

/// One path, and those who wait for it.
pub(super) struct Spot {
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) refused: Refused,
    queue: Queue,
    /// The file that is held, unless a try has it with it.
    stake: Option<Stake>,
    watch: Option<Watch>,
    is_trying: bool,
    /// When to look next.
    due: Instant,
    /// Something has changed: look by trying.
    must_try: bool,
    /// Since when the lock may be free.
    vacant: Option<Instant>,
    /// The holder may have closed the file just before its kernel lock goes.
    may_be_closing: bool,
    pause: Duration,
    /// The process that was seen to end last.
    ended: Option<u32>,
}

/// One waiter's try to acquire, for a thread that may hang on a disk.
pub(super) struct Try {
    pub(super) id: WaiterId,
    target: Target,
    thread: u32,
    rank: Rank,
    has_time: bool,
    queue: Queue,
    stake: Option<Stake>,
}

/// What a try came to.
pub(super) enum Tried {
    /// Somebody holds the lock.
    Refused(Refused, Option<Stake>),
    /// Others come first.
    Queued,
    /// The waiter has what it wanted, or an error.
    Over(Answer),
}

/// The same for those who wait on.
pub(super) struct Found {
    pub(super) queue: Queue,
    pub(super) next: Next,
}

/// How to go on after a try.
pub(super) enum Next {
    /// Wait at this file, if there is one to wait at.
    Wait(Option<Stake>),
    /// Let others come first.
    GiveWay,
    /// Try for the next waiter.
    Serve,
}

impl Try {
    pub(super) fn path(&self) -> &Path {
        &self.target.path
    }

    /// Whether the thread that sleeps for all can do it: the file is a local one, and a birth is not waited for.
    pub(super) fn is_quick(&self) -> bool {
        self.stake.is_some()
    }

    pub(super) fn run(mut self) -> (Tried, Queue) {
        let path = &self.target.path;
        if matches!(self.queue, Queue::Unknown) {
            self.queue = Place::at(path).map_or(Queue::No, Queue::Place);
        }
        if let Queue::Place(place) = &mut self.queue {
            place.take(self.rank);
            if self.has_time && self.stake.is_none() && !place.is_first() {
                return (Tried::Queued, self.queue);
            }
        }
        let os = Os::get();
        let until = self.is_quick().then(|| os.monotonic());
        match protocol::acquire_until(os, &self.target, self.thread, until) {
            Err(Error::Contention { holder, reason, .. }) => {
                let stake = match self.stake {
                    Some(stake) => stake.renewed(path),
                    None => Stake::open(path),
                };
                (Tried::Refused(Refused { holder, reason }, stake), self.queue)
            }
            outcome => {
                if let Queue::Place(place) = &mut self.queue {
                    place.leave();
                }
                (Tried::Over(Ok(outcome)), self.queue)
            }
        }
    }
}

impl Spot {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiters: VecDeque::new(),
            refused: Refused::default(),
            queue: Queue::Unknown,
            stake: None,
            watch: None,
            is_trying: false,
            due: now,
            must_try: true,
            vacant: None,
            may_be_closing: false,
            pause: MOMENT,
            ended: None,
        }
    }

    /// Takes out those who are meant.
    pub(super) fn take(&mut self, mut which: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
        if !self.waiters.iter().any(&mut which) {
            return Vec::new();
        }
        let (taken, left): (Vec<_>, Vec<_>) = self.waiters.drain(..).partition(|waiter| which(waiter));
        self.waiters = left.into();
        taken
    }

    /// Whether nobody needs it any more.
    pub(super) fn is_over(&self) -> bool {
        self.waiters.is_empty() && !self.is_trying
    }

    /// The next moment at which this spot wants to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        let deadline = self.waiters.iter().filter_map(|waiter| waiter.deadline).min();
        [deadline, (!self.is_trying).then_some(self.due)].into_iter().flatten().min()
    }

    pub(super) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    pub(super) fn hear(&mut self, watcher: &mut Watcher, signal: Signal, now: Instant) {
        self.due = now;
        if signal == Signal::Closed {
            self.may_be_closing = true;
            return;
        }
        self.must_try = true;
        self.vacant.get_or_insert(now);
        if signal == Signal::Ended {
            self.ended = self.stake.as_ref().and_then(Stake::pid);
            self.unwatch(watcher);
        }
    }

    pub(super) fn unwatch(&mut self, watcher: &mut Watcher) {
        if let Some(watch) = self.watch.take() {
            watcher.forget(&watch);
        }
    }

    /// Looks, if it is time to, whether to try.
    pub(super) fn step(&mut self, path: &Path, now: Instant) -> Option<Try> {
        let waiter = self.waiters.front().filter(|_| !self.is_trying && self.due <= now)?;
        if let Some(stake) = self.stake.as_ref().filter(|_| !self.must_try) {
            let sees_its_end = self.watch.as_ref().is_some_and(Watch::sees_its_holder);
            if stake.is_current(path) && (sees_its_end || stake.is_locked()) {
                // The kernel tells of the close before it lets go of the lock: look once more.
                let soon = mem::take(&mut self.may_be_closing);
                self.due = now + if soon { MOMENT } else { to_routine() };
                return None;
            }
        }
        self.must_try = true;
        let since = now.saturating_duration_since(*self.vacant.get_or_insert(now));
        let has_time = since < TURN && waiter.deadline.is_none_or(|deadline| deadline > now + TURN);
        if let Queue::Place(place) = &mut self.queue {
            place.take(waiter.rank);
            if has_time && !place.is_first() {
                self.due = now + since.max(GLANCE);
                return None;
            }
        }
        self.is_trying = true;
        Some(Try {
            id: waiter.id,
            target: waiter.order.target.clone(),
            thread: waiter.order.thread,
            rank: waiter.rank,
            has_time,
            queue: mem::replace(&mut self.queue, Queue::Unknown),
            stake: self.stake.take(),
        })
    }

    /// A try is over.
    pub(super) fn settle(&mut self, watcher: &mut Watcher, found: Found, now: Instant) {
        self.is_trying = false;
        self.queue = found.queue;
        match found.next {
            Next::Serve => {
                self.vacant = None;
                self.unwatch(watcher);
                self.due = now;
            }
            Next::GiveWay => {
                let since = now.saturating_duration_since(*self.vacant.get_or_insert(now));
                self.due = now + since.max(GLANCE);
            }
            Next::Wait(stake) => {
                self.vacant = None;
                self.unwatch(watcher);
                self.stake = stake;
                self.look_out(watcher, now);
            }
        }
    }

    fn look_out(&mut self, watcher: &mut Watcher, now: Instant) {
        let Some(stake) = &self.stake else { return self.rest(now) };
        let can_end = stake.pid().is_some() && stake.pid() != self.ended;
        match watcher.watch(stake, can_end) {
            Watched::Yes(watch) => {
                self.watch = Some(watch);
                self.pause = MOMENT;
                // What changed between the try and the watch, no event tells.
                self.must_try = false;
                self.due = now;
            }
            Watched::Ended => {
                self.ended = stake.pid();
                self.rest(now);
            }
            Watched::No => self.rest(now),
        }
    }

    /// Without events, pauses that grow.
    fn rest(&mut self, now: Instant) {
        self.must_try = true;
        self.due = now + jittered(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// How long it is until all spots are looked at in a row: many waiters are to wake their thread together.
fn to_routine() -> Duration {
    let since = Os::get().monotonic().as_micros() % ROUTINE.as_micros();
    let left = ROUTINE.saturating_sub(Duration::from_micros(u64::try_from(since).unwrap_or(0)));
    // A sleep may end a moment too early.
    if left < ROUTINE / 4 { left + ROUTINE } else { left }
}

/// Between half and all of `pause`, so that waiters do not come back in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0);
    let share = u32::try_from(random % 512).unwrap_or(0) + 512;
    pause * share / 1024
}
