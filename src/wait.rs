//! Waiting for a holder to let go, without a thread for each waiter.
//!
//! One thread sleeps for all waiters of this process until something can have changed, and then has the first
//! waiter of that path acquire again: on a thread of the pool, unless that cannot hang.
//! Waiters of one path are served in the order in which they came. Among processes, each one's first waiter has
//! a place in a queue (`Place`), and lets those before it try first, for a few milliseconds.
//!
//! All of this decides when to try. Whether a try succeeds, the protocol alone decides.
#![forbid(unsafe_code)]

mod spot;

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::spot::{Found, Look, Next, Queue, Spot, Step, TURN, Tried, Try, Waiter};
use crate::error::Error;
use crate::map::{HASHER, Map};
use crate::pool;
use crate::protocol::{self, Held, LockState};
use crate::record::Holder;
use crate::sys::{Bell, Os, Place, Rank, Signals, Watcher, is_shortage};
use crate::system::System;
use crate::table::{self, Owner, UnderWay};
use crate::target::Target;

/// How long the thread stays when nobody waits.
const IDLE: Duration = Duration::from_secs(1);

type HeldHere = Held<<Os as System>::File>;

/// What a waiter is told; a panic is an answer too.
pub(crate) type Answer = thread::Result<Result<HeldHere, Error>>;

/// Names one waiter in this process, never another one. Who asks for it first is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(crate) u64);

impl WaiterId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Who has the lock, as the last try has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) holder: Option<Holder>,
    pub(crate) reason: Option<String>,
    /// The system call that the last try has failed with for want of descriptors or memory, and its error number.
    pub(crate) shortage: Option<(&'static str, i32)>,
}

/// What a waiter wants.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) owner: Owner,
    pub(crate) thread: u32,
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
}

struct Service {
    spots: Map<PathBuf, Spot>,
    /// What tries have found, for the thread that watches.
    found: Vec<(PathBuf, Found)>,
    /// Wakes that thread; `None`: there is none.
    bell: Option<Bell>,
}

static SERVICE: Mutex<Service> =
    Mutex::new(Service { spots: Map::with_hasher(HASHER), found: Vec::new(), bell: None });

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
    // Who has no time for a turn of others is refused by the lock alone.
    let others_wait = timeout > 2 * TURN && waits_for(&target.path);
    if !others_wait {
        return match protocol::acquire_until(os, target, thread, until) {
            Err(Error::System { source, .. }) if is_shortage(&source) => {
                Err(target.contention(None, Some(source.to_string())))
            }
            outcome => outcome,
        };
    }
    let status = protocol::inspect(os, target)?;
    let is_held = status.state == LockState::Held;
    let reason = (!is_held).then(|| "others were waiting for it before".to_owned());
    Err(target.contention(status.holder.filter(|_| is_held), reason))
}

/// Whether anybody waits for the lock at this path, in this process or another one.
fn waits_for(path: &Path) -> bool {
    service().spots.get(path).is_some_and(|spot| !spot.waiters.is_empty())
        || Place::at(path).is_some_and(|place| place.has_others())
}

/// Calls `answer` once the lock is acquired, the time is over or the wait has been ended; on another thread,
/// unless the system refuses the one that waits, which is an answer too.
pub(crate) fn start(id: WaiterId, order: Order, answer: impl FnOnce(Answer) + Send + 'static) {
    let mut service = service();
    if let Err(error) = service.wake() {
        drop(service);
        return answer(Ok(Err(order.target.system("pthread_create")(error))));
    }
    let now = Instant::now();
    let spot = service.spots.entry(order.target.path.clone()).or_insert_with(|| Spot::new(now));
    let deadline = now.checked_add(order.timeout);
    let (rank, answer) = (Rank::now(), Box::new(answer));
    spot.add(Waiter { id, order, rank, deadline, answer, is_cancelled: false });
}

/// Acquires the lock within `timeout`, on this thread.
pub(crate) fn acquire(
    owner: Owner,
    target: &Target,
    thread: u32,
    timeout: Duration,
) -> Result<HeldHere, Error> {
    let (id, started) = (WaiterId::next(), Instant::now());
    let refused = match try_once(target, thread, timeout) {
        Err(error @ Error::Contention { .. }) => error,
        outcome => return outcome,
    };
    let timeout = timeout.saturating_sub(started.elapsed());
    if timeout.is_zero() {
        return Err(refused);
    }
    if table::is_deadlock(owner, &target.path) {
        return Err(Error::Deadlock { path: target.path.clone() });
    }
    let (tell, told) = oneshot::channel();
    let order = Order { owner, thread, target: target.clone(), timeout };
    start(id, order, move |answer| drop(tell.send(answer)));
    match told.recv() {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => panic::resume_unwind(panic),
        Err(_) => Err(refused),
    }
}

/// Ends a wait. It does not end up with the lock: it is answered at once or, if it is trying, after that.
pub(crate) fn cancel(id: WaiterId) {
    let cancelled = {
        let mut service = service();
        service.ring();
        service.spots.values_mut().find_map(|spot| spot.cancel(id))
    };
    refuse_all(cancelled, CANCELLED);
}

const CANCELLED: &str = "the wait was cancelled";

/// Ends all waits of an owner.
pub(crate) fn cancel_all(owner: Owner) {
    let cancelled = service().take(|waiter| waiter.order.owner == owner);
    refuse_all(cancelled, "the one who waited has ended");
}

fn refuse_all(waiters: impl IntoIterator<Item = Waiter>, reason: &str) {
    for waiter in waiters {
        waiter.refuse(Refused { reason: Some(reason.to_owned()), ..Refused::default() });
    }
}

/// Who has the lock that a waiter waits for; `None`: it waits no more.
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
                    give_up(&*panic);
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

    fn take(&mut self, which: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let taken = self.spots.values_mut().flat_map(|spot| spot.take(&which)).collect();
        self.ring();
        taken
    }

    /// What there is to do now, and until when to sleep after that.
    fn turn(&mut self, watcher: &mut Watcher, now: Instant) -> Turn {
        let paths = self.spots.len();
        for (path, found) in std::mem::take(&mut self.found) {
            if let Some(spot) = self.spots.get_mut(&path) {
                spot.settle(watcher, &path, found, (now, paths));
            }
        }
        let mut turn = Turn::default();
        self.spots.retain(|path, spot| {
            let over = spot.take_done(now);
            turn.over.extend(over.into_iter().map(|waiter| (waiter, spot.refused.clone())));
            if spot.is_over() {
                spot.unwatch(watcher);
                return false;
            }
            match spot.step(path, now) {
                Some(Step::Look(look)) => turn.looks.push(look),
                Some(Step::Try(attempt)) => turn.tries.push(attempt),
                None => {}
            }
            turn.until = [turn.until, spot.next()].into_iter().flatten().min();
            true
        });
        turn
    }

    fn hear(&mut self, watcher: &mut Watcher, signals: &Signals, now: Instant) {
        for spot in self.spots.values_mut() {
            if let Some(signal) = spot.watch().and_then(|watch| signals.of(watch)) {
                spot.hear(watcher, signal, now);
            }
        }
    }
}

#[derive(Default)]
struct Turn {
    over: Vec<(Waiter, Refused)>,
    looks: Vec<Look>,
    tries: Vec<Try>,
    until: Option<Instant>,
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
        for (waiter, refused) in turn.over {
            waiter.refuse(refused);
        }
        for attempt in turn.tries {
            run(attempt);
        }
        if !turn.looks.is_empty() {
            let looked: Vec<_> = turn.looks.into_iter().map(Look::run).collect();
            service().found.extend(looked);
            // An event is for those who have their stake with them.
            continue;
        }
        let until = idle_since.map_or(turn.until, |since| Some(since + IDLE));
        let signals = watcher.wait(until);
        service().hear(&mut watcher, &signals, Instant::now());
    }
}

/// Nobody sleeps for those who wait any more; the next one starts anew.
fn give_up(panic: &(dyn Any + Send)) {
    let spots = {
        let mut service = service();
        service.bell = None;
        std::mem::take(&mut service.spots)
    };
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref().map(String::as_str));
    for waiter in spots.into_values().flat_map(|spot| spot.waiters) {
        (waiter.answer)(Err(Box::new(text.unwrap_or("a panic without a text").to_owned())));
    }
}

fn run(attempt: Try) {
    let (id, path) = (attempt.id, attempt.path().to_owned());
    let under_way = UnderWay::begin(attempt.owner);
    let finish = move |done: thread::Result<_>| {
        match done {
            Ok((tried, queue)) => finished(&path, id, tried, queue),
            Err(panic) => finished(&path, id, Tried::Over(Err(panic)), Queue::Unknown),
        }
        drop(under_way);
    };
    if attempt.is_quick() {
        return finish(pool::caught(move || attempt.run()));
    }
    match pool::submit(move || attempt.run()) {
        Ok(job) => job.when_done(finish),
        Err(work) => finish(pool::caught(work)),
    }
}

/// A try is over: its waiter gets the lock or the error, or waits on.
fn finished(path: &Path, id: WaiterId, tried: Tried, queue: Queue) {
    let next = match tried {
        Tried::Queued => Next::GiveWay,
        Tried::Refused(refused, stake) => {
            if let Some(spot) = service().spots.get_mut(path) {
                spot.refused = refused;
            }
            Next::Wait(stake)
        }
        Tried::Over(answer) => {
            deliver(path, id, answer);
            Next::Serve
        }
    };
    let mut service = service();
    service.found.push((path.to_owned(), Found::Tried { queue, next }));
    service.ring();
}

fn deliver(path: &Path, id: WaiterId, answer: Answer) {
    let waiter = service().spots.get_mut(path).and_then(|spot| spot.take(|waiter| waiter.id == id).pop());
    match (waiter, answer) {
        (Some(waiter), answer) if !waiter.is_cancelled => (waiter.answer)(answer),
        // Its wait was cancelled, or its time was over, meanwhile.
        (waiter, answer) => {
            if let Ok(Ok(held)) = answer {
                let _ = protocol::abandon(Os::get(), held);
            }
            refuse_all(waiter, CANCELLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::table::open_owner;
    use crate::target::LockOptions;

    const LONG: Duration = Duration::from_secs(20);
    const SOON: Duration = Duration::from_millis(150);

    #[test]
    fn a_thread_that_waits_for_its_own_lock_is_told_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let acquire = |directory: &Path, timeout| {
            let lock = LockOptions::in_directory(directory);
            crate::acquire_lock(&crate::AcquireOptions { lock, timeout })
        };
        let lock = acquire(directory.path(), Duration::ZERO).expect("free");
        assert!(matches!(acquire(directory.path(), LONG), Err(Error::Deadlock { .. })));
        assert!(matches!(acquire(directory.path(), Duration::ZERO), Err(Error::Contention { .. })));
        let path = directory.path().to_owned();
        let other = thread::spawn(move || acquire(&path, Duration::from_millis(10)).err());
        assert!(matches!(other.join(), Ok(Some(Error::Contention { .. }))), "another thread waits");
        lock.release().expect("held");
    }

    fn target(directory: &tempfile::TempDir) -> Target {
        LockOptions::in_directory(directory.path()).resolve().expect("a path")
    }

    fn hold(target: &Target) -> HeldHere {
        protocol::acquire(Os::get(), target, 0).expect("free")
    }

    fn release(held: HeldHere) {
        protocol::release(Os::get(), held).expect("released");
    }

    fn waiting(owner: Owner, target: &Target, timeout: Duration) -> (WaiterId, mpsc::Receiver<Answer>) {
        let (tell, told) = mpsc::channel();
        let order = Order { owner, thread: 0, target: target.clone(), timeout };
        let id = WaiterId::next();
        start(id, order, move |answer| drop(tell.send(answer)));
        (id, told)
    }

    fn answer(told: &mpsc::Receiver<Answer>) -> Result<HeldHere, Error> {
        told.recv_timeout(LONG).expect("an answer").expect("no panic")
    }

    fn until_refused(id: WaiterId) -> Refused {
        let started = Instant::now();
        while started.elapsed() < LONG {
            if let Some(refused) = refused(id).filter(|refused| refused.holder.is_some()) {
                return refused;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("no try was refused");
    }

    #[test]
    fn who_waits_gets_the_lock_once_it_is_released_and_knows_its_holder_until_then() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        let held = hold(&target);
        let (id, told) = waiting(Owner::PROGRAM, &target, Duration::MAX);
        assert_eq!(until_refused(id).holder.map(|holder| holder.pid), Some(std::process::id()));
        release(held);
        release(answer(&told).expect("acquired"));
        assert_eq!(refused(id), None);
    }

    #[test]
    fn time_is_over_neither_early_nor_late() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        let held = hold(&target);
        let started = Instant::now();
        let refused = acquire(Owner::PROGRAM, &target, 0, SOON);
        assert!(started.elapsed() >= SOON && started.elapsed() < LONG / 4, "{:?}", started.elapsed());
        assert!(matches!(refused, Err(Error::Contention { holder: Some(_), .. })), "{refused:?}");
        release(held);
    }

    #[test]
    fn a_wait_that_is_cancelled_is_answered_and_takes_no_lock() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        let held = hold(&target);
        let (id, told) = waiting(Owner::PROGRAM, &target, Duration::MAX);
        until_refused(id);
        cancel(id);
        assert!(matches!(answer(&told), Err(Error::Contention { .. })));
        release(held);
        assert!(!target.path.exists());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_wait_that_is_cancelled_gives_up_its_place_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        let held = hold(&target);
        let place = Place::at(&target.path).expect("a local directory");
        let took = || {
            let (id, told) = waiting(Owner::PROGRAM, &target, Duration::MAX);
            until_refused(id);
            // The looks that follow a refusal are over.
            thread::sleep(Duration::from_millis(20));
            let started = Instant::now();
            cancel(id);
            while place.has_others() {
                assert!(started.elapsed() < LONG, "it keeps its place");
                thread::sleep(Duration::from_micros(100));
            }
            drop(told);
            started.elapsed()
        };
        // A machine that is busy may take its time, but not each time; without an event it takes 60 ms and more.
        let quickest = (0..5).map(|_| took()).min();
        assert!(quickest < Some(Duration::from_millis(30)), "{quickest:?}");
        release(held);
    }

    #[test]
    fn the_end_of_an_owner_ends_its_waits_and_nobody_elses() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        let held = hold(&target);
        let (gone, stays) = (open_owner(), open_owner());
        let (_, first) = waiting(gone, &target, Duration::MAX);
        let (_, second) = waiting(stays, &target, Duration::MAX);
        cancel_all(gone);
        assert!(matches!(answer(&first), Err(Error::Contention { .. })));
        release(held);
        release(answer(&second).expect("acquired"));
    }

    #[test]
    fn waiters_of_one_process_are_served_in_their_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        let held = hold(&target);
        let waiters: Vec<_> = (0..20).map(|_| waiting(Owner::PROGRAM, &target, Duration::MAX).1).collect();
        release(held);
        for (number, told) in waiters.iter().enumerate() {
            let held = answer(told).expect("acquired");
            let later = waiters[number + 1..].iter().filter(|told| told.try_recv().is_ok()).count();
            assert_eq!(later, 0, "nobody overtakes");
            release(held);
        }
    }

    #[test]
    fn who_asked_first_is_served_first_whoever_is_entered_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        let held = hold(&target);
        let ids = [WaiterId::next(), WaiterId::next(), WaiterId::next()];
        let (tell, told) = mpsc::channel();
        for id in [ids[2], ids[0], ids[1]] {
            let tell = tell.clone();
            let order = Order { owner: Owner::PROGRAM, thread: 0, target: target.clone(), timeout: LONG };
            start(id, order, move |answer| drop(tell.send((id, answer))));
            until_refused(id);
        }
        release(held);
        for id in ids {
            let (first, answer) = told.recv_timeout(LONG).expect("an answer");
            assert_eq!(first, id);
            release(answer.expect("no panic").expect("acquired"));
        }
    }

    #[test]
    fn a_wait_that_is_cancelled_while_it_tries_is_answered_after_that_and_its_lock_is_given_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        // A birth, which the first try waits for.
        std::fs::write(&target.path, "").expect("written");
        let (id, told) = waiting(Owner::PROGRAM, &target, Duration::MAX);
        let is_trying = || service().spots.get(&target.path).is_some_and(|spot| spot.is_tried_by(id));
        let started = Instant::now();
        while !is_trying() && started.elapsed() < LONG {
            thread::sleep(Duration::from_millis(1));
        }
        cancel(id);
        assert!(told.recv_timeout(SOON).is_err(), "it is told before it is over");
        assert!(matches!(answer(&told), Err(Error::Contention { .. })));
        let next = acquire(Owner::PROGRAM, &target, 0, LONG).expect("given back");
        assert!(next.taken_over.is_some(), "what it found is told to the next one");
        release(next);
    }

    #[test]
    #[cfg(unix)]
    fn an_error_is_an_answer_to_everybody() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory);
        let held = hold(&target);
        let waiters: Vec<_> = (0..3).map(|_| waiting(Owner::PROGRAM, &target, Duration::MAX)).collect();
        until_refused(waiters[0].0);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/nowhere", &link).expect("linked");
        std::fs::rename(&link, &target.path).expect("replaced");
        for (_, told) in &waiters {
            assert!(matches!(answer(told), Err(Error::Symlink { .. })));
        }
        drop(held);
    }

    #[test]
    fn what_no_event_tells_is_noticed_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let (inner, moved) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::create_dir(&inner).expect("made");
        let target = LockOptions::in_directory(&inner).resolve().expect("a path");
        let held = hold(&target);
        let (id, told) = waiting(Owner::PROGRAM, &target, Duration::MAX);
        until_refused(id);
        // The file keeps its name and its directory: nothing is told of it.
        std::fs::rename(&inner, &moved).expect("renamed");
        std::fs::create_dir(&inner).expect("made");
        release(answer(&told).expect("acquired"));
        drop(held);
    }
}
