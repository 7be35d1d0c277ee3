//! Promises for work that a slow disk can hold up.
//!
//! A trip through libuv's pool costs two thread wake-ups, several times what the work itself takes. So the
//! JavaScript thread looks for the answer for at most [`SPIN_LIMIT`], which is what a call on a fast disk needs;
//! only then it goes back to its event loop, to be woken. It is never held up for longer than that.

use std::thread;
use std::time::Duration;

use napi::bindgen_prelude::{ToNapiValue, Unknown};
use napi::{Env, Result};

use super::JsStatus;
use super::errors::{created_by, guarded, internal, to_js};
use super::lock::{Acquired, Create};
use super::state::State;
use crate::pool;
use crate::protocol;
use crate::protocol::error::Error;

/// How long the JavaScript thread may spin for an answer, from the submission of the work.
pub(super) const SPIN_LIMIT: Duration = Duration::from_micros(100);

/// The value of a call. One type for all calls: the code for promises is there once.
pub(super) enum Value {
    Lock(Acquired),
    Flag(bool),
    /// Of a lock.
    Id(Option<f64>),
    Status(Box<JsStatus>),
}

/// The outcome of a call that does not panic.
pub(super) type Answer = std::result::Result<Value, Error>;

/// How a call ended; a panic is an outcome too.
pub(super) type Outcome = thread::Result<Answer>;

/// Goes on with a call whose first attempt did not decide it.
pub(super) type GoOn = Box<dyn FnOnce(Settle) + Send>;

/// Work for a thread of the pool.
pub(super) type Work = Box<dyn FnOnce() -> Answer + Send>;

/// Settles a promise.
pub(super) type Settle = Box<dyn FnOnce(Outcome) + Send>;

/// The return value of a call: its value, or the array of its failure. An `Err` is an error of the engine.
pub(super) fn returned<'env>(
    env: &'env Env,
    answer: Answer,
    create: Option<&Create<'env>>,
) -> Result<Unknown<'env>> {
    match answer {
        Ok(Value::Lock(acquired)) => match (acquired.into_lock(), create) {
            (Ok(lock), Some(create)) => lock.created_by(&create.lock),
            (Ok(lock), None) => lock.into_unknown(env),
            (Err(error), _) => to_js(env, error),
        },
        Ok(Value::Flag(flag)) => flag.into_unknown(env),
        Ok(Value::Id(id)) => id.into_unknown(env),
        Ok(Value::Status(status)) => status.into_unknown(env),
        Err(error) => match create {
            Some(create) => created_by(env, &create.failure, error),
            None => to_js(env, error),
        },
    }
}

/// As [`returned`], of an outcome that may be a panic.
pub(super) fn finished<'env>(
    env: &'env Env,
    outcome: Outcome,
    create: Option<&Create<'env>>,
) -> Result<Unknown<'env>> {
    match outcome {
        Ok(answer) => returned(env, answer, create),
        Err(panic) => Err(internal(env, &panic).into()),
    }
}

/// Runs `work` on a thread of its own. Gives its value, or a promise of that.
///
/// `lib/native.ts` gives the program what is there at once in a later turn of the event loop: a program that tries
/// again and again must not keep its own timers from running.
pub(super) fn promised(env: &Env, work: impl FnOnce() -> Answer + Send + 'static) -> Result<Unknown<'_>> {
    promised_or(env, Box::new(work), None, None)
}

/// As [`promised`], but if the lock is in its creation grace period, `go_on` gets the function that settles the promise.
pub(super) fn promised_or<'env>(
    env: &'env Env,
    work: Work,
    go_on: Option<GoOn>,
    create: Option<&Create<'env>>,
) -> Result<Unknown<'env>> {
    #[cfg(feature = "panic-probe")]
    let work: Work = Box::new(|| {
        super::panic_probe::reached("work");
        work()
    });
    let is_open = |done: &Outcome| matches!(done, Ok(Err(error)) if protocol::is_creation_grace(error));
    let job = match pool::submit(work).spin_for(SPIN_LIMIT) {
        Ok(done) if go_on.is_none() || !is_open(&done) => return settled(env, done, create),
        job => job,
    };
    let (settle, promise) = State::of(env)?.promises.deferred(env)?;
    let finish = move |done| match go_on {
        Some(go_on) if is_open(&done) => go_on(settle),
        _ => settle(done),
    };
    match job {
        Ok(done) => finish(done),
        Err(job) => job.when_done(finish),
    }
    Ok(promise)
}

/// As [`finished`], but a panic of the conversion is an error too.
pub(super) fn settled<'env>(
    env: &'env Env,
    done: Outcome,
    create: Option<&Create<'env>>,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        #[cfg(feature = "panic-probe")]
        super::panic_probe::reached("settling");
        finished(env, done, create)
    })
}
