//! Acquires within a timeout: a first attempt, then a wait.
#![forbid(unsafe_code)]

use std::panic::{self};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::files;
use super::intervals::QUEUE_YIELD;
use super::request::{AcquireRequest, Answer, HeldHere, WaiterId};
use super::service::{cancel, service, start};
use crate::platform::{Os, QueueTicket, System, is_shortage};
use crate::pool;
use crate::protocol::error::Error;
use crate::protocol::holder::describe;
use crate::protocol::target::Target;
use crate::protocol::{self, CREATION_GRACE, LockState, LockStatus, PauseLimit};
use crate::refusals;
use crate::table::{self, Owner};

/// How long a first attempt pauses for others, such as the creator of an empty file.
const FIRST_ATTEMPT_PAUSE: Duration = Duration::from_millis(25);

/// The shortest time for a first attempt: a busy machine must not be the reason of a refusal.
const FIRST_ANSWER: Duration = Duration::from_millis(200);

/// How long a call without a timeout waits for the creator of an empty file, among very many calls.
const CREATOR_TIMEOUT: Duration = CREATION_GRACE.saturating_mul(5);

/// Acquires the first of `slots` that is free, within `timeout`, on this thread.
pub(crate) fn acquire(
    owner: Owner,
    slots: &[Target],
    thread: u32,
    timeout: Duration,
) -> Result<HeldHere, Error> {
    let (id, started) = (WaiterId::next(), Instant::now());
    let mut refusals = Refusals { last: None, slots: slots.len() };
    for target in slots {
        let outcome = if timeout.is_zero() {
            refusals::acquire(target, thread, PauseLimit::Bounded)
        } else {
            first_attempt(target, thread, timeout.saturating_sub(started.elapsed()))
        };
        refusals.add(match outcome {
            Err(error @ Error::Contention { .. }) => error,
            outcome => return outcome,
        });
        // The disk hangs.
        if !timeout.is_zero() && started.elapsed() >= timeout.max(FIRST_ANSWER) {
            break;
        }
    }
    let timeout = timeout.saturating_sub(started.elapsed());
    if timeout.is_zero() {
        return Err(refusals.into_error(&slots[0]));
    }
    wait(owner, slots, thread, timeout, id, refusals)
}

/// Waits for the first of `slots` that its holder releases. `id` is that of the call.
fn wait(
    owner: Owner,
    slots: &[Target],
    thread: u32,
    timeout: Duration,
    id: WaiterId,
    mut refusals: Refusals,
) -> Result<HeldHere, Error> {
    let waiting: Vec<_> = slots.iter().filter(|target| !table::is_deadlock(owner, &target.path)).collect();
    if waiting.is_empty() {
        return Err(Error::Deadlock { path: slots[0].path.clone() });
    }
    let (sender, receiver) = mpsc::channel::<Answer>();
    let mut ids = Vec::with_capacity(waiting.len());
    for target in waiting {
        let id = if ids.is_empty() { id } else { WaiterId::next() };
        let request = AcquireRequest { owner, thread, target: target.clone(), timeout, only_creator: false };
        let sender = sender.clone();
        start(id, request, Box::new(move |answer| drop(sender.send(answer))));
        ids.push(id);
    }
    drop(sender);
    let decisive = receiver.iter().find_map(|answer| match answer {
        Ok(Err(error @ Error::Contention { .. })) => {
            refusals.add(error);
            None
        }
        answer => Some(answer),
    });
    if ids.len() > 1 {
        ids.into_iter().for_each(cancel);
    }
    // Each wait is answered, so this ends. A second slot is rolled back.
    receiver.into_iter().for_each(files::roll_back);
    match decisive {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => panic::resume_unwind(panic),
        None => Err(refusals.into_error(&slots[0])),
    }
}

/// The refusals of the slots of one call.
struct Refusals {
    /// The last one that names a holder or a reason.
    last: Option<Error>,
    slots: usize,
}

impl Refusals {
    fn add(&mut self, refusal: Error) {
        if refusal.holder().is_some() || refusal.reason().is_some() {
            self.last = Some(refusal);
        }
    }

    fn into_error(self, target: &Target) -> Error {
        let (holder, reason) = match self.last {
            Some(Error::Contention { holder, reason, .. }) => (holder, reason),
            _ => (None, None),
        };
        let all = (self.slots > 1).then(|| format!("all {} slots are held", self.slots));
        target.contention(holder, reason.or(all))
    }
}

/// [`try_once`] within `timeout`, also if the disk hangs.
fn first_attempt(target: &Target, thread: u32, timeout: Duration) -> Result<HeldHere, Error> {
    let of_pool = target.clone();
    let job = pool::submit(move || try_once(&of_pool, thread, timeout));
    let (sender, receiver) = oneshot::channel();
    job.when_done(move |done| {
        if let Err(late) = sender.send(done) {
            files::roll_back(late.into_inner());
        }
    });
    let end = Instant::now().checked_add(timeout.max(FIRST_ANSWER));
    let done = match end {
        Some(end) => receiver.recv_deadline(end).ok(),
        None => receiver.recv().ok(),
    };
    match done {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => panic::resume_unwind(panic),
        None => Err(target.contention(None, Some("the filesystem has not answered".to_owned()))),
    }
}

/// One attempt, which does not wait for a holder, nor longer than [`FIRST_ATTEMPT_PAUSE`] for a creator. `timeout` is
/// that of the whole call: with a timeout, the call pauses for nothing else longer, and queues behind the waiters that
/// exist.
pub(crate) fn try_once(target: &Target, thread: u32, timeout: Duration) -> Result<HeldHere, Error> {
    let os = Os::get();
    let pause_limit = if timeout.is_zero() {
        PauseLimit::ForCreatorUntil(os.monotonic() + FIRST_ATTEMPT_PAUSE)
    } else {
        PauseLimit::Until(os.monotonic() + timeout.min(FIRST_ATTEMPT_PAUSE))
    };
    // A call without time to queue attempts immediately.
    let others_wait = timeout > 2 * QUEUE_YIELD && waits_for(&target.path);
    let outcome = if others_wait {
        Err(behind_others(os, target))
    } else {
        refusals::acquire(target, thread, pause_limit)
    };
    match outcome {
        Err(Error::System { source, .. }) if !timeout.is_zero() && is_shortage(&source) => {
            Err(target.contention(None, Some(source.to_string())))
        }
        outcome => outcome,
    }
}

/// The refusal of a call that queues behind the waiters that exist.
pub(super) fn behind_others(os: &Os, target: &Target) -> Error {
    let (holder, reason) = match protocol::inspect(os, target) {
        Ok(LockStatus { state: LockState::Held, holder, reason, .. }) => {
            // The sentence of a status describes a holder that runs; an error has no reason then.
            let runs = holder.as_ref().is_some_and(|holder| reason.starts_with(&describe(holder)));
            (holder, (!runs).then_some(reason))
        }
        Ok(_) => (None, Some("other waiters are ahead".to_owned())),
        Err(error) => return error,
    };
    target.contention(holder, reason)
}

/// Whether a waiter for the lock at this path exists, in this process or another one.
fn waits_for(path: &Path) -> bool {
    service().paths.has_waiters(path) || QueueTicket::at(path).is_some_and(|ticket| ticket.has_others())
}

/// Waits for the creator of an empty file that a first attempt has found, but not for a holder.
pub(crate) fn start_for_creator(
    owner: Owner,
    thread: u32,
    target: Target,
    answer: Box<dyn FnOnce(Answer) + Send>,
) {
    let request = AcquireRequest { owner, thread, target, timeout: CREATOR_TIMEOUT, only_creator: true };
    start(WaiterId::for_creator(), request, answer);
}
