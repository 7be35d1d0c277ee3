//! The `Lock` that JavaScript holds: a name of an entry in the table, which owns the lock itself.

use napi::bindgen_prelude::{Either, ToNapiValue, Undefined, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use super::args::text_of;
use super::failure::thrown;
use super::promise::{Rejection, promised};
use super::state::State;
use crate::error::Error;
use crate::protocol::{Held, TakenOver};
use crate::record::Holder;
use crate::sys::Os;
use crate::system::System;
use crate::table::{self, LockId, Owner};

/// Who holds a lock.
#[napi(object, object_from_js = false)]
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

impl From<Holder> for JsHolder {
    fn from(holder: Holder) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds fit in a double for 285,000 years")]
        let created_at = holder.created_at as f64;
        Self { pid: holder.pid, created_at, host: holder.host, thread: holder.thread }
    }
}

/// Whom a lock was taken over from.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct JsTakenOver {
    /// Who left the lock behind.
    pub holder: Option<JsHolder>,
    /// Why it was judged gone.
    pub reason: String,
}

/// A lock on its way from the thread that acquired it.
pub(super) struct Acquired {
    id: LockId,
    path: String,
    holder: Holder,
    taken_over: Option<TakenOver>,
}

impl Acquired {
    pub(super) fn enter(owner: Owner, held: Held<<Os as System>::File>) -> std::result::Result<Self, Error> {
        let (path, holder) = (text_of(&held.path), held.holder.clone());
        let taken_over = held.taken_over.clone();
        match table::enter(owner, held) {
            Some(id) => Ok(Self { id, path, holder, taken_over }),
            None => Err(Error::Lost { path: path.into(), reason: "because its thread has ended" }),
        }
    }

    pub(super) fn into_lock(self) -> Lock {
        Lock {
            id: self.id,
            path: self.path,
            holder: self.holder.into(),
            taken_over: self
                .taken_over
                .map(|from| JsTakenOver { holder: from.holder.map(JsHolder::from), reason: from.reason }),
        }
    }
}

/// See `Lock` in `index.d.ts`. Losing it to the garbage collector releases nothing.
#[napi]
pub struct Lock {
    id: LockId,
    path: String,
    holder: JsHolder,
    taken_over: Option<JsTakenOver>,
}

#[napi]
impl Lock {
    /// The lock file.
    #[napi(getter)]
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// This process, as the record says.
    #[napi(getter)]
    #[must_use]
    pub fn holder(&self) -> JsHolder {
        self.holder.clone()
    }

    /// Set if a run before this one never released the lock.
    #[napi(getter)]
    #[must_use]
    pub fn taken_over(&self) -> Either<JsTakenOver, Undefined> {
        self.taken_over.clone().map_or(Either::B(()), Either::A)
    }

    /// Whether the lock is still held and its file in its place.
    #[napi(catch_unwind)]
    #[must_use]
    pub fn is_held(&self) -> bool {
        table::is_held(self.id)
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// As documented in `index.d.ts`.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn release<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let id = self.id;
        promised(env, move || table::release(id), released)
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// As documented in `index.d.ts`.
    #[napi(catch_unwind)]
    pub fn release_sync(&self, env: &Env) -> Result<()> {
        settle_release(env, table::release(self.id))
    }
}

/// What the table answered to a release; `None`: it held no such lock.
type Released = Option<std::result::Result<(), Error>>;

pub(super) fn released(env: &Env, outcome: Released) -> std::result::Result<Unknown<'_>, Rejection> {
    count_release(env, outcome)?;
    Ok(().into_unknown(env)?)
}

pub(super) fn settle_release(env: &Env, outcome: Released) -> Result<()> {
    match count_release(env, outcome) {
        Ok(()) => Ok(()),
        Err(Rejection::Lock(error)) => Err(thrown(env, error)),
        Err(Rejection::Engine(error)) => Err(error),
    }
}

fn count_release(env: &Env, outcome: Released) -> std::result::Result<(), Rejection> {
    if let Some(outcome) = outcome {
        State::of(env)?.end(env)?;
        outcome?;
    }
    Ok(())
}
