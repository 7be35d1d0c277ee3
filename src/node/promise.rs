//! Promises for work that a slow disk can hold up.
//!
//! A trip through libuv's pool costs two thread wake-ups, several times what the work itself takes. So the
//! JavaScript thread looks for the answer for at most [`LOOK`], which is what a call on a fast disk needs;
//! only then it goes back to its event loop, to be woken. It is never held up for longer than that.

use std::thread;
use std::time::Duration;

use napi::bindgen_prelude::{FnArgs, Unknown};
use napi::{Env, Result};

use super::detach::detached;
use super::failure::to_js;
use super::state::State;
use crate::error::Error;
use crate::pool;

/// How long the JavaScript thread may look for an answer.
const LOOK: Duration = Duration::from_micros(100);

/// Why a promise is rejected.
pub(super) enum Rejection {
    /// By the lock.
    Lock(Error),
    /// By the engine, which is ending.
    Engine(napi::Error),
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

/// Runs `work` on a thread of its own and gives a promise of what `convert`, on this thread, makes of it.
///
/// The promise never settles in the turn of the event loop that asked: a program that tries again and again
/// must not keep its own timers from running.
pub(super) fn promised<'env, T, W, C>(env: &'env Env, work: W, convert: C) -> Result<Unknown<'env>>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
    C: for<'a> FnOnce(&'a Env, T) -> std::result::Result<Unknown<'a>, Rejection> + Send + 'static,
{
    let job = pool::submit(work).map_err(|source| {
        super::thrown(env, Error::System { syscall: "pthread_create", path: "reconcile-lock".into(), source })
    })?;
    let job = match job.look_for(LOOK) {
        Ok(done) => return settle_later(env, converted(env, convert, done)),
        Err(job) => job,
    };
    let (deferred, promise) = env.create_deferred::<Unknown<'static>, Resolver>()?;
    job.when_done(move |done| {
        deferred.resolve(Box::new(move |env: Env| in_turn(env, convert, done)));
    });
    Ok(napi::JsValue::to_unknown(&promise))
}

type Resolver = Box<dyn FnOnce(Env) -> Result<Unknown<'static>> + Send>;

/// What `convert` makes of the answer, unless the work panicked.
fn converted<T, C>(
    env: &Env,
    convert: C,
    done: thread::Result<T>,
) -> std::result::Result<Unknown<'_>, Rejection>
where
    C: for<'a> FnOnce(&'a Env, T) -> std::result::Result<Unknown<'a>, Rejection>,
{
    let broken = |_| Rejection::Engine(napi::Error::from_reason("reconcile-lock has failed internally"));
    convert(env, done.map_err(broken)?)
}

fn in_turn<T, C>(env: Env, convert: C, done: thread::Result<T>) -> Result<Unknown<'static>>
where
    C: for<'a> FnOnce(&'a Env, T) -> std::result::Result<Unknown<'a>, Rejection>,
{
    match converted(&env, convert, done) {
        Ok(value) => Ok(detached(&env, value)),
        Err(Rejection::Engine(error)) => Err(error),
        Err(Rejection::Lock(error)) => Err(napi::Error::from(to_js(&env, error)?)),
    }
}

fn settle_later<'env>(
    env: &'env Env,
    outcome: std::result::Result<Unknown<'env>, Rejection>,
) -> Result<Unknown<'env>> {
    let (ok, value) = match outcome {
        Ok(value) => (true, value),
        Err(Rejection::Engine(error)) => return Err(error),
        Err(Rejection::Lock(error)) => (false, to_js(env, error)?),
    };
    let later = State::of(env)?.later.borrow_back(env)?;
    later.call(FnArgs::from((ok, detached(env, value))))
}
