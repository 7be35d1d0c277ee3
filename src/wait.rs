//! Waiting for a holder to let go, without a thread for each waiter.
//!
//! One thread sleeps for all waiters of this process until something can have changed, and then has the first
//! waiter of that file acquire again, on a thread of the pool: the sleeping one touches no disk that may hang.
//! Waiters of one path are served in the order in which they came. Among processes, each one's first waiter has
//! a place in a queue (`Place`), and lets those before it try first, but only for [`TURN`]: they may be stopped.
//!
//! All of this decides when to try. Whether a try succeeds, the protocol alone decides.
#![forbid(unsafe_code)]

use std::any::Any;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::pool;
use crate::protocol::{self, Held};
use crate::record::Holder;
use crate::sys::{Bell, Os, Place, Rank, Signal, Signals, Stake, Watch, Watched, Watcher};
use crate::system::System;
use crate::table::Owner;
use crate::target::Target;

/// How often to look although no event came: a directory that was renamed, for example, sends none.
const ROUTINE: Duration = Duration::from_millis(250);

/// The longest pause between two tries where there are no events at all.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long those who came before us have to try first.
const TURN: Duration = Duration::from_millis(5);

/// The first pause of those who let others try first.
const GLANCE: Duration = Duration::from_micros(100);

/// The shortest pause without events.
const MOMENT: Duration = Duration::from_millis(1);

/// How long the thread stays when nobody waits.
const IDLE: Duration = Duration::from_secs(1);

type HeldHere = Held<<Os as System>::File>;

/// What a waiter is told; a panic is an answer too.
pub(crate) type Answer = thread::Result<Result<HeldHere, Error>>;

/// Names one waiter in this process, never a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(crate) u64);

/// Who has the lock, as the last try has found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused {
    pub(crate) holder: Option<Holder>,
    pub(crate) reason: Option<String>,
}

/// What a waiter wants.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) owner: Owner,
    pub(crate) thread: u32,
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
}

struct Waiter {
    id: WaiterId,
    order: Order,
    rank: Rank,
    /// `None`: it waits for ever.
    deadline: Option<Instant>,
    answer: Box<dyn FnOnce(Answer) + Send>,
}

impl Waiter {
    fn refuse(self, refused: Refused) {
        let error = self.order.target.contention(refused.holder, refused.reason);
        (self.answer)(Ok(Err(error)));
    }
}

/// A path that somebody waits for.
struct Spot {
    waiters: VecDeque<Waiter>,
    /// The place of the first waiter in the queue of all processes.
    place: Option<Place>,
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
    refused: Refused,
}

struct Service {
    spots: BTreeMap<PathBuf, Spot>,
    last: u64,
    /// What tries have found, for the thread that watches.
    found: Vec<(PathBuf, Found)>,
    /// Wakes that thread; `None`: there is none.
    bell: Option<Bell>,
}

static SERVICE: Mutex<Service> =
    Mutex::new(Service { spots: BTreeMap::new(), last: 0, found: Vec::new(), bell: None });

fn service() -> MutexGuard<'static, Service> {
    // No code that runs under this mutex can panic half-way through a change.
    SERVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One try, which does not wait for a holder. `timeout` is what the caller is willing to wait in all: one who
/// waits comes after those who wait already.
pub(crate) fn try_once(target: &Target, thread: u32, timeout: Duration) -> Result<HeldHere, Error> {
    let os = Os::get();
    if timeout.is_zero() {
        return protocol::acquire(os, target, thread);
    }
    let until = os.monotonic().checked_add(timeout);
    let others_wait = service().spots.contains_key(&target.path)
        || Place::at(&target.path).is_some_and(|place| place.has_others());
    if others_wait {
        let status = protocol::inspect(os, target)?;
        return Err(target.contention(status.holder, Some(status.reason)));
    }
    protocol::acquire_until(os, target, thread, until)
}

/// Calls `answer` once the lock is acquired, the time is over or the wait has been ended; on another thread,
/// unless the system refuses the one that waits, which is an answer too.
pub(crate) fn start(order: Order, answer: impl FnOnce(Answer) + Send + 'static) -> WaiterId {
    let mut service = service();
    service.last += 1;
    let id = WaiterId(service.last);
    if let Err(error) = service.wake() {
        drop(service);
        answer(Ok(Err(order.target.system("pthread_create")(error))));
        return id;
    }
    let path = &order.target.path;
    let spot = service.spots.entry(path.clone()).or_insert_with(|| Spot::new(path));
    let deadline = Instant::now().checked_add(order.timeout);
    spot.waiters.push_back(Waiter { id, order, rank: Rank::now(), deadline, answer: Box::new(answer) });
    id
}

/// Acquires the lock within `timeout`, on this thread.
pub(crate) fn acquire(
    owner: Owner,
    target: &Target,
    thread: u32,
    timeout: Duration,
) -> Result<HeldHere, Error> {
    let started = Instant::now();
    let refused = match try_once(target, thread, timeout) {
        Err(error @ Error::Contention { .. }) => error,
        outcome => return outcome,
    };
    let timeout = timeout.saturating_sub(started.elapsed());
    if timeout.is_zero() {
        return Err(refused);
    }
    let (tell, told) = mpsc::channel();
    let order = Order { owner, thread, target: target.clone(), timeout };
    start(order, move |answer| drop(tell.send(answer)));
    match told.recv() {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => panic::resume_unwind(panic),
        Err(_) => Err(refused),
    }
}

/// Ends a wait. It is answered at once, and does not end up with the lock.
pub(crate) fn cancel(id: WaiterId) {
    let cancelled = service().take(|waiter| waiter.id == id);
    refuse_all(cancelled, "the wait was cancelled");
}

/// Ends all waits of an owner.
pub(crate) fn cancel_all(owner: Owner) {
    let cancelled = service().take(|waiter| waiter.order.owner == owner);
    refuse_all(cancelled, "the one who waited has ended");
}

fn refuse_all(waiters: Vec<Waiter>, reason: &str) {
    for waiter in waiters {
        waiter.refuse(Refused { holder: None, reason: Some(reason.to_owned()) });
    }
}

/// Who has the lock that a waiter waits for.
pub(crate) fn refused(id: WaiterId) -> Option<Refused> {
    let service = service();
    let spot = service.spots.values().find(|spot| spot.waiters.iter().any(|waiter| waiter.id == id))?;
    Some(spot.refused.clone())
}

impl Service {
    /// Has the thread look around as soon as nobody uses the service, and starts it if there is none.
    fn wake(&mut self) -> io::Result<()> {
        if self.bell.is_none() {
            let watcher = Watcher::new();
            let bell = watcher.bell();
            let thread = thread::Builder::new().name("reconcile-lock".to_owned()).stack_size(pool::STACK);
            thread.spawn(|| {
                if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| serve(watcher))) {
                    give_up(&panic);
                }
            })?;
            self.bell = Some(bell);
        }
        self.ring();
        Ok(())
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    fn tell(&mut self, path: &Path, found: Found) {
        self.found.push((path.to_owned(), found));
        self.ring();
    }

    fn take(&mut self, mut which: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
        let mut taken = Vec::new();
        for spot in self.spots.values_mut() {
            spot.take(&mut which, &mut taken);
        }
        self.ring();
        taken
    }

    /// What there is to do now, and until when to sleep after that; no moment at all: the thread may end.
    fn turn(&mut self, watcher: &mut Watcher, now: Instant) -> Turn {
        for (path, found) in std::mem::take(&mut self.found) {
            if let Some(spot) = self.spots.get_mut(&path) {
                spot.settle(watcher, found, now);
            }
        }
        let mut turn = Turn::default();
        self.spots.retain(|path, spot| {
            let mut expired = Vec::new();
            spot.take(&mut |waiter| waiter.deadline.is_some_and(|deadline| deadline <= now), &mut expired);
            turn.expired.extend(expired.into_iter().map(|waiter| (waiter, spot.refused.clone())));
            if spot.waiters.is_empty() && !spot.is_trying {
                spot.unwatch(watcher);
                return false;
            }
            turn.tries.extend(spot.step(path, now));
            turn.until = [turn.until, spot.next()].into_iter().flatten().min();
            true
        });
        turn
    }

    fn hear(&mut self, watcher: &mut Watcher, signals: &Signals, now: Instant) {
        for spot in self.spots.values_mut() {
            if let Some(signal) = spot.watch.as_ref().and_then(|watch| signals.of(watch)) {
                spot.hear(watcher, signal, now);
            }
        }
    }
}

#[derive(Default)]
struct Turn {
    expired: Vec<(Waiter, Refused)>,
    tries: Vec<Try>,
    until: Option<Instant>,
}

/// What a try came to, for those who wait on.
enum Found {
    /// It was refused, and this is the place to wait at, if there can be one.
    Refused(Option<Stake>),
    /// Its waiter has its answer.
    Served,
}

/// One waiter's try to acquire.
struct Try {
    id: WaiterId,
    target: Target,
    thread: u32,
    stake: Option<Stake>,
}

impl Spot {
    fn new(path: &Path) -> Self {
        Self {
            waiters: VecDeque::new(),
            place: Place::at(path),
            stake: None,
            watch: None,
            is_trying: false,
            due: Instant::now(),
            must_try: true,
            vacant: None,
            may_be_closing: false,
            pause: MOMENT,
            ended: None,
            refused: Refused::default(),
        }
    }

    fn take(&mut self, which: &mut impl FnMut(&Waiter) -> bool, taken: &mut Vec<Waiter>) {
        for _ in 0..self.waiters.len() {
            if let Some(waiter) = self.waiters.pop_front() {
                if which(&waiter) { taken.push(waiter) } else { self.waiters.push_back(waiter) }
            }
        }
    }

    /// The next moment at which this spot wants to be looked at.
    fn next(&self) -> Option<Instant> {
        let deadline = self.waiters.iter().filter_map(|waiter| waiter.deadline).min();
        [deadline, (!self.is_trying).then_some(self.due)].into_iter().flatten().min()
    }

    fn hear(&mut self, watcher: &mut Watcher, signal: Signal, now: Instant) {
        self.due = now;
        match signal {
            Signal::Closed => self.may_be_closing = true,
            Signal::Changed => self.change(now),
            Signal::Ended => {
                self.ended = self.stake.as_ref().and_then(Stake::pid);
                self.unwatch(watcher);
                self.change(now);
            }
        }
    }

    fn change(&mut self, now: Instant) {
        self.must_try = true;
        self.vacant.get_or_insert(now);
    }

    fn unwatch(&mut self, watcher: &mut Watcher) {
        if let Some(watch) = self.watch.take() {
            watcher.forget(&watch);
        }
    }

    /// Looks, if it is time to, whether to try.
    fn step(&mut self, path: &Path, now: Instant) -> Option<Try> {
        let waiter = self.waiters.front().filter(|_| !self.is_trying && self.due <= now)?;
        if let Some(place) = &mut self.place {
            place.take(waiter.rank);
        }
        if let Some(stake) = self.stake.as_ref().filter(|_| !self.must_try) {
            let sees_its_end = self.watch.as_ref().is_some_and(Watch::sees_its_holder);
            if stake.is_current(path) && (sees_its_end || stake.is_locked()) {
                // The kernel tells of the close before it lets go of the lock: look once more.
                let soon = std::mem::take(&mut self.may_be_closing);
                self.due = now + if soon { MOMENT } else { ROUTINE };
                return None;
            }
        }
        self.must_try = true;
        let since = now.saturating_duration_since(*self.vacant.get_or_insert(now));
        let has_time = waiter.deadline.is_none_or(|deadline| deadline > now + TURN);
        if has_time && since < TURN && self.place.as_ref().is_some_and(|place| !place.is_first()) {
            self.due = now + since.max(GLANCE);
            return None;
        }
        self.is_trying = true;
        let (target, thread) = (waiter.order.target.clone(), waiter.order.thread);
        Some(Try { id: waiter.id, target, thread, stake: self.stake.take() })
    }

    /// A try is over.
    fn settle(&mut self, watcher: &mut Watcher, found: Found, now: Instant) {
        self.is_trying = false;
        self.vacant = None;
        self.unwatch(watcher);
        let Found::Refused(stake) = found else {
            self.must_try = true;
            self.due = now;
            return;
        };
        let outcome = stake.as_ref().map(|stake| {
            let can_end = stake.pid().is_some() && stake.pid() != self.ended;
            watcher.watch(stake, can_end)
        });
        self.stake = stake;
        match outcome {
            Some(Watched::Yes(watch)) => {
                self.watch = Some(watch);
                self.pause = MOMENT;
                // What changed between the try and the watch, no event tells.
                self.must_try = false;
                self.due = now;
            }
            Some(Watched::Ended) => {
                self.ended = self.stake.as_ref().and_then(Stake::pid);
                self.rest(now);
            }
            Some(Watched::No) | None => self.rest(now),
        }
    }

    /// Without events, pauses that grow.
    fn rest(&mut self, now: Instant) {
        self.must_try = true;
        self.due = now + jittered(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between half and all of `pause`, so that waiters do not come back in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0);
    let share = u32::try_from(random % 512).unwrap_or(0) + 512;
    pause * share / 1024
}

/// The thread that sleeps for all waiters.
fn serve(mut watcher: Watcher) {
    let mut idle_since = None;
    loop {
        let now = Instant::now();
        let turn = {
            let mut service = service();
            let turn = service.turn(&mut watcher, now);
            if !service.spots.is_empty() {
                idle_since = None;
            } else if now.saturating_duration_since(*idle_since.get_or_insert(now)) >= IDLE {
                service.bell = None;
                return;
            }
            turn
        };
        for (waiter, refused) in turn.expired {
            waiter.refuse(refused);
        }
        for attempt in turn.tries {
            run(attempt);
        }
        let until = idle_since.map_or(turn.until, |since| Some(since + IDLE));
        let signals = watcher.wait(until);
        service().hear(&mut watcher, &signals, Instant::now());
    }
}

/// Nobody sleeps for those who wait any more, and the next one starts anew.
fn give_up(panic: &(dyn Any + Send)) {
    let waiters = {
        let mut service = service();
        service.bell = None;
        std::mem::take(&mut service.spots).into_values().flat_map(|spot| spot.waiters).collect::<Vec<_>>()
    };
    let text = panic
        .downcast_ref::<&str>()
        .map_or_else(|| panic.downcast_ref::<String>().cloned(), |text| Some((*text).to_owned()));
    for waiter in waiters {
        (waiter.answer)(Err(Box::new(text.clone().unwrap_or_default())));
    }
}

fn run(Try { id, target, thread, stake }: Try) {
    let path = target.path.clone();
    let work = move || {
        let outcome = protocol::acquire(Os::get(), &target, thread);
        let stake = match &outcome {
            Err(Error::Contention { .. }) => {
                stake.map_or_else(|| Stake::open(&target.path), |stake| stake.renewed(&target.path))
            }
            _ => None,
        };
        (outcome, stake)
    };
    let finish = move |done: thread::Result<_>| match done {
        Ok((outcome, stake)) => finished(&path, id, Ok(outcome), stake),
        Err(panic) => finished(&path, id, Err(panic), None),
    };
    match pool::submit(work) {
        Ok(job) => job.when_done(finish),
        Err(work) => finish(pool::caught(work)),
    }
}

/// A try is over: its waiter gets the lock or the error, or waits on.
fn finished(path: &Path, id: WaiterId, answer: Answer, stake: Option<Stake>) {
    let mut service = service();
    let Some(spot) = service.spots.get_mut(path) else { return };
    let answer = match answer {
        Ok(Err(Error::Contention { holder, reason, .. })) => {
            spot.refused = Refused { holder, reason };
            service.tell(path, Found::Refused(stake));
            return;
        }
        answer => answer,
    };
    let mut served = Vec::new();
    spot.take(&mut |waiter| waiter.id == id, &mut served);
    if let Some(place) = &mut spot.place {
        // Whoever comes next need not wait until this thread has told all of it.
        match spot.waiters.front() {
            Some(next) => place.take(next.rank),
            None => place.leave(),
        }
    }
    drop(service);
    match (served.pop(), answer) {
        (Some(waiter), answer) => (waiter.answer)(answer),
        // Its wait was cancelled, or its time was over, meanwhile.
        (None, Ok(Ok(held))) => drop(protocol::release(Os::get(), held)),
        (None, _) => {}
    }
    self::service().tell(path, Found::Served);
}
