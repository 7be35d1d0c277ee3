//! Waiting for a holder to release: as a promise, or slice by slice on the JavaScript thread.

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{Null, ToNapiValue, Unknown};
use napi::{Env, Result};
use napi_derive::napi;
use oneshot::RecvTimeoutError;

use super::acquired::Acquired;
use super::args::{target, target_of};
use super::errors::{guarded, to_js};
use super::exit;
use super::lock::JsHolder;
use super::outcome::{Settle, Value, Work};
use super::promise::SPIN_LIMIT;
use super::state::{State, SyncWait};
use crate::pool;
use crate::protocol::error::Error;
use crate::protocol::target::Target;
use crate::table::{self, Owner};
use crate::wait::{self, AcquireRequest, WaiterId};

/// How long the attempt of a cancelled wait may block its thread: a disk may block it.
const ROLLBACK_GRACE: Duration = Duration::from_millis(25);

/// The longest slice while workers end, each of which the process awaits before it ends the next.
const EXIT_SLICE: Duration = Duration::from_millis(1);

/// The last refusal of a wait.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsRefused {
    /// The holder, if the record was readable.
    pub holder: Option<JsHolder>,
    /// The reason beside the holder.
    pub reason: Option<String>,
}

/// Runs a first attempt, which a disk may delay, for at most a moment.
pub(super) fn attempt_sync<'env>(
    env: &'env Env,
    state: &State,
    id: f64,
    target: Target,
    work: Work,
) -> Result<Unknown<'env>> {
    match pool::submit(work).spin_for(SPIN_LIMIT) {
        Ok(done) => state.create.finished(env, done, true),
        Err(job) => {
            let (sender, receiver) = oneshot::channel();
            job.when_done(move |outcome| drop(sender.send(outcome)));
            state.waits.borrow_mut().insert(WaiterId::from_number(id).0, SyncWait::new(receiver, target));
            Null.into_unknown(env)
        }
    }
}

/// The id of a new waiter. Ids are in arrival order.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn next_waiter_id(env: &Env) -> Result<f64> {
    guarded(env, || Ok(WaiterId::next().to_number()))
}

/// Waits for at most `left` milliseconds, as the waiter `id`.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone; otherwise it returns a failure.
#[napi(catch_unwind, ts_return_type = "unknown[] | Promise<unknown[] | JsLock>")]
pub fn wait<'env>(
    env: &'env Env,
    id: f64,
    #[napi(ts_arg_type = "string")] file: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] message: Unknown<'env>,
    settings: u32,
    left: f64,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let state = State::of(env)?;
        let target = target!(env, None, file, Some(message), Some(settings));
        let (settle, lock) = state.promises.deferred(env)?;
        start(state, WaiterId::from_number(id), target, left, true, settle);
        Ok(lock)
    })
}

/// As `wait`; `waitSlice` then waits for the answer.
///
/// # Errors
/// As `wait`.
#[napi(catch_unwind, ts_return_type = "unknown[] | null")]
pub fn wait_sync<'env>(
    env: &'env Env,
    id: f64,
    #[napi(ts_arg_type = "string")] file: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] message: Unknown<'env>,
    settings: u32,
    left: f64,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let state = State::of(env)?;
        let target = target!(env, None, file, Some(message), Some(settings));
        if table::is_deadlock(state.owner, &target.path) {
            return to_js(env, &state.create.failure, Error::Deadlock { path: target.path });
        }
        let (sender, receiver) = oneshot::channel();
        let settle = Box::new(move |outcome| drop(sender.send(outcome)));
        start(state, WaiterId::from_number(id), target.clone(), left, false, settle);
        state.waits.borrow_mut().insert(WaiterId::from_number(id).0, SyncWait::new(receiver, target));
        Null.into_unknown(env)
    })
}

/// Sleeps for at most `slice` milliseconds; `null`: the wait continues. Between two slices the engine can end
/// this thread, which it cannot while native code runs.
///
/// # Errors
/// As `wait`.
#[napi(catch_unwind, ts_return_type = "unknown[] | JsLock | null")]
pub fn wait_slice(env: &Env, id: f64, slice: f64) -> Result<Unknown<'_>> {
    guarded(env, || {
        let (id, slice) = (WaiterId::from_number(id), duration_of(slice));
        let slice = if exit::is_exit_likely() { slice.min(EXIT_SLICE) } else { slice };
        let State { owner, waits, create, .. } = State::of(env)?;
        let mut waits = waits.borrow_mut();
        let claimed = waits.get(&id.0).and_then(|wait| claim(*owner, wait));
        // Its record may not be synced, it is of the other mode, or its take-over may not have paused: dropping a claim
        // rolls it back, and the wait then acquires by itself.
        let is_wanted = |acquired: &Acquired| {
            waits.get(&id.0).is_some_and(|SyncWait { target, .. }| {
                !target.durable
                    && target.shared == acquired.is_shared()
                    && !(target.legacy && acquired.is_taken_over())
            })
        };
        if let Some(acquired) = claimed.filter(is_wanted) {
            wait::cancel(id);
            waits.remove(&id.0);
            drop(waits);
            return create.returned(env, Ok(Value::Lock(acquired)), true);
        }
        let outcome = match waits.get(&id.0).map(|wait| wait.answer.recv_timeout(slice)) {
            Some(Ok(outcome)) => outcome,
            Some(Err(RecvTimeoutError::Timeout)) => return Null.into_unknown(env),
            Some(Err(RecvTimeoutError::Disconnected)) | None => {
                return Err(napi::Error::from_reason("reconcile-lock: there is no such wait"));
            }
        };
        waits.remove(&id.0);
        // The conversion calls JavaScript.
        drop(waits);
        create.finished(env, outcome, true)
    })
}

/// Claims the lock of a wait, if an asynchronous call of this thread has acquired it. A thread that a disk may block
/// searches it under other names of its directory; a later slice claims what it finds.
fn claim(owner: Owner, SyncWait { target, other, .. }: &SyncWait) -> Option<Acquired> {
    let found = pool::locked(other).take();
    let claimed = Acquired::claim(owner, target, found);
    // One search at a time.
    if claimed.is_none() && Arc::strong_count(other) == 1 && table::has_claimable(owner) {
        let (other, path) = (Arc::clone(other), target.path.clone());
        pool::submit_detached(Box::new(move || {
            let found = table::find_claimable(owner, &path);
            *pool::locked(&other) = found;
        }));
    }
    claimed
}

/// Cancels a wait. It does not acquire the lock, and its promise is rejected; `waitSync` is over when this returns.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn cancel_wait(env: &Env, id: f64) -> Result<()> {
    guarded(env, || {
        wait::cancel(WaiterId::from_number(id));
        if let Some(wait) = State::of(env)?.waits.borrow_mut().remove(&WaiterId::from_number(id).0) {
            // A lock that was acquired meanwhile is released with its outcome.
            drop(wait.answer.recv_timeout(ROLLBACK_GRACE));
        }
        Ok(())
    })
}

/// Lets more, or fewer, pending promises keep the event loop alive.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn keep_alive(env: &Env, change: i32) -> Result<()> {
    guarded(env, || {
        State::of(env)?.promises.keep_alive(env, change);
        Ok(())
    })
}

/// The last refusal of a wait; `null` if the wait is over.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn last_refusal(env: &Env, id: f64) -> Result<Option<JsRefused>> {
    guarded(env, || {
        let refusal = wait::last_refusal(WaiterId::from_number(id));
        Ok(refusal
            .map(|refusal| JsRefused { holder: refusal.holder.map(JsHolder::from), reason: refusal.reason }))
    })
}

fn start(state: &State, id: WaiterId, target: Target, left: f64, claimable: bool, answer: Settle) {
    let State { owner, thread, .. } = *state;
    let request = AcquireRequest {
        owner,
        thread,
        target: target.clone(),
        timeout: duration_of(left),
        only_creator: false,
    };
    let answer = move |done: wait::Answer| {
        answer(done.map(|outcome| {
            outcome.and_then(|held| Acquired::add(owner, held, target, claimable).map(Value::Lock))
        }));
    };
    wait::start(id, request, Box::new(answer));
}

/// The time of a number of milliseconds, which may be infinite.
pub(super) fn duration_of(number: f64) -> Duration {
    Duration::try_from_secs_f64(number / 1000.0).unwrap_or(if number > 0.0 {
        Duration::MAX
    } else {
        Duration::ZERO
    })
}
