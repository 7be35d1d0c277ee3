//! The calls of a lock that is held.

use napi::bindgen_prelude::{FunctionRef, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use super::errors::guarded;
use super::outcome::{Answer, Value};
use super::promise::promised;
use super::state::State;
use crate::table::{self, LockId};
use crate::wait;

/// Whether the lock is held, the path still names its file, and the file is open.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn is_held(env: &Env, id: f64) -> Result<bool> {
    guarded(env, || Ok(table::is_held(LockId::from_number(id))))
}

/// Calls `report` with the reason if a lock is lost before it is released. That does not keep the process alive. The result
/// is the error number if no thread can be started.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn report_loss(env: &Env, id: f64, report: FunctionRef<&'static str, ()>) -> Result<Option<i32>> {
    guarded(env, || {
        let js_thread = State::of(env)?.js_thread.clone();
        let report = move |reason| js_thread.run(Box::new(move |env| report.borrow_back(&env)?.call(reason)));
        let refused = wait::report_loss(LockId::from_number(id), Box::new(report)).err();
        Ok(refused.map(|error| error.raw_os_error().unwrap_or_default()))
    })
}

/// The descriptor by which a child can inherit the kernel lock; `null`: the lock was released, or the system has none.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn descriptor_of(env: &Env, id: f64) -> Result<Option<i32>> {
    guarded(env, || Ok(table::descriptor(LockId::from_number(id))))
}

/// Releases a lock; `false`: it was released before.
///
/// # Errors
/// As `Lock.release` in `index.d.ts`.
#[napi(catch_unwind, ts_return_type = "unknown[] | boolean | Promise<unknown[] | boolean>")]
pub fn release_by_id(env: &Env, id: f64) -> Result<Unknown<'_>> {
    guarded(env, || promised(env, move || released(id)))
}

fn released(id: f64) -> Answer {
    table::release(LockId::from_number(id)).transpose().map(|released| Value::Flag(released.is_some()))
}

/// Marks a lock as one that the program has; `false`: another call has claimed it, or it was rolled back.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn deliver(env: &Env, id: f64) -> Result<bool> {
    guarded(env, || Ok(table::set_delivered(LockId::from_number(id), true)))
}

/// Rolls back a lock that was not delivered, so that the next process reports the previous holder.
///
/// # Errors
/// As `releaseById`.
#[napi(catch_unwind, ts_return_type = "unknown[] | boolean | Promise<unknown[] | boolean>")]
pub fn roll_back(env: &Env, id: f64) -> Result<Unknown<'_>> {
    table::set_delivered(LockId::from_number(id), false);
    release_by_id(env, id)
}

/// As `releaseById`, before it returns.
///
/// # Errors
/// As `Lock.releaseSync` in `index.d.ts`.
#[napi(catch_unwind, ts_return_type = "unknown[] | boolean")]
pub fn release_by_id_sync(env: &Env, id: f64) -> Result<Unknown<'_>> {
    guarded(env, || State::of(env)?.create.returned(env, released(id), true))
}
