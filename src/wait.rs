//! Waiting for a holder to release, without a thread for each waiter.
//!
//! One thread sleeps for all waiters of this process until something can have changed. What is to be done then, `path.rs`
//! decides for each path; files are touched by threads that may hang, so that a deadline and the locks of another disk
//! depend on nothing but themselves. Waiters of one path are served in the order in which they came. Among processes,
//! each one's first waiter has a place in a queue, and lets those before it attempt first, for a few milliseconds.
//!
//! All of this decides when to attempt. Whether an attempt succeeds, the protocol alone decides.
#![forbid(unsafe_code)]

mod jobs;
mod path;
mod paths;
#[cfg(test)]
mod simulation;
#[cfg_attr(not(target_os = "linux"), path = "wait/unwatched_file.rs")]
mod watched_file;

use std::any::Any;
use std::hash::BuildHasher;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::jobs::{Attempted, Batch, Files};
use self::path::{Done, Job, Observed, Outcome, QUEUE_YIELD, Queue, SHORTEST_RESCAN};
use self::paths::Paths;
use crate::platform::{Arrival, Os, QueueTicket, System, Watcher, is_shortage};
use crate::pool;
use crate::protocol::error::Error;
use crate::protocol::record::Holder;
use crate::protocol::target::Target;
use crate::protocol::{self, BIRTH, EmptyFile, Held, LockState};
use crate::table::{self, Owner, UnderWay};

/// How long a first attempt pauses for others, such as the creator of an empty file.
const PAUSES: Duration = Duration::from_millis(25);

/// What a first attempt has at least: it is to be refused by the lock and not by a busy machine.
const FIRST_ANSWER: Duration = Duration::from_millis(200);

/// How long a call without a timeout waits for the creator of an empty file, if it is one of very many.
const CREATION: Duration = BIRTH.saturating_mul(5);

/// How long the thread stays when nobody waits.
const IDLE: Duration = Duration::from_secs(1);

type HeldHere = Held<<Os as System>::File>;
type Waiter = path::Waiter<Files>;

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

/// Who has the lock, as the last attempt has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) holder: Option<Holder>,
    pub(crate) reason: Option<String>,
    /// The system call that the last attempt has failed with for want of descriptors or memory, and its error number.
    pub(crate) shortage: Option<(&'static str, i32)>,
}

impl Refused {
    fn by(contention: Error) -> Self {
        match contention {
            Error::Contention { holder, reason, .. } => Self { holder, reason, shortage: None },
            _ => Self::default(),
        }
    }
}

/// What a waiter wants.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) owner: Owner,
    pub(crate) thread: u32,
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
    /// Waits for the creator of an empty file, and for nobody else.
    pub(crate) only_creator: bool,
}

/// What a waiter's attempt needs.
struct Wanted {
    target: Target,
    thread: u32,
    only_creator: bool,
    empty_file: EmptyFile,
    empty_since: Option<Duration>,
    under_way: UnderWay,
}

/// What a waiter wants, and how to answer it.
struct Request {
    order: Order,
    empty_file: EmptyFile,
    /// When the first empty file was seen.
    empty_since: Option<Duration>,
    answer: Box<dyn FnOnce(Answer) + Send>,
}

impl Request {
    fn refuse(self, Refused { holder, reason, shortage }: Refused) {
        let target = self.order.target;
        let error = match shortage {
            Some((syscall, code)) => target.system(syscall)(io::Error::from_raw_os_error(code)),
            None => target.contention(holder, reason),
        };
        (self.answer)(Ok(Err(error)));
    }
}

struct Service {
    paths: Paths<Files>,
    /// Of the thread that sleeps; `None`: there is none.
    watcher: Option<Watcher>,
    /// Until when it sleeps at most.
    until: Option<Instant>,
}

static SERVICE: Mutex<Service> = Mutex::new(Service { paths: Paths::new(), watcher: None, until: None });

fn service() -> MutexGuard<'static, Service> {
    // No code that runs under this mutex can panic half-way through a change.
    SERVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One attempt, which does not wait for a holder, on a thread that nobody else needs for the while of [`PAUSES`].
/// `timeout` is that of the whole call: with one, it comes after those that wait already.
pub(crate) fn try_once(target: &Target, thread: u32, timeout: Duration) -> Result<HeldHere, Error> {
    let os = Os::get();
    let until = os.monotonic().checked_add(if timeout.is_zero() { PAUSES } else { timeout.min(PAUSES) });
    // Who has no time for those who came before is refused by the lock alone.
    let others_wait = timeout > 2 * QUEUE_YIELD && waits_for(&target.path);
    if !others_wait {
        return match protocol::acquire_until(os, target, thread, until, &mut None) {
            Err(Error::System { source, .. }) if !timeout.is_zero() && is_shortage(&source) => {
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

/// [`try_once`], for no longer than `timeout` whatever the disk does.
fn first_attempt(target: &Target, thread: u32, timeout: Duration) -> Result<HeldHere, Error> {
    let of_pool = target.clone();
    let job = pool::submit(move || try_once(&of_pool, thread, timeout));
    let (tell, told) = oneshot::channel();
    job.when_done(move |done| {
        if let Err(late) = tell.send(done) {
            jobs::roll_back(late.into_inner());
        }
    });
    let end = Instant::now().checked_add(timeout.max(FIRST_ANSWER));
    let done = match end {
        Some(end) => told.recv_deadline(end).ok(),
        None => told.recv().ok(),
    };
    match done {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => panic::resume_unwind(panic),
        None => Err(unanswered(target)),
    }
}

/// The refusal of a call whose first attempt is not over at its deadline.
pub(crate) fn unanswered(target: &Target) -> Error {
    target.contention(None, Some("the file system has not answered".to_owned()))
}

/// Whether anybody waits for the lock at this path, in this process or another one.
fn waits_for(path: &Path) -> bool {
    service().paths.has_waiters(path) || QueueTicket::at(path).is_some_and(|ticket| ticket.has_others())
}

/// Calls `answer` once the lock is acquired, the deadline has come or the wait has been cancelled; on another thread,
/// unless the system refuses the one that sleeps, which is an answer too.
pub(crate) fn start(id: WaiterId, order: Order, answer: Box<dyn FnOnce(Answer) + Send>) {
    let mut service = service();
    if let Err(error) = service.begin() {
        drop(service);
        return answer(Ok(Err(order.target.system("pthread_create")(error))));
    }
    let now = Instant::now();
    let (path, deadline) = (order.target.path.clone(), now.checked_add(order.timeout));
    let request = Request { order, empty_file: None, empty_since: None, answer };
    let waiter = Waiter { id, request, arrival: Arrival::now(), deadline, is_cancelled: false };
    let seed = std::collections::hash_map::RandomState::new().hash_one(0);
    let job = service.paths.start(path.clone(), waiter, now, seed);
    service.wake_for(deadline);
    let watcher = service.watcher.clone();
    drop(service);
    if let Some((watcher, job)) = watcher.zip(job) {
        dispatch(&watcher, vec![(path, job)]);
    }
}

/// Waits for the creator of an empty file, and for nobody else, where a first attempt has found one.
pub(crate) fn start_for_creator(
    owner: Owner,
    thread: u32,
    target: Target,
    answer: Box<dyn FnOnce(Answer) + Send>,
) {
    let order = Order { owner, thread, target, timeout: CREATION, only_creator: true };
    start(WaiterId::next(), order, answer);
}

/// Acquires the lock within `timeout`, on this thread.
pub(crate) fn acquire(
    owner: Owner,
    target: &Target,
    thread: u32,
    timeout: Duration,
) -> Result<HeldHere, Error> {
    if timeout.is_zero() {
        return protocol::acquire(Os::get(), target, thread);
    }
    let (id, started) = (WaiterId::next(), Instant::now());
    let refused = match first_attempt(target, thread, timeout) {
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
    let order = Order { owner, thread, target: target.clone(), timeout, only_creator: false };
    start(id, order, Box::new(move |answer| drop(tell.send(answer))));
    match told.recv() {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => panic::resume_unwind(panic),
        Err(_) => Err(refused),
    }
}

/// Ends a wait. It does not end up with the lock: it is answered at once or, if it attempts, a moment later at most.
pub(crate) fn cancel(id: WaiterId) {
    let cancelled = {
        let mut service = service();
        let now = Instant::now();
        let cancelled = service.paths.cancel(id, now);
        service.wake_for(now.checked_add(path::CANCEL_GRACE));
        cancelled
    };
    refuse_all(cancelled, CANCELLED);
}

const CANCELLED: &str = "the wait was cancelled";

/// Ends all waits of an owner.
pub(crate) fn cancel_all(owner: Owner) {
    let cancelled = {
        let mut service = service();
        service.wake_for(Some(Instant::now()));
        service.paths.take(&|waiter| waiter.request.order.owner == owner)
    };
    refuse_all(cancelled, "the one who waited has ended");
}

fn refuse_all(waiters: impl IntoIterator<Item = Waiter>, reason: &str) {
    waiters.into_iter().for_each(|waiter| refuse(waiter, reason));
}

#[inline(never)]
fn refuse(waiter: Waiter, reason: &str) {
    waiter.request.refuse(Refused { reason: Some(reason.to_owned()), ..Refused::default() });
}

/// Who has the lock that a waiter waits for; `None`: it waits no more.
pub(crate) fn refused(id: WaiterId) -> Option<Refused> {
    service().paths.refused(id).cloned()
}

impl Service {
    /// Starts the thread that sleeps if there is none.
    fn begin(&mut self) -> io::Result<()> {
        if self.watcher.is_none() {
            let watcher = Watcher::new();
            let sleeping = watcher.clone();
            let thread = thread::Builder::new().name("reconcile-lock".to_owned()).stack_size(pool::STACK);
            thread.spawn(move || work(&sleeping, None))?;
            self.watcher = Some(watcher);
        }
        Ok(())
    }

    /// Wakes the thread if it would sleep for too long.
    fn wake_for(&mut self, moment: Option<Instant>) {
        let Some(moment) = moment else { return };
        if self.until.is_none_or(|until| moment < until)
            && let Some(watcher) = &self.watcher
        {
            self.until = Some(moment);
            watcher.wake();
        }
    }
}

/// Runs jobs, or sleeps for all.
fn work(watcher: &Watcher, batch: Option<Batch>) {
    let work = || match batch {
        Some(batch) => run(watcher, batch),
        None => serve(watcher),
    };
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(work)) {
        fail_all(&*panic);
    }
}

/// The thread that sleeps. It passes on its part before it does anything that may hang.
fn serve(watcher: &Watcher) {
    let mut idle_since = None;
    loop {
        let now = Instant::now();
        let (late, jobs, until) = {
            let mut service = service();
            let tick = service.paths.tick(now);
            if !service.paths.is_empty() {
                idle_since = None;
            } else if now.saturating_duration_since(*idle_since.get_or_insert(now)) >= IDLE {
                service.watcher = None;
                return;
            }
            let until = idle_since.map_or(tick.until, |since| Some(since + IDLE));
            // A job ends with a recheck that is due later than that: it need not wake this thread.
            let until = until.unwrap_or(now + SHORTEST_RESCAN);
            service.until = Some(until);
            (tick.late, tick.jobs, until)
        };
        for (waiter, refused) in late {
            if waiter.is_cancelled {
                refuse(waiter, CANCELLED);
            } else {
                waiter.request.refuse(refused);
            }
        }
        let mut batches = jobs::batches(jobs);
        if let Some(batch) = batches.pop() {
            for batch in batches {
                dispatch(watcher, batch);
            }
            // This thread is awake, another one would have to wake up.
            let next = watcher.clone();
            if pool::submit_at_once(Box::new(move || work(&next, None))) {
                return run(watcher, batch);
            }
            dispatch(watcher, batch);
            continue;
        }
        let events = watcher.wait(Some(until));
        if !events.is_empty() {
            service().paths.on_events(|watch| events.of(watch), Instant::now());
        }
    }
}

/// Nobody sleeps for those who wait any more; the next one starts anew.
#[cold]
fn fail_all(panic: &(dyn Any + Send)) {
    let waiters = {
        let mut service = service();
        service.watcher = None;
        service.paths.take_all()
    };
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref().map(String::as_str));
    for waiter in waiters {
        (waiter.request.answer)(Err(Box::new(text.unwrap_or("a panic without a text").to_owned())));
    }
}

/// Runs jobs on another thread.
fn dispatch(watcher: &Watcher, batch: Batch) {
    let watcher = watcher.clone();
    pool::submit_detached(Box::new(move || work(&watcher, Some(batch))));
}

/// Runs jobs, each with those of the same path that follow at once.
#[inline(never)]
fn run(watcher: &Watcher, batch: Batch) {
    for (path, job) in batch {
        let mut next = Some(job);
        while let Some(job) = next {
            let (done, _under_way) = perform(watcher, &path, job);
            let mut service = service();
            let now = Instant::now();
            next = service.paths.on_done(&path, done, now);
            let moment = service.paths.next(&path);
            service.wake_for(moment);
        }
    }
}

/// The second value lasts until the path knows how the job ended.
fn perform(watcher: &Watcher, path: &Path, job: Job<Files>) -> (Done<Files>, Option<UnderWay>) {
    match job {
        Job::Attempt(attempt) => attempt_for(watcher, path, attempt),
        Job::Recheck { file, sees_process } => {
            let is_same = pool::caught(|| jobs::recheck(path, &file, sees_process)).unwrap_or(false);
            (Done::Rechecked { is_same }, None)
        }
        Job::Observe => {
            let observed = pool::caught(|| jobs::observe_file(watcher, path)).unwrap_or(Observed::Nothing);
            (Done::Observed(observed), None)
        }
    }
}

/// Attempts for a waiter, and answers it if that ends its wait.
fn attempt_for(
    watcher: &Watcher,
    path: &Path,
    attempt: path::Attempt<Files>,
) -> (Done<Files>, Option<UnderWay>) {
    let id = attempt.id;
    let Some(wanted) = wanted(path, id) else {
        refuse_all(taken(path, id), CANCELLED);
        return (Done::Attempted { queue: attempt.queue, outcome: Outcome::Over }, None);
    };
    let Wanted { target, thread, only_creator, mut empty_file, empty_since, under_way } = wanted;
    // An empty file that is met later is another one: somebody puts one after the other at the path.
    let is_late = empty_since.is_some_and(|since| Os::get().monotonic() >= since + BIRTH);
    let is_refused = |error: &Error| only_creator && (is_late || !protocol::is_creation_grace(error));
    let done = pool::caught(|| jobs::attempt(watcher, &target, thread, attempt, &mut empty_file, is_refused));
    if empty_file.is_some()
        && let Some(waiter) = service().paths.at(path).and_then(|path| path.waiter_mut(id))
    {
        waiter.request.empty_file = empty_file;
        waiter.request.empty_since = empty_since.or(empty_file.map(|(_, since)| since));
    }
    let (attempted, queue) = done.unwrap_or_else(|panic| (Attempted::Answer(Err(panic)), Queue::Unknown));
    let outcome = match attempted {
        Attempted::Not(outcome) => outcome,
        Attempted::Answer(answer) => {
            deliver(path, id, answer);
            Outcome::Over
        }
    };
    (Done::Attempted { queue, outcome }, Some(under_way))
}

/// What a waiter wants, unless it waits no more.
fn wanted(path: &Path, id: WaiterId) -> Option<Wanted> {
    let mut service = service();
    let waiter = service.paths.at(path)?.waiter(id).filter(|waiter| !waiter.is_cancelled)?;
    let Request { order, empty_file, empty_since, .. } = &waiter.request;
    let (target, under_way) = (order.target.clone(), UnderWay::begin(order.owner));
    let (thread, only_creator) = (order.thread, order.only_creator);
    Some(Wanted {
        target,
        thread,
        only_creator,
        empty_file: *empty_file,
        empty_since: *empty_since,
        under_way,
    })
}

/// Takes out a waiter, unless it waits no more.
fn taken(path: &Path, id: WaiterId) -> Option<Waiter> {
    service().paths.at(path).and_then(|path| path.take(&|waiter| waiter.id == id).pop())
}

fn deliver(path: &Path, id: WaiterId, answer: Answer) {
    match taken(path, id) {
        Some(waiter) if !waiter.is_cancelled => (waiter.request.answer)(answer),
        // Its wait was cancelled, or its deadline has come, meanwhile.
        waiter => {
            jobs::roll_back(answer);
            refuse_all(waiter, CANCELLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::protocol::target::LockOptions;
    use crate::table::open_owner;

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
        let order = Order { owner, thread: 0, target: target.clone(), timeout, only_creator: false };
        let id = WaiterId::next();
        start(id, order, Box::new(move |answer| drop(tell.send(answer))));
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
        let place = QueueTicket::at(&target.path).expect("a local directory");
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
            let order = Order {
                owner: Owner::PROGRAM,
                thread: 0,
                target: target.clone(),
                timeout: LONG,
                only_creator: false,
            };
            start(id, order, Box::new(move |answer| drop(tell.send((id, answer)))));
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
