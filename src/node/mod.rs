//! The face that JavaScript sees. It converts and hands on; what a lock is stands in the core.

#![allow(clippy::trivially_copy_pass_by_ref, reason = "the lifetime of `&Env` is that of the scope's values")]

mod args;
#[cfg(target_env = "musl")]
mod at_exit;
mod detach;
mod end;
mod failure;
mod lock;
#[cfg(feature = "panic-probe")]
mod probe;
mod promise;
mod state;
mod waiting;

use std::path::Path;

use napi::bindgen_prelude::{ToNapiValue, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::error::Error;
use crate::protocol::{self, LockState, LockStatus};
use crate::sys::Os;
use crate::table::{self, Owner};
use crate::wait;

use args::{Allowed, Request};
use failure::{guarded, thrown};
use lock::{Acquired, JsHolder};
use promise::promised;
use state::State;

/// Which version this binary is of: another's JavaScript must not use it.
#[napi]
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

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
) -> Result<impl FnOnce() -> std::result::Result<Acquired, Error> + Send + 'static> {
    let request = Request::parse(env, target, Allowed::Acquire)?;
    let state = State::of(env)?;
    let (owner, thread) = (state.owner, state.thread);
    Ok(move || {
        let held = wait::try_once(&request.target, thread, request.timeout)?;
        Acquired::enter(owner, held)
    })
}

/// One try to acquire, which does not wait for a holder; `timeout` bounds what else there is to wait for.
///
/// # Errors
/// As `acquireLock` in `index.d.ts`.
#[napi(catch_unwind, ts_return_type = "Promise<JsLock>")]
pub fn acquire<'env>(env: &'env Env, target: Unknown<'env>) -> Result<Unknown<'env>> {
    guarded(env, || {
        promised(env, start_acquire(env, target)?, |env, outcome| {
            Ok(outcome??.into_lock().into_unknown(env)?)
        })
    })
}

/// As `acquire`, before it returns.
///
/// # Errors
/// As `acquireLockSync` in `index.d.ts`.
#[napi(catch_unwind)]
pub fn acquire_sync(env: &Env, target: Unknown<'_>) -> Result<lock::JsLock> {
    guarded(env, || {
        let acquired = start_acquire(env, target)?().map_err(|error| thrown(env, error))?;
        Ok(acquired.into_lock())
    })
}

/// Releases this environment's lock of that path, and says which it was.
///
/// # Errors
/// As `releaseLock` in `index.d.ts`.
#[napi(catch_unwind, ts_return_type = "Promise<number | null>")]
pub fn release<'env>(env: &'env Env, target: Unknown<'env>) -> Result<Unknown<'env>> {
    guarded(env, || {
        let path = Request::parse(env, target, Allowed::Lock)?.target.path;
        let owner = State::of(env)?.owner;
        promised(env, move || released_by(owner, &path), |env, outcome| Ok(outcome??.into_unknown(env)?))
    })
}

/// As `release`, before it returns.
///
/// # Errors
/// As `releaseLockSync` in `index.d.ts`.
#[napi(catch_unwind)]
pub fn release_sync(env: &Env, target: Unknown<'_>) -> Result<Option<f64>> {
    guarded(env, || {
        let path = Request::parse(env, target, Allowed::Lock)?.target.path;
        released_by(State::of(env)?.owner, &path).map_err(|error| thrown(env, error))
    })
}

fn released_by(owner: Owner, path: &Path) -> std::result::Result<Option<f64>, Error> {
    let Some(id) = table::find(owner, path) else { return Ok(None) };
    table::release(id).transpose().map(|released| released.map(|()| id.to_number()))
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
            move || protocol::inspect(Os::get(), &target),
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
            move || protocol::break_lock(Os::get(), &request.target, request.force),
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

/// Ends every wait and releases every lock of this environment, before the process exits.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn release_all(env: &Env) -> Result<()> {
    guarded(env, || {
        let owner = State::of(env)?.owner;
        wait::cancel_all(owner);
        table::release_all(owner);
        Ok(())
    })
}
