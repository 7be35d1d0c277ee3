//! Promises for work that a slow disk can delay.
//!
//! A trip through libuv's pool costs two thread wake-ups, several times the work itself. So the JavaScript thread
//! polls for the answer for at most [`SPIN_LIMIT`], the time that a call on a fast disk needs. Then it returns to its
//! event loop, which the answer wakes.

use std::time::Duration;

use napi::bindgen_prelude::Unknown;
use napi::{Env, Result};

use super::outcome::{Answer, Outcome, Settle, Work};
use super::state::State;
use crate::pool;
use crate::protocol;

/// How long the JavaScript thread may spin for an answer, from the submission of the work.
pub(super) const SPIN_LIMIT: Duration = Duration::from_micros(100);

/// Waits for the creator of the lock file, then settles the promise of the call.
pub(super) type AwaitCreator = Box<dyn FnOnce(Settle) + Send>;

/// Runs `work` on a thread of its own. Gives its value, or a promise of that.
///
/// `lib/native.ts` settles a call whose value is there in a later turn of the event loop if this one has taken long, so
/// that the timers of a program that retries in a loop run.
pub(super) fn promised(env: &Env, work: impl FnOnce() -> Answer + Send + 'static) -> Result<Unknown<'_>> {
    promised_or(env, Box::new(work), None)
}

/// As [`promised`], but if the lock is in its creation grace period, `await_creator` gets the function that settles the
/// promise.
pub(super) fn promised_or(env: &Env, work: Work, await_creator: Option<AwaitCreator>) -> Result<Unknown<'_>> {
    #[cfg(feature = "panic-probe")]
    let work: Work = Box::new(|| {
        super::panic_probe::reached("work");
        work()
    });
    let is_being_created =
        |done: &Outcome| matches!(done, Ok(Err(error)) if protocol::is_creation_grace(error));
    let job = match pool::submit(work).spin_for(SPIN_LIMIT) {
        Ok(done) if await_creator.is_none() || !is_being_created(&done) => {
            return State::of(env)?.create.settled(env, done, false);
        }
        job => job,
    };
    let (settle, promise) = State::of(env)?.promises.deferred(env)?;
    let finish = move |done| match await_creator {
        Some(await_creator) if is_being_created(&done) => await_creator(settle),
        _ => settle(done),
    };
    match job {
        Ok(done) => finish(done),
        Err(job) => job.when_done(finish),
    }
    Ok(promise)
}
