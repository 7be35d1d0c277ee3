//! Waiting for a holder to let go: as a promise, or slice by slice on the JavaScript thread.

use std::thread;
use std::time::Duration;

use napi::bindgen_prelude::{ToNapiValue, Unknown};
use napi::{Env, Result};
use napi_derive::napi;
use oneshot::RecvTimeoutError;

use super::args::{Allowed, Request};
use super::end;
use super::failure::{guarded, internal, thrown};
use super::lock::{Acquired, JsHolder, JsLock};
use super::promise::deferred;
use super::state::State;
use crate::error::Error;
use crate::target::Target;
use crate::wait::{self, Order, WaiterId};

/// How long the try of a wait that is cancelled may hold up its thread: it hangs on a disk, or waits for a birth.
const GRACE: Duration = Duration::from_millis(25);

/// The longest slice while workers end, each of which the process awaits before it ends the next.
const SHORT: Duration = Duration::from_millis(1);

/// How a wait ended; a panic is an outcome too.
pub(super) type Outcome = thread::Result<std::result::Result<Acquired, Error>>;

/// Who has the lock that is waited for.
#[napi(object, object_from_js = false)]
pub struct JsRefused {
    /// Who holds it, if the file says.
    pub holder: Option<JsHolder>,
    /// What the holder alone does not tell.
    pub reason: Option<String>,
}

/// A number for one wait. Who asks for it first is served first.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn next_wait(env: &Env) -> Result<f64> {
    guarded(env, || Ok(number(WaiterId::next())))
}

/// Waits for at most `left` milliseconds, as number `id`.
///
/// # Errors
/// As `acquireLock` in `index.d.ts`.
#[napi(catch_unwind, ts_return_type = "Promise<JsLock>")]
pub fn wait<'env>(env: &'env Env, id: f64, target: Unknown<'env>, left: f64) -> Result<Unknown<'env>> {
    guarded(env, || {
        let (state, target) = (State::of(env)?, Request::parse(env, target, Allowed::Lock)?.target);
        let (settle, lock) =
            deferred(env, |env, outcome: Outcome| Ok(outcome??.into_lock().into_unknown(env)?))?;
        start(state, named(id), target, left, settle);
        Ok(lock)
    })
}

/// As `wait`, for `waitSlice` to sit out.
///
/// # Errors
/// As `acquireLockSync` in `index.d.ts`.
#[napi(catch_unwind)]
pub fn wait_sync(env: &Env, id: f64, target: Unknown<'_>, left: f64) -> Result<()> {
    guarded(env, || {
        let (state, target) = (State::of(env)?, Request::parse(env, target, Allowed::Lock)?.target);
        let (tell, told) = oneshot::channel();
        start(state, named(id), target, left, move |outcome| drop(tell.send(outcome)));
        state.waits.borrow_mut().insert(named(id).0, told);
        Ok(())
    })
}

/// Sleeps for at most `slice` milliseconds; `null`: the wait goes on. Between two slices the engine can end
/// this thread, which it cannot while native code runs.
///
/// # Errors
/// As `acquireLockSync` in `index.d.ts`.
#[napi(catch_unwind)]
pub fn wait_slice(env: &Env, id: f64, slice: f64) -> Result<Option<JsLock>> {
    guarded(env, || {
        let (id, slice) = (named(id), milliseconds(slice));
        let slice = if end::may_come() { slice.min(SHORT) } else { slice };
        let mut waits = State::of(env)?.waits.borrow_mut();
        let outcome = match waits.get(&id.0).map(|told| told.recv_timeout(slice)) {
            Some(Ok(outcome)) => outcome,
            Some(Err(RecvTimeoutError::Timeout)) => return Ok(None),
            Some(Err(RecvTimeoutError::Disconnected)) | None => {
                return Err(napi::Error::from_reason("reconcile-lock: there is no such wait"));
            }
        };
        waits.remove(&id.0);
        match outcome {
            Ok(Ok(acquired)) => Ok(Some(acquired.into_lock())),
            Ok(Err(error)) => Err(thrown(env, error)),
            Err(panic) => Err(internal(env, &panic).into()),
        }
    })
}

/// Ends a wait. It does not end up with the lock, and its promise is rejected; `waitSync` is over when this
/// returns.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn cancel_wait(env: &Env, id: f64) -> Result<()> {
    guarded(env, || {
        wait::cancel(named(id));
        if let Some(told) = State::of(env)?.waits.borrow_mut().remove(&named(id).0) {
            // A lock that was won meanwhile is released with its outcome.
            drop(told.recv_timeout(GRACE));
        }
        Ok(())
    })
}

/// Who has the lock that is waited for; `null` if the wait is over.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn waiting_for(env: &Env, id: f64) -> Result<Option<JsRefused>> {
    guarded(env, || {
        let refused = wait::refused(named(id));
        Ok(refused
            .map(|refused| JsRefused { holder: refused.holder.map(JsHolder::from), reason: refused.reason }))
    })
}

fn start(
    state: &State,
    id: WaiterId,
    target: Target,
    left: f64,
    answer: impl FnOnce(Outcome) + Send + 'static,
) {
    let State { owner, thread, .. } = *state;
    let order = Order { owner, thread, target, timeout: milliseconds(left) };
    wait::start(id, order, move |done| {
        answer(done.map(|outcome| outcome.and_then(|held| Acquired::enter(owner, held))));
    });
}

fn milliseconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number / 1000.0).unwrap_or(if number > 0.0 {
        Duration::MAX
    } else {
        Duration::ZERO
    })
}

#[expect(clippy::cast_precision_loss, reason = "at a million waits a second, 285 years")]
fn number(id: WaiterId) -> f64 {
    id.0 as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only our own numbers come back")]
fn named(id: f64) -> WaiterId {
    WaiterId(id as u64)
}
