//! The native part of `Lock` in `index.js`: the id of an entry in the table, which owns the lock.
//!
//! It is no class of the addon: the engine runs the finalizer of such an object in a later turn of the event
//! loop, so a program that acquires and releases in one turn would keep them all.

use napi::bindgen_prelude::{FnArgs, Function, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, Result};
use napi_derive::napi;

use super::args::text_of;
use super::errors::{CreateFailure, guarded};
use super::promise::{Answer, Value, promised, returned};
use crate::platform::{Os, System};
use crate::protocol::error::Error;
use crate::protocol::record::Holder;
use crate::protocol::target::Target;
use crate::protocol::{Held, TakenOver};
use crate::table::{self, LockId, Owner};
use crate::wait;

/// The holder of a lock.
#[napi(object, object_from_js = false, use_nullable = true)]
#[derive(Clone, Default)]
pub struct JsHolder {
    /// The process.
    pub pid: u32,
    /// When it acquired the lock, in milliseconds since the Unix epoch.
    pub created_at: f64,
    /// The host that it runs on.
    pub host: Option<String>,
    /// The worker thread, 0 for the main thread.
    pub thread: Option<u32>,
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds fit in a double for 285,000 years")]
pub(super) fn milliseconds(time: u64) -> f64 {
    time as f64
}

impl From<Holder> for JsHolder {
    fn from(holder: Holder) -> Self {
        Self {
            pid: holder.pid,
            created_at: milliseconds(holder.created_at),
            host: holder.host,
            thread: holder.thread,
        }
    }
}

/// The previous holder of a lock that was taken over.
#[napi(object, object_from_js = false, use_nullable = true)]
#[derive(Clone)]
pub struct JsTakenOver {
    /// The previous holder.
    pub holder: Option<JsHolder>,
    /// Why it was judged gone.
    pub reason: String,
}

/// A lock on its way from the thread that acquired it.
pub(super) struct Acquired {
    id: LockId,
    target: Target,
    created_at: u64,
    taken_over: Option<TakenOver>,
    delivered: bool,
}

impl Drop for Acquired {
    fn drop(&mut self) {
        // The program cannot release a lock that it was never given.
        if !self.delivered {
            let _ = table::release(self.id);
        }
    }
}

impl Acquired {
    pub(super) fn enter(
        owner: Owner,
        held: Held<<Os as System>::File>,
        target: Target,
        claimable: bool,
    ) -> std::result::Result<Self, Error> {
        let created_at = held.holder.created_at;
        let taken_over = held.taken_over.clone();
        match table::enter(owner, held, claimable) {
            Some(id) => Ok(Self { id, target, created_at, taken_over, delivered: false }),
            None => Err(Error::Lost { path: target.path, reason: "its thread has ended" }),
        }
    }

    /// A lock that an asynchronous call of this thread has acquired, and that was not delivered as the thread waits.
    pub(super) fn claim(owner: Owner, target: &Target) -> Option<Self> {
        let (id, created_at, taken_over, shared) = table::claim(owner, &target.path)?;
        let target = Target { shared, ..target.clone() };
        Some(Self { id, target, created_at, taken_over, delivered: false })
    }

    pub(super) fn is_shared(&self) -> bool {
        self.target.shared
    }

    /// The lock for JavaScript, unless a synchronous call of the same thread has claimed it: then the call is refused.
    pub(super) fn into_lock(mut self) -> std::result::Result<JsLock, Error> {
        self.delivered = true;
        if !table::set_delivered(self.id, true) {
            return Err(self.target.contention(None, None));
        }
        Ok(JsLock {
            id: self.id.to_number(),
            path: text_of(&self.target.path),
            created_at: milliseconds(self.created_at),
            shared: self.target.shared,
            taken_over: self
                .taken_over
                .take()
                .map(|from| JsTakenOver { holder: from.holder.map(JsHolder::from), reason: from.reason }),
        })
    }
}

/// `toJsLock` of `lib/native.ts`, which makes a [`JsLock`] of its arguments.
pub(super) type CreateLock<'env> =
    Function<'env, FnArgs<(f64, String, f64, Option<JsTakenOver>, bool)>, Unknown<'env>>;

/// Functions that make what most calls return: the engine takes much longer to define the properties one by one.
pub(super) struct Create<'env> {
    pub(super) lock: CreateLock<'env>,
    pub(super) failure: CreateFailure<'env>,
}

impl JsLock {
    pub(super) fn created_by<'env>(self, create: &CreateLock<'env>) -> Result<Unknown<'env>> {
        create.call((self.id, self.path, self.created_at, self.taken_over, self.shared).into())
    }
}

/// A lock that was acquired.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsLock {
    /// Names it in this process.
    pub id: f64,
    /// The lock file.
    pub path: String,
    /// When it was acquired, in milliseconds since the Unix epoch.
    pub created_at: f64,
    /// Set if a run before this one never released the lock.
    pub taken_over: Option<JsTakenOver>,
    /// Whether it is held in shared mode.
    pub shared: bool,
}

/// Whether the lock is still held and its file in its place.
///
/// # Errors
/// `E_LOCK_INTERNAL` alone.
#[napi(catch_unwind)]
pub fn is_held(env: &Env, id: f64) -> Result<bool> {
    guarded(env, || Ok(table::is_held(LockId::from_number(id))))
}

/// Calls `report` with the reason if the path of a held lock names another file or none before the lock is released.
/// That does not keep the process alive.
///
/// # Errors
/// If no thread can be started.
#[napi(catch_unwind)]
pub fn report_loss(env: &Env, id: f64, report: Function<'_, &'static str, ()>) -> Result<()> {
    guarded(env, || {
        let report = report.build_threadsafe_function().weak::<true>().build()?;
        let report = move |reason| {
            report.call(reason, ThreadsafeFunctionCallMode::NonBlocking);
        };
        wait::report_loss(LockId::from_number(id), Box::new(report)).map_err(napi::Error::from)
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
pub fn release_held(env: &Env, id: f64) -> Result<Unknown<'_>> {
    guarded(env, || promised(env, move || released(id)))
}

fn released(id: f64) -> Answer {
    table::release(LockId::from_number(id)).transpose().map(|released| Value::Flag(released.is_some()))
}

/// Rolls back a lock that was not delivered, so that the next process reports the previous holder.
///
/// # Errors
/// As `releaseHeld`.
#[napi(catch_unwind, ts_return_type = "unknown[] | boolean | Promise<unknown[] | boolean>")]
pub fn give_back(env: &Env, id: f64) -> Result<Unknown<'_>> {
    table::set_delivered(LockId::from_number(id), false);
    release_held(env, id)
}

/// As `releaseHeld`, before it returns.
///
/// # Errors
/// As `Lock.releaseSync` in `index.d.ts`.
#[napi(catch_unwind, ts_return_type = "unknown[] | boolean")]
pub fn release_held_sync(env: &Env, id: f64) -> Result<Unknown<'_>> {
    guarded(env, || returned(env, released(id), None))
}
