//! The thread that sleeps for all waiters of this process, and the jobs that it dispatches.
#![forbid(unsafe_code)]

use std::any::Any;
use std::hash::BuildHasher;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::files::{Attempted, Batch, Files};
use super::intervals::{CANCEL_GRACE, SHORTEST_RESCAN};
use super::job::{Done, Job, Observed, Outcome, Queue};
use super::losses::{self, Checked, Losses, Report};
use super::paths::Paths;
use super::request::{
    AcquireRequest, Answer, AttemptContext, HeldHere, HeldPath, LastRefusal, PendingCall, WaiterId,
};
use super::{files, job};
use crate::platform::{Arrival, Os, System, Watcher};
use crate::pool::{self, Asleep};
use crate::protocol::error::Error;
use crate::protocol::target::readers_of;
use crate::protocol::{self, CREATION_GRACE, Held};
use crate::table::{self, LockId, Owner, PendingWork};

/// How long the thread exists without waiters.
const IDLE: Duration = Duration::from_secs(1);

/// How long a call without a timeout waits for readers, after it has waited for the creator of an empty file.
const READER_GRACE: Duration = Duration::from_millis(25);

type Waiter = job::Waiter<Files>;

pub(super) struct Service {
    pub(super) paths: Paths<Files>,
    losses: Losses,
    /// The waker of the sleeping thread; `None`: there is no such thread.
    watcher: Option<Watcher>,
    /// The moment at which it wakes up at the latest.
    until: Option<Instant>,
}

static SERVICE: Mutex<Service> =
    Mutex::new(Service { paths: Paths::new(), losses: Losses::new(), watcher: None, until: None });

pub(super) fn service() -> MutexGuard<'static, Service> {
    // No code that runs under this mutex can panic half-way through a change.
    SERVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

const CANCELLED: &str = "the wait was cancelled";

/// Calls `answer` when the lock is acquired, the deadline comes or the wait is cancelled. That is on another thread,
/// except for the error that the sleeping thread could not be started.
pub(crate) fn start(id: WaiterId, request: AcquireRequest, answer: Box<dyn FnOnce(Answer) + Send>) {
    let mut service = service();
    if let Err(error) = service.ensure_thread() {
        drop(service);
        return answer(Ok(Err(request.target.system("pthread_create")(error))));
    }
    let now = Instant::now();
    let (path, deadline) = (request.target.path.clone(), now.checked_add(request.timeout));
    let call = PendingCall { request, empty_file: None, empty_since: None, answer, held_path: None };
    let waiter = Waiter { id, call, arrival: Arrival::now(), deadline, is_cancelled: false, is_last: false };
    add(service, path, waiter, now);
}

fn add(mut service: MutexGuard<'_, Service>, path: PathBuf, waiter: Waiter, now: Instant) {
    let seed = std::collections::hash_map::RandomState::new().hash_one(0);
    let deadline = waiter.deadline;
    let job = service.paths.start(path.clone(), waiter, now, seed);
    service.wake_for(deadline);
    let watcher = service.watcher.clone();
    drop(service);
    if let Some((watcher, job)) = watcher.zip(job) {
        dispatch(&watcher, vec![(path, job)]);
    }
}

/// Cancels a wait, which then does not acquire the lock. It is answered immediately or, during an attempt, within
/// [`CANCEL_GRACE`].
pub(crate) fn cancel(id: WaiterId) {
    let cancelled = {
        let mut service = service();
        let now = Instant::now();
        let cancelled = service.paths.cancel(id, now);
        service.wake_for(now.checked_add(CANCEL_GRACE));
        cancelled
    };
    refuse_all(cancelled, CANCELLED);
}

/// Cancels all waits of an owner.
pub(crate) fn cancel_all(owner: Owner) {
    let cancelled = {
        let mut service = service();
        service.wake_for(Some(Instant::now()));
        service.paths.take(&|waiter| waiter.call.request.owner == owner)
    };
    refuse_all(cancelled, "the thread that waited has ended");
}

/// The last refusal of a waiter; `None`: it does not wait.
pub(crate) fn last_refusal(id: WaiterId) -> Option<LastRefusal> {
    service().paths.last_refusal(id).cloned()
}

/// Calls `report` on another thread if a lock is lost before it is released.
pub(crate) fn report_loss(id: LockId, report: Report) -> io::Result<()> {
    let Some((path, file)) = table::location(id) else { return Ok(()) };
    let mut service = service();
    service.ensure_thread()?;
    let now = Instant::now();
    service.losses.add(id, path, file, report, now);
    service.wake_for(Some(now));
    Ok(())
}

fn on_checked(checked: Checked) {
    let mut service = service();
    let lost = service.losses.on_checked(checked, Instant::now());
    let next = service.losses.next();
    service.wake_for(next);
    drop(service);
    let Some((reason, reports)) = lost else { return };
    for report in reports {
        // The function of a program may panic.
        let _ = pool::catch_panic(|| report(reason));
    }
}

fn refuse_all(waiters: impl IntoIterator<Item = Waiter>, reason: &str) {
    waiters.into_iter().for_each(|waiter| refuse(waiter, reason));
}

#[inline(never)]
fn refuse(waiter: Waiter, reason: &str) {
    waiter.call.refuse(LastRefusal { reason: Some(reason.to_owned()), ..LastRefusal::default() });
}

impl Service {
    /// Starts the sleeping thread unless it exists.
    fn ensure_thread(&mut self) -> io::Result<()> {
        if self.watcher.is_none() {
            let watcher = Watcher::new();
            let sleeping = watcher.clone();
            pool::start_thread(Box::new(move || work(|| serve(&sleeping, None))))?;
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

/// Answers all waiters if the work panics.
fn work(work: impl FnOnce()) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(work)) {
        fail_all(&*panic);
    }
}

/// The loop of the sleeping thread. It hands the sleep to another thread before it does anything that may hang.
fn serve(watcher: &Watcher, asleep: Option<Asleep>) {
    let mut idle_since = None;
    loop {
        let now = Instant::now();
        let (late, jobs, checks, until) = {
            let mut service = service();
            let tick = service.paths.tick(now);
            let checks = service.losses.due(now);
            if !(service.paths.is_empty() && service.losses.is_empty()) {
                idle_since = None;
            } else if now.saturating_duration_since(*idle_since.get_or_insert(now)) >= IDLE {
                service.watcher = None;
                return;
            }
            let next = [tick.until, service.losses.next()].into_iter().flatten().min();
            let until = idle_since.map_or(next, |since| Some(since + IDLE));
            // A recheck that follows a job is due later than this, so it does not wake this thread.
            let until = until.unwrap_or(now + SHORTEST_RESCAN);
            service.until = Some(until);
            (tick.late, tick.jobs, checks, until)
        };
        losses::dispatch(watcher, checks, on_checked);
        for (waiter, refusal) in late {
            if waiter.is_cancelled {
                refuse(waiter, CANCELLED);
            } else {
                waiter.call.refuse(refusal);
            }
        }
        let mut batches = files::batches(jobs);
        if let Some(batch) = batches.pop() {
            for batch in batches {
                dispatch(watcher, batch);
            }
            // This thread is awake; another one would have to wake up first.
            let next = watcher.clone();
            if pool::submit_at_once(move |asleep| work(|| serve(&next, Some(asleep)))) {
                drop(asleep);
                return run(watcher, batch);
            }
            dispatch(watcher, batch);
            continue;
        }
        let events = watcher.wait(Some(until));
        if !events.is_empty() {
            let (mut service, now) = (service(), Instant::now());
            service.paths.on_events(|watch| events.of(watch), now);
            service.losses.on_events(|watch| events.of(watch), now);
        }
    }
}

/// Answers all waiters with a panic. The next wait starts a new sleeping thread.
#[cold]
fn fail_all(panic: &(dyn Any + Send)) {
    let waiters = {
        let mut service = service();
        service.watcher = None;
        service.paths.take_all()
    };
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref().map(String::as_str));
    for waiter in waiters {
        (waiter.call.answer)(Err(Box::new(text.unwrap_or("a panic without a text").to_owned())));
    }
}

/// Runs jobs on another thread.
fn dispatch(watcher: &Watcher, batch: Batch) {
    let watcher = watcher.clone();
    pool::submit_detached(Box::new(move || work(|| run(&watcher, batch))));
}

/// Runs jobs, each with the jobs of its path that follow immediately.
#[inline(never)]
pub(super) fn run(watcher: &Watcher, batch: Batch) {
    let is_alone = batch.len() == 1;
    for (path, job) in batch {
        let mut next = Some(job);
        while let Some(job) = next {
            let (done, _pending) = perform(watcher, &path, job);
            let mut service = service();
            let now = Instant::now();
            next = service.paths.on_done(&path, done, now);
            let moment = service.paths.next(&path);
            service.wake_for(moment);
            drop(service);
            // A take-over pauses, and the other paths of the batch would wait for it.
            if !is_alone && let Some(job) = next.take() {
                dispatch(watcher, vec![(path.clone(), job)]);
            }
        }
    }
}

/// Runs one job. The second value lives until the path has the result.
fn perform(watcher: &Watcher, path: &Path, job: Job<Files>) -> (Done<Files>, Option<PendingWork>) {
    match job {
        Job::Attempt(attempt) => attempt_for(watcher, path, attempt),
        Job::Recheck { file, watches_process } => {
            let is_same = pool::catch_panic(|| files::recheck(path, &file, watches_process)).unwrap_or(false);
            (Done::Rechecked { is_same }, None)
        }
        Job::Observe => {
            let observed =
                pool::catch_panic(|| files::observe_file(watcher, path)).unwrap_or(Observed::Nothing);
            (Done::Observed(observed), None)
        }
    }
}

/// Attempts for a waiter, and answers it if that ends its wait.
fn attempt_for(
    watcher: &Watcher,
    path: &Path,
    attempt: job::Attempt<Files>,
) -> (Done<Files>, Option<PendingWork>) {
    let id = attempt.id;
    let Some(context) = attempt_context(path, id) else {
        refuse_all(taken(path, id), CANCELLED);
        return (Done::Attempted { queue: attempt.queue, outcome: Outcome::Over }, None);
    };
    let (only_creator, mut empty_file, empty_since) =
        (context.only_creator, context.empty_file, context.empty_since);
    // An empty file that is found later is another one: a process puts one after the other at the path.
    let is_late = empty_since.is_some_and(|since| Os::get().monotonic() >= since + CREATION_GRACE);
    // Readers have until the deadline of `await_readers`.
    let is_refused = |error: &Error| {
        only_creator && context.held_file.is_none() && (is_late || !protocol::is_creation_grace(error))
    };
    let done =
        pool::catch_panic(|| files::attempt(watcher, path, &context, attempt, &mut empty_file, is_refused));
    if empty_file.is_some()
        && let Some(waiter) = service().paths.at(path).and_then(|path| path.waiter_mut(id))
    {
        waiter.call.empty_file = empty_file;
        waiter.call.empty_since = empty_since.or(empty_file.map(|(_, since)| since));
    }
    let (attempted, queue) = done.unwrap_or_else(|panic| (Attempted::Answer(Err(panic)), Queue::Unknown));
    let outcome = match attempted {
        Attempted::Not(outcome) => outcome,
        Attempted::Answer(answer) => {
            settle(path, id, answer);
            Outcome::Over
        }
        Attempted::WithoutReaders => {
            deliver_path(path, id);
            Outcome::Over
        }
        Attempted::WithoutPath => {
            acquire_again(path, id);
            Outcome::Over
        }
    };
    (Done::Attempted { queue, outcome }, Some(context.pending))
}

/// The parameters of a waiter's attempt, if it still waits.
fn attempt_context(path: &Path, id: WaiterId) -> Option<AttemptContext> {
    let mut service = service();
    let waiter = service.paths.at(path)?.waiter(id).filter(|waiter| !waiter.is_cancelled)?;
    let PendingCall { request, empty_file, empty_since, held_path, .. } = &waiter.call;
    let (target, pending) = (request.target.clone(), PendingWork::begin(request.owner));
    let (thread, only_creator) = (request.thread, request.only_creator);
    Some(AttemptContext {
        target,
        thread,
        only_creator,
        held_file: held_path.as_ref().and_then(|path| path.held.as_ref()).map(Held::file_id),
        empty_file: *empty_file,
        empty_since: *empty_since,
        pending,
    })
}

/// Answers the waiter of an attempt, unless an earlier call comes first or its lock still has readers.
fn settle(path: &Path, id: WaiterId, answer: Answer) {
    match answer {
        // The next attempt is for the earlier call.
        Ok(Ok(_)) if is_overtaking(path, id) => files::roll_back(answer),
        Ok(Ok(held)) if held.has_readers => await_readers(path, id, held),
        answer => deliver(path, id, answer),
    }
}

fn is_overtaking(path: &Path, id: WaiterId) -> bool {
    service().paths.at(path).is_some_and(|path| path.is_overtaking(id))
}

/// Removes a waiter, if it still waits.
fn taken(path: &Path, id: WaiterId) -> Option<Waiter> {
    service().paths.at(path).and_then(|path| path.take(id))
}

/// Lets a waiter that holds the path of its lock wait for the readers.
pub(super) fn await_readers(path: &Path, id: WaiterId, held: HeldHere) {
    let mut service = service();
    let waiter = service.paths.at(path).and_then(|path| path.take(id));
    let mut waiter = match waiter {
        Some(waiter) if !waiter.is_cancelled => waiter,
        late => {
            drop(service);
            files::roll_back(Ok(Ok(held)));
            return refuse_all(late, CANCELLED);
        }
    };
    let now = Instant::now();
    let PendingCall { request, held_path, .. } = &mut waiter.call;
    if request.only_creator {
        // The call waits for no holder, and a reader that acquires at the same time leaves within microseconds.
        waiter.deadline = Some(now + READER_GRACE);
    }
    *held_path = Some(Box::new(HeldPath { held: Some(held), _pending: PendingWork::begin(request.owner) }));
    add(service, readers_of(path), waiter, now);
}

/// Answers a waiter whose lock has no reader any more.
pub(super) fn deliver_path(path: &Path, id: WaiterId) {
    let Some(mut waiter) = taken(path, id) else { return };
    let held = waiter.call.held_path.as_mut().and_then(|path| path.held.take());
    match held {
        Some(held) if !waiter.is_cancelled => (waiter.call.answer)(Ok(Ok(held))),
        held => {
            if let Some(path) = &mut waiter.call.held_path {
                path.held = held;
            }
            refuse(waiter, CANCELLED);
        }
    }
}

/// Lets a waiter that has lost the path of its lock, such as by a rename of the directory, acquire the path again.
pub(super) fn acquire_again(path: &Path, id: WaiterId) {
    let Some(mut waiter) = taken(path, id) else { return };
    if waiter.is_cancelled {
        return refuse(waiter, CANCELLED);
    }
    let lost = waiter.call.held_path.take();
    let path = waiter.call.request.target.path.clone();
    add(service(), path, waiter, Instant::now());
    // It is rolled back after that, because a disk may hang.
    drop(lost);
}

pub(super) fn deliver(path: &Path, id: WaiterId, answer: Answer) {
    match taken(path, id) {
        Some(waiter) if !waiter.is_cancelled => waiter.call.end(answer),
        // Its wait was cancelled, or its deadline has come, meanwhile.
        waiter => {
            files::roll_back(answer);
            refuse_all(waiter, CANCELLED);
        }
    }
}
