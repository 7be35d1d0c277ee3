//! The face that JavaScript sees. It converts and hands on; what a lock is stands in the core.

#![allow(clippy::trivially_copy_pass_by_ref, reason = "the lifetime of `&Env` is that of the scope's values")]

mod args;
mod detach;
mod failure;
mod lock;
#[cfg(feature = "panic-probe")]
mod probe;
mod promise;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use napi::bindgen_prelude::{ToNapiValue, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::error::Error;
use crate::pool::On;
use crate::protocol::{self, LockState, LockStatus};
use crate::sys::Os;
use crate::table;
use crate::wait;

use args::{Allowed, Request};
use failure::{guarded, thrown};
use lock::{Acquired, JsHolder};
use promise::{Rejection, promised};
use state::State;

/// Lets go of an `acquire` that is under way.
#[napi]
#[derive(Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
}

#[napi]
impl Cancel {
    /// Nothing is cancelled yet.
    #[napi(constructor, catch_unwind)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A wait ends soon; a lock that is won all the same is still delivered.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

/// `inspectLock`'s answer.
#[napi(object, object_from_js = false)]
pub struct JsStatus {
    /// The lock file.
    pub path: String,
    /// `free`, `held` or `stale`.
    #[napi(ts_type = "'free' | 'held' | 'stale'")]
    pub state: &'static str,
    /// Who holds it or left it behind.
    pub holder: Option<JsHolder>,
    /// One sentence for a person.
    pub reason: String,
}

impl From<LockStatus> for JsStatus {
    fn from(status: LockStatus) -> Self {
        Self {
            path: args::text_of(&status.path),
            state: match status.state {
                LockState::Free => "free",
                LockState::Held => "held",
                LockState::Stale => "stale",
            },
            holder: status.holder.map(JsHolder::from),
            reason: status.reason,
        }
    }
}

fn start_acquire(
    env: &Env,
    target: Unknown<'_>,
    cancel: Option<&Cancel>,
) -> Result<impl FnOnce(On) -> std::result::Result<Acquired, Error> + Send + 'static> {
    let request = Request::parse(env, target, Allowed::Acquire)?;
    let state = State::of(env)?;
    let (owner, thread) = (state.owner, state.thread);
    let flag = cancel.map(|cancel| Arc::clone(&cancel.flag)).unwrap_or_default();
    Ok(move |on| {
        // The JavaScript thread can do the work of a moment in place of another one. It must not wait.
        if let (On::Caller(source), false) = (on, request.timeout.is_zero()) {
            return Err(Error::System { syscall: "pthread_create", path: request.target.path, source });
        }
        let held = wait::acquire(Os::get(), &request.target, thread, request.timeout, &flag)?;
        Acquired::enter(owner, held)
    })
}

/// See `acquireLock` in `index.d.ts`.
///
/// # Errors
/// As documented there.
#[napi(catch_unwind, ts_return_type = "Promise<JsLock>")]
pub fn acquire<'env>(
    env: &'env Env,
    target: Unknown<'env>,
    cancel: Option<&Cancel>,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let work = start_acquire(env, target, cancel)?;
        State::of(env)?.begin(env)?;
        promised(env, work, |env, outcome| match outcome.map_err(Rejection::from) {
            Ok(Ok(acquired)) => Ok(acquired.into_lock().into_unknown(env)?),
            Ok(Err(error)) => failed_acquire(env, error.into()),
            Err(panic) => failed_acquire(env, panic),
        })
    })
}

fn failed_acquire(env: &Env, why: Rejection) -> std::result::Result<Unknown<'_>, Rejection> {
    State::of(env)?.end(env)?;
    Err(why)
}

/// See `acquireLockSync` in `index.d.ts`.
///
/// # Errors
/// As documented there.
#[napi(catch_unwind)]
pub fn acquire_sync(env: &Env, target: Unknown<'_>) -> Result<lock::JsLock> {
    guarded(env, || {
        let acquired = start_acquire(env, target, None)?(On::Pool).map_err(|error| thrown(env, error))?;
        State::of(env)?.begin(env)?;
        Ok(acquired.into_lock())
    })
}

/// See `releaseLock` in `index.d.ts`.
///
/// # Errors
/// As documented there.
#[napi(catch_unwind, ts_return_type = "Promise<void>")]
pub fn release<'env>(env: &'env Env, target: Unknown<'env>) -> Result<Unknown<'env>> {
    guarded(env, || {
        let path = Request::parse(env, target, Allowed::Lock)?.target.path;
        let owner = State::of(env)?.owner;
        promised(env, move |_| table::find(owner, &path).and_then(table::release), lock::released)
    })
}

/// See `releaseLockSync` in `index.d.ts`.
///
/// # Errors
/// As documented there.
#[napi(catch_unwind)]
pub fn release_sync(env: &Env, target: Unknown<'_>) -> Result<()> {
    guarded(env, || {
        let path = Request::parse(env, target, Allowed::Lock)?.target.path;
        let state = State::of(env)?;
        lock::settle_release(env, table::find(state.owner, &path).and_then(table::release))
    })
}

/// See `inspectLock` in `index.d.ts`.
///
/// # Errors
/// As documented there.
#[napi(catch_unwind, ts_return_type = "Promise<JsStatus>")]
pub fn inspect<'env>(env: &'env Env, target: Unknown<'env>) -> Result<Unknown<'env>> {
    guarded(env, || {
        let target = Request::parse(env, target, Allowed::Lock)?.target;
        promised(
            env,
            move |_| protocol::inspect(Os::get(), &target),
            |env, outcome| Ok(JsStatus::from(outcome??).into_unknown(env)?),
        )
    })
}

/// See `inspectLockSync` in `index.d.ts`.
///
/// # Errors
/// As documented there.
#[napi(catch_unwind)]
pub fn inspect_sync(env: &Env, target: Unknown<'_>) -> Result<JsStatus> {
    guarded(env, || {
        let target = Request::parse(env, target, Allowed::Lock)?.target;
        protocol::inspect(Os::get(), &target).map(JsStatus::from).map_err(|error| thrown(env, error))
    })
}

/// See `breakLock` in `index.d.ts`.
///
/// # Errors
/// As documented there.
#[napi(catch_unwind, ts_return_type = "Promise<boolean>")]
pub fn break_lock<'env>(env: &'env Env, target: Unknown<'env>) -> Result<Unknown<'env>> {
    guarded(env, || {
        let request = Request::parse(env, target, Allowed::Break)?;
        promised(
            env,
            move |_| protocol::break_lock(Os::get(), &request.target, request.force),
            |env, outcome| Ok(outcome??.into_unknown(env)?),
        )
    })
}

/// See `resolveLockPath` in `index.d.ts`.
///
/// # Errors
/// As documented there.
#[napi(catch_unwind)]
pub fn resolve_path(env: &Env, cwd: Unknown<'_>) -> Result<String> {
    guarded(env, || Ok(args::text_of(&Request::parse(env, cwd, Allowed::Directory)?.target.path)))
}

/// Releases every lock of this environment, before the process exits.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn release_all(env: &Env) -> Result<()> {
    guarded(env, || {
        table::release_all(State::of(env)?.owner);
        Ok(())
    })
}
