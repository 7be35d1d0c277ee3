//! The functions that JavaScript calls. They convert arguments and results, and call the core.

#![allow(clippy::trivially_copy_pass_by_ref, reason = "the lifetime of `&Env` is that of the scope's values")]

mod acquired;
mod args;
#[cfg(target_env = "musl")]
mod at_exit;
mod deferred;
mod errors;
mod exit;
mod held;
mod js_thread;
mod lock;
mod outcome;
#[cfg(feature = "panic-probe")]
mod panic_probe;
mod promise;
mod state;
mod status;
mod waiting;

use std::path::Path;
use std::time::Duration;

use napi::bindgen_prelude::{FnArgs, Function, ToNapiValue, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::api;
use crate::platform::Os;
use crate::protocol::target::Target;
use crate::protocol::{self, PauseLimit};
use crate::refusals;
use crate::table::{self, LockId, Owner, PendingWork};
use crate::wait;

use acquired::Acquired;
use args::{target, target_of};
use errors::{guarded, to_js};
use outcome::{Answer, Settle, Value, Work};
use promise::{AwaitCreator, promised, promised_or};
use state::State;
use status::JsStatus;

/// The version of this binary: the JavaScript of another version must not use it.
#[napi]
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

fn attempt(owner: Owner, thread: u32, target: Target, timeout: Duration, claimable: bool) -> Work {
    let pending = PendingWork::begin(owner);
    Box::new(move || {
        let held = wait::try_once(&target, thread, timeout)?;
        let acquired = Acquired::add(owner, held, target, claimable);
        drop(pending);
        acquired.map(Value::Lock)
    })
}

/// One attempt to acquire, which does not wait for a holder; `timeout` bounds its other pauses. A lock that it returns
/// without a promise is the program's after `deliver`.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone; otherwise it returns a failure, as do all functions here.
#[napi(catch_unwind, ts_return_type = "unknown[] | JsLock | Promise<unknown[] | JsLock>")]
pub fn acquire<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] message: Unknown<'env>,
    settings: u32,
    timeout: f64,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let target = target!(env, Some(cwd), file, Some(message), Some(settings));
        let State { owner, thread, .. } = *State::of(env)?;
        let timeout = waiting::duration_of(timeout);
        let work = attempt(owner, thread, target.clone(), timeout, true);
        let await_creator = move |settle: Settle| {
            let of_waiter = target.clone();
            let answer = move |done: wait::Answer| {
                settle(done.map(|held| {
                    held.and_then(|held| Acquired::add(owner, held, of_waiter, true).map(Value::Lock))
                }));
            };
            wait::start_for_creator(owner, thread, target, Box::new(answer));
        };
        let await_creator: Option<AwaitCreator> =
            if timeout.is_zero() { Some(Box::new(await_creator)) } else { None };
        promised_or(env, work, await_creator)
    })
}

/// As `acquire`, but synchronous. `null`: the filesystem has not answered yet; `waitSlice` of `id` waits for that.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | JsLock | null")]
pub fn acquire_sync<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] message: Unknown<'env>,
    settings: u32,
    timeout: f64,
    id: f64,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let target = target!(env, Some(cwd), file, Some(message), Some(settings));
        let timeout = waiting::duration_of(timeout);
        let state = State::of(env)?;
        let State { owner, thread, .. } = *state;
        if timeout.is_zero() {
            let held = refusals::acquire(&target, thread, PauseLimit::Bounded);
            let acquired = held.and_then(|held| Acquired::add(owner, held, target, false));
            return state.create.returned(env, acquired.map(Value::Lock), true);
        }
        waiting::attempt_sync(env, state, id, target.clone(), attempt(owner, thread, target, timeout, false))
    })
}

/// The lock that this thread holds at that path; `null`: it holds none under this name.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | number | null")]
pub fn find_held<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let path = target!(env, Some(cwd), file, None, None).path;
        table::find_at(State::of(env)?.owner, &path).map(LockId::to_number).into_unknown(env)
    })
}

/// Releases this thread's lock of that path, and returns which it was.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | number | null | Promise<unknown[] | number | null>")]
pub fn release<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let path = target!(env, Some(cwd), file, None, None).path;
        let owner = State::of(env)?.owner;
        promised(env, move || released_by(owner, &path))
    })
}

/// As `release`, before it returns.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | number | null")]
pub fn release_sync<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let path = target!(env, Some(cwd), file, None, None).path;
        let State { owner, create, .. } = State::of(env)?;
        create.returned(env, released_by(*owner, &path), true)
    })
}

fn released_by(owner: Owner, path: &Path) -> Answer {
    let Some(id) = table::find(owner, path) else { return Ok(Value::Id(None)) };
    table::release(id).transpose().map(|released| Value::Id(released.map(|()| id.to_number())))
}

/// See `inspectLock` in `index.d.ts`.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | JsStatus | Promise<unknown[] | JsStatus>")]
pub fn inspect<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
    settings: u32,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let target = target!(env, Some(cwd), file, None, Some(settings));
        promised(env, move || inspected(&target))
    })
}

/// See `inspectLockSync` in `index.d.ts`.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | JsStatus")]
pub fn inspect_sync<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
    settings: u32,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let target = target!(env, Some(cwd), file, None, Some(settings));
        State::of(env)?.create.returned(env, inspected(&target), true)
    })
}

fn inspected(target: &Target) -> Answer {
    // Made here, because a thread of the pool may wait while it reads the readers.
    api::inspect(target).map(|status| Value::Status(Box::new(JsStatus::from(status))))
}

/// See `breakLock` in `index.d.ts`.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | boolean | Promise<unknown[] | boolean>")]
pub fn break_lock<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] message: Unknown<'env>,
    settings: u32,
    force: bool,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let target = target!(env, Some(cwd), file, Some(message), Some(settings));
        promised(env, move || protocol::break_lock(Os::get(), &target, force).map(Value::Flag))
    })
}

/// See `resolveLockPath` in `index.d.ts`.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | string")]
pub fn resolve_path<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let target = target!(env, Some(cwd), file, None, None);
        args::text_of(&target.path).into_unknown(env)
    })
}

/// The path of a lock in its real directory; the path itself if that directory cannot be resolved.
///
/// # Errors
/// As `acquire`.
#[napi(catch_unwind, ts_return_type = "unknown[] | string | Promise<unknown[] | string>")]
pub fn real_path<'env>(
    env: &'env Env,
    #[napi(ts_arg_type = "string | undefined")] cwd: Unknown<'env>,
    #[napi(ts_arg_type = "string | undefined")] file: Unknown<'env>,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        let target = target!(env, Some(cwd), file, None, None);
        promised(env, move || Ok(Value::Path(args::text_of(&api::real_path(&target.path)))))
    })
}

/// Ends every wait and releases every lock of this thread, before the process exits. Calls `report` with the id and the
/// reason of each lock that was lost.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn release_all(env: &Env, report: Function<'_, FnArgs<(f64, &'static str)>, ()>) -> Result<()> {
    guarded(env, || {
        let owner = State::of(env)?.owner;
        wait::cancel_all(owner);
        table::await_pending(owner);
        let mut losses = table::release_all(owner).into_iter();
        losses.try_for_each(move |(id, reason)| report.call((id.to_number(), reason).into()))
    })
}
