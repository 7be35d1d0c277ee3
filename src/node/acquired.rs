//! A lock between its acquire and the program.

use napi::bindgen_prelude::{FnArgs, FunctionRef, Unknown};
use napi::{Env, Result};

use super::args::text_of;
use super::lock::{JsHolder, JsLock, JsTakenOver, milliseconds};
use crate::platform::{Os, System};
use crate::protocol::error::Error;
use crate::protocol::target::Target;
use crate::protocol::{Held, TakenOver};
use crate::table::{self, LockId, Owner};

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
        // The program cannot release a lock that it did not get.
        if !self.delivered {
            let _ = table::release(self.id);
        }
    }
}

impl Acquired {
    /// Adds a lock to the table of this process.
    pub(super) fn add(
        owner: Owner,
        held: Held<<Os as System>::File>,
        target: Target,
        claimable: bool,
    ) -> std::result::Result<Self, Error> {
        let created_at = held.holder.created_at;
        let taken_over = held.taken_over.clone();
        match table::add(owner, held, claimable) {
            Some(id) => Ok(Self { id, target, created_at, taken_over, delivered: false }),
            None => Err(Error::Lost { path: target.path, reason: "its thread has ended" }),
        }
    }

    /// A lock that an asynchronous call of this thread has acquired, and that was not delivered as the thread waits.
    pub(super) fn claim(owner: Owner, target: &Target, other: Option<LockId>) -> Option<Self> {
        let (id, created_at, taken_over, shared) = table::claim(owner, &target.path, other)?;
        let target = Target { shared, ..target.clone() };
        Some(Self { id, target, created_at, taken_over, delivered: false })
    }

    pub(super) fn is_shared(&self) -> bool {
        self.target.shared
    }

    pub(super) fn is_taken_over(&self) -> bool {
        self.taken_over.is_some()
    }

    /// Keeps the lock if the engine has taken it; otherwise dropping this rolls it back.
    pub(super) fn was_given(&mut self, is_taken: bool) {
        self.delivered = is_taken;
        if !is_taken {
            table::set_delivered(self.id, false);
        }
    }

    /// The lock for JavaScript, unless a synchronous call of the same thread has claimed it: then the call is refused.
    /// `is_delivered`: the program gets it now.
    pub(super) fn give(&mut self, is_delivered: bool) -> std::result::Result<JsLock, Error> {
        if !table::set_delivered(self.id, is_delivered) {
            let reason = "a synchronous call of the same thread acquired it first";
            return Err(self.target.contention(None, Some(reason.to_owned())));
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

/// Makes a [`JsLock`] of its fields.
pub(super) type CreateLock =
    FunctionRef<FnArgs<(f64, String, f64, Option<JsTakenOver>, bool)>, Unknown<'static>>;

impl JsLock {
    pub(super) fn created_by<'env>(self, env: &'env Env, create: &CreateLock) -> Result<Unknown<'env>> {
        let fields = (self.id, self.path, self.created_at, self.taken_over, self.shared);
        create.borrow_back(env)?.call(fields.into())
    }
}
