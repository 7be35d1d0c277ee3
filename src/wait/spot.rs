//! One path that somebody waits for: when to look at it again, and when to try.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Answer, Order, Refused, WaiterId};
use crate::error::Error;
use crate::protocol;
use crate::sys::{Os, Place, Rank, Signal, Stake, Watch, Watched, Watcher, is_shortage};
use crate::system::System;
use crate::table::Owner;
use crate::target::Target;

/// How often to look although no event came: a directory that was renamed, for example, sends none.
const ROUTINE: Duration = Duration::from_millis(250);

/// The longest pause between two tries or looks where there are no events at all, for as many paths as `FEW` or fewer.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// With more paths than these the pauses are longer, so that all looks together cost a few per cent of a processor.
const FEW: usize = 250;

/// The shortest.
const MOMENT: Duration = Duration::from_millis(1);

/// How long those who came before us have to try first: they may be stopped, or busy.
pub(super) const TURN: Duration = Duration::from_millis(5);

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
    /// Its wait was cancelled while it tried: whatever that comes to, it gets no lock.
    pub(super) is_cancelled: bool,
}

impl Waiter {
    pub(super) fn refuse(self, refused: Refused) {
        let Refused { holder, reason, shortage } = refused;
        let target = self.order.target;
        let error = match shortage {
            Some((syscall, code)) => target.system(syscall)(io::Error::from_raw_os_error(code)),
            None => target.contention(holder, reason),
        };
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
    pub(super) waiters: Vec<Waiter>,
    pub(super) refused: Refused,
    queue: Queue,
    /// The file that is held, unless a look or a try has it with it.
    stake: Option<Stake>,
    watch: Option<Watch>,
    /// Who tries.
    trying: Option<WaiterId>,
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
    /// The holder has not released the lock, but it may be gone.
    may_take_over: bool,
}

/// What is to be done for a spot, while nobody is kept from the others.
pub(super) enum Step {
    Look(Look),
    Try(Try),
}

/// A look whether all is as it was.
pub(super) struct Look {
    path: PathBuf,
    stake: Stake,
    sees_its_holder: bool,
}

impl Look {
    pub(super) fn run(self) -> (PathBuf, Found) {
        let Self { path, stake, sees_its_holder } = self;
        let is_current = stake.is_current(&path);
        let is_same = is_current && (sees_its_holder || stake.is_locked_as_before(&path));
        (path, Found::Looked { stake, is_current, is_same })
    }
}

/// One waiter's try to acquire, for a thread that may hang on a disk.
pub(super) struct Try {
    pub(super) id: WaiterId,
    pub(super) owner: Owner,
    target: Target,
    thread: u32,
    rank: Rank,
    has_time: bool,
    /// Those who came before have had their time.
    has_waited: bool,
    queue: Queue,
    stake: Option<Stake>,
    may_take_over: bool,
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

/// What is found at a spot, for those who wait on.
pub(super) enum Found {
    Looked {
        stake: Stake,
        /// The path names the file as it was.
        is_current: bool,
        /// And its holder is there.
        is_same: bool,
    },
    Tried {
        queue: Queue,
        next: Next,
    },
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

    /// Whether the thread that sleeps for all can do it: the file is a local one, a birth is not waited for, and nor is
    /// an old peer after a take-over.
    pub(super) fn is_quick(&self) -> bool {
        self.stake.is_some() && !self.may_take_over
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
                if let Queue::Place(place) = &mut self.queue {
                    place.move_on();
                }
                let refused = Refused { holder, reason, shortage: None };
                (Tried::Refused(refused, Stake::open(path)), self.queue)
            }
            Err(Error::System { syscall, source, .. }) if is_shortage(&source) => {
                let shortage = source.raw_os_error().map(|code| (syscall, code));
                (Tried::Refused(Refused { shortage, ..Refused::default() }, None), self.queue)
            }
            outcome => {
                if let Queue::Place(place) = &mut self.queue {
                    if self.has_waited && outcome.is_ok() {
                        place.pass_over();
                    }
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
            waiters: Vec::new(),
            refused: Refused::default(),
            queue: Queue::Unknown,
            stake: None,
            watch: None,
            trying: None,
            due: now,
            must_try: true,
            vacant: None,
            may_be_closing: false,
            pause: MOMENT,
            ended: None,
            may_take_over: false,
        }
    }

    /// Takes out those who are meant.
    pub(super) fn take(&mut self, mut which: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
        self.waiters.extract_if(.., |waiter| which(waiter)).collect()
    }

    /// Takes out one whose wait is cancelled, unless he is trying.
    pub(super) fn cancel(&mut self, id: WaiterId) -> Option<Waiter> {
        if self.trying == Some(id) {
            self.waiters
                .iter_mut()
                .filter(|waiter| waiter.id == id)
                .for_each(|waiter| waiter.is_cancelled = true);
            return None;
        }
        self.take(|waiter| waiter.id == id).pop()
    }

    /// Takes out those who have waited long enough.
    pub(super) fn take_done(&mut self, now: Instant) -> Vec<Waiter> {
        let nobody_tries = self.trying.is_none();
        self.take(|waiter| {
            waiter.deadline.is_some_and(|deadline| deadline <= now) || nobody_tries && waiter.is_cancelled
        })
    }

    /// Enters one who waits. Who came first is first, whoever's first try took longer.
    pub(super) fn add(&mut self, waiter: Waiter) {
        let place = self.waiters.partition_point(|other| other.id < waiter.id);
        self.waiters.insert(place, waiter);
    }

    /// Whether nobody needs it any more.
    pub(super) fn is_over(&self) -> bool {
        self.waiters.is_empty() && self.trying.is_none()
    }

    #[cfg(test)]
    pub(super) fn is_tried_by(&self, id: WaiterId) -> bool {
        self.trying == Some(id)
    }

    /// The next moment at which this spot wants to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        let deadline = self.waiters.iter().filter_map(|waiter| waiter.deadline).min();
        [deadline, self.trying.is_none().then_some(self.due)].into_iter().flatten().min()
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
        self.may_take_over = signal == Signal::Ended;
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

    /// What there is to do, if it is time to do anything.
    pub(super) fn step(&mut self, path: &Path, now: Instant) -> Option<Step> {
        let waiter = self.waiters.first().filter(|_| self.trying.is_none() && self.due <= now)?;
        if let Some(stake) = self.stake.take_if(|_| !self.must_try) {
            let sees_its_holder = self.sees_its_holder();
            return Some(Step::Look(Look { path: path.to_owned(), stake, sees_its_holder }));
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
        self.trying = Some(waiter.id);
        Some(Step::Try(Try {
            id: waiter.id,
            owner: waiter.order.owner,
            target: waiter.order.target.clone(),
            thread: waiter.order.thread,
            rank: waiter.rank,
            has_time,
            has_waited: since >= TURN,
            queue: mem::replace(&mut self.queue, Queue::Unknown),
            stake: self.stake.take(),
            may_take_over: self.may_take_over,
        }))
    }

    fn sees_its_holder(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::sees_its_holder)
    }

    /// A look or a try is over.
    pub(super) fn settle(
        &mut self,
        watcher: &mut Watcher,
        path: &Path,
        found: Found,
        (now, paths): (Instant, usize),
    ) {
        match found {
            Found::Looked { stake, is_current, is_same } => {
                self.may_take_over = is_current;
                self.looked(stake, is_same, now, paths);
            }
            Found::Tried { queue, next } => {
                self.trying = None;
                self.queue = queue;
                self.tried(watcher, path, next, (now, paths));
            }
        }
    }

    fn looked(&mut self, stake: Stake, is_same: bool, now: Instant, paths: usize) {
        // Where neither a process nor a kernel lock tells of the holder's end, only a try does.
        self.must_try = !is_same || !(self.sees_its_holder() || stake.was_locked());
        if is_same {
            // The kernel tells of the close before it lets go of the lock: look once more.
            let soon = mem::take(&mut self.may_be_closing);
            self.due = now
                + if soon {
                    MOMENT
                } else if self.watch.as_ref().is_none_or(Watch::sees_its_file) {
                    to_next(ROUTINE)
                } else {
                    to_next(self.next_pause(paths))
                };
        }
        self.stake = Some(stake);
    }

    fn tried(&mut self, watcher: &mut Watcher, path: &Path, next: Next, (now, paths): (Instant, usize)) {
        match next {
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
                self.look_out(watcher, path, (now, paths));
            }
        }
    }

    fn look_out(&mut self, watcher: &mut Watcher, path: &Path, (now, paths): (Instant, usize)) {
        let Some(stake) = &self.stake else { return self.rest(now, paths) };
        let can_end = stake.pid().is_some() && stake.pid() != self.ended;
        match watcher.watch(path, stake, can_end) {
            Watched::Yes(watch) => {
                self.watch = Some(watch);
                self.pause = MOMENT;
                // What changed between the try and the watch, no event tells.
                self.must_try = false;
                self.due = now;
            }
            Watched::Ended => {
                self.ended = stake.pid();
                self.rest(now, paths);
            }
            Watched::No => self.rest(now, paths),
        }
    }

    /// Without events, pauses that grow.
    fn rest(&mut self, now: Instant, paths: usize) {
        (self.must_try, self.may_take_over) = (true, true);
        self.due = now + jittered(self.next_pause(paths));
    }

    fn next_pause(&mut self, paths: usize) -> Duration {
        let longest = LONGEST_PAUSE * u32::try_from(paths / FEW).unwrap_or(u32::MAX).max(1);
        let pause = self.pause.min(longest);
        self.pause = pause * 2;
        pause
    }
}

/// How long it is until all spots with this interval are looked at in a row: they are to wake their thread together.
fn to_next(interval: Duration) -> Duration {
    let since = Os::get().monotonic().as_micros() % interval.as_micros();
    let left = interval.saturating_sub(Duration::from_micros(u64::try_from(since).unwrap_or(0)));
    // A sleep may end a moment too early.
    if left < interval / 4 { left + interval } else { left }
}

/// Between half and all of `pause`, so that waiters do not come back in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0);
    let share = u32::try_from(random % 512).unwrap_or(0) + 512;
    pause * share / 1024
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::target::LockOptions;

    #[test]
    fn what_changed_before_the_watch_was_set_is_looked_for_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = LockOptions::in_directory(directory.path()).resolve().expect("a path");
        let path = target.path.clone();
        std::fs::write(&path, r#"{"pid":1,"createdAt":1}"#).expect("written");
        let stake = Stake::open(&path).expect("a local file");
        let (now, mut watcher) = (Instant::now(), Watcher::new());
        let mut spot = Spot::new(now);
        let order = Order { owner: Owner::PROGRAM, thread: 0, target, timeout: Duration::MAX };
        let (id, rank) = (WaiterId::next(), Rank::now());
        let answer = Box::new(|_| ());
        spot.add(Waiter { id, order, rank, deadline: None, answer, is_cancelled: false });
        assert!(matches!(spot.step(&path, now), Some(Step::Try(_))));
        let next = Next::Wait(Some(stake));
        spot.settle(&mut watcher, &path, Found::Tried { queue: Queue::No, next }, (now, 1));
        assert!(spot.watch().is_some());
        assert!(matches!(spot.step(&path, now), Some(Step::Look(_))));
    }
}
