//! Promises for work that a slow disk can hold up.
//!
//! A trip through libuv's pool costs two thread wake-ups, several times what the work itself takes. So the
//! JavaScript thread looks for the answer for at most [`SPIN_LIMIT`], which is what a call on a fast disk needs;
//! only then it goes back to its event loop, to be woken. It is never held up for longer than that.

use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use napi::bindgen_prelude::Unknown;
use napi::{Env, Result};

use super::detach::detached;
use super::errors::{Panic, guarded, internal, to_js};
use crate::pool;
use crate::protocol::error::Error;

/// How long the JavaScript thread may spin for an answer.
pub(super) const SPIN_LIMIT: Duration = Duration::from_micros(100);

/// Why a call has no value.
pub(super) enum Rejection {
    /// By the lock.
    Lock(Error),
    /// By the engine, which is ending.
    Engine(napi::Error),
    /// By a fault of this package.
    Panic(Panic),
}

/// The result for JavaScript: a value or the array of a failure. An `Err` is an error of the engine.
fn returned<'env>(
    env: &'env Env,
    outcome: std::result::Result<Unknown<'env>, Rejection>,
) -> Result<Unknown<'env>> {
    match outcome {
        Ok(value) => Ok(value),
        Err(Rejection::Lock(error)) => to_js(env, error),
        Err(Rejection::Engine(error)) => Err(error),
        Err(Rejection::Panic(panic)) => Err(internal(env, &panic).into()),
    }
}

impl From<Panic> for Rejection {
    fn from(panic: Panic) -> Self {
        Self::Panic(panic)
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self::Lock(error)
    }
}

impl From<napi::Error> for Rejection {
    fn from(error: napi::Error) -> Self {
        Self::Engine(error)
    }
}

/// Runs `work` on a thread of its own. Gives what `convert`, on this thread, makes of it, or a promise of that.
///
/// `lib/native.ts` gives the program what is there at once in a later turn of the event loop: a program that tries
/// again and again must not keep its own timers from running.
pub(super) fn promised<'env, T, W, C>(env: &'env Env, work: W, convert: C) -> Result<Unknown<'env>>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
    C: for<'a> FnOnce(&'a Env, thread::Result<T>) -> std::result::Result<Unknown<'a>, Rejection>
        + Send
        + 'static,
{
    promised_or(env, work, convert, |_| false, |_| {})
}

/// As [`promised`], but if an outcome `is_open`, `go_on` gets the function that settles the promise.
pub(super) fn promised_or<'env, T, W, C>(
    env: &'env Env,
    work: W,
    convert: C,
    is_open: impl Fn(&thread::Result<T>) -> bool + Send + 'static,
    go_on: impl FnOnce(Settle<T>) + Send + 'static,
) -> Result<Unknown<'env>>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
    C: for<'a> FnOnce(&'a Env, thread::Result<T>) -> std::result::Result<Unknown<'a>, Rejection>
        + Send
        + 'static,
{
    let work = || {
        #[cfg(feature = "panic-probe")]
        super::panic_probe::reached("work");
        work()
    };
    let job = match pool::submit(work).spin_for(SPIN_LIMIT) {
        Ok(done) if !is_open(&done) => return returned(env, converted(env, convert, done)),
        job => job,
    };
    let (settle, promise) = deferred(env, convert)?;
    let finish = move |done| if is_open(&done) { go_on(Box::new(settle)) } else { settle(done) };
    match job {
        Ok(done) => finish(done),
        Err(job) => job.when_done(finish),
    }
    Ok(promise)
}

/// Settles a promise.
pub(super) type Settle<T> = Box<dyn FnOnce(thread::Result<T>) + Send>;

/// A promise, and the function that settles it from any thread. `convert` runs on this thread.
pub(super) fn deferred<'env, T, C>(
    env: &'env Env,
    convert: C,
) -> Result<(impl FnOnce(thread::Result<T>) + Send + 'static, Unknown<'env>)>
where
    T: Send + 'static,
    C: for<'a> FnOnce(&'a Env, thread::Result<T>) -> std::result::Result<Unknown<'a>, Rejection>
        + Send
        + 'static,
{
    let (deferred, promise) = env.create_deferred::<Unknown<'static>, Resolver>()?;
    let settle = move |done| deferred.resolve(Box::new(move |env: Env| in_turn(env, convert, done)));
    Ok((settle, napi::JsValue::to_unknown(&promise)))
}

type Resolver = Box<dyn FnOnce(Env) -> Result<Unknown<'static>> + Send>;

/// Converts the answer, which may be a panic.
fn converted<T, C>(
    env: &Env,
    convert: C,
    done: thread::Result<T>,
) -> std::result::Result<Unknown<'_>, Rejection>
where
    C: for<'a> FnOnce(&'a Env, thread::Result<T>) -> std::result::Result<Unknown<'a>, Rejection>,
{
    let convert = || {
        #[cfg(feature = "panic-probe")]
        super::panic_probe::reached("settling");
        convert(env, done)
    };
    panic::catch_unwind(AssertUnwindSafe(convert)).unwrap_or_else(|panic| Err(panic.into()))
}

/// Called by the event loop, through napi, which lets a panic pass.
fn in_turn<T, C>(env: Env, convert: C, done: thread::Result<T>) -> Result<Unknown<'static>>
where
    C: for<'a> FnOnce(&'a Env, thread::Result<T>) -> std::result::Result<Unknown<'a>, Rejection>,
{
    guarded(&env, || Ok(detached(&env, returned(&env, converted(&env, convert, done))?)))
}
