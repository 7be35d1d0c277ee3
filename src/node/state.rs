//! What belongs to one Node.js environment: the main thread or one worker.

use std::cell::RefCell;

use napi::bindgen_prelude::{FnArgs, Function, FunctionRef, JsObjectValue, Object, Unknown};
use napi::{Env, Error, Result};
use napi_derive::napi;
use oneshot::Receiver;

use super::end;
use super::failure::{LockErrorArgs, SystemErrorArgs, guarded};
use super::waiting::Outcome;
use crate::map::Map;
use crate::sys;
use crate::table::{self, Owner};

/// What the JavaScript side lends to the addon, and whose locks are whose.
pub(super) struct State {
    pub(super) owner: Owner,
    pub(super) thread: u32,
    pub(super) lock_error: FunctionRef<LockErrorArgs, Unknown<'static>>,
    pub(super) system_error: FunctionRef<SystemErrorArgs, Unknown<'static>>,
    pub(super) later: FunctionRef<LaterArgs, Unknown<'static>>,
    /// The waits that the JavaScript thread itself sits out.
    pub(super) waits: RefCell<Map<u64, Receiver<Outcome>>>,
}

/// `threadId` of `node:worker_threads` where no worker runs.
const MAIN_THREAD: u32 = 0;

type LaterArgs = FnArgs<(bool, Unknown<'static>)>;

impl State {
    pub(super) fn of(env: &Env) -> Result<&'static Self> {
        let state: Option<&'static mut Self> = env.get_instance_data()?;
        state.map(|state| &*state).ok_or_else(|| Error::from_reason("reconcile-lock was not set up"))
    }
}

/// Takes what the JavaScript side lends: `lockError` and `systemError` make errors, `later(ok, value)` a promise
/// that settles in a later turn of the event loop, and `threadId()` is asked on a thread that may be a worker.
///
/// # Errors
/// If one of them is missing.
#[napi(catch_unwind)]
pub fn setup(env: &Env, hooks: Object<'_>) -> Result<()> {
    guarded(env, || {
        let owner = table::open_owner();
        let lock_error: Function<'_, LockErrorArgs, Unknown<'static>> =
            hooks.get_named_property("lockError")?;
        let system_error: Function<'_, SystemErrorArgs, Unknown<'static>> =
            hooks.get_named_property("systemError")?;
        let later: Function<'_, LaterArgs, Unknown<'static>> = hooks.get_named_property("later")?;
        let thread = if sys::is_main_thread() {
            MAIN_THREAD
        } else {
            let thread_id: Function<'_, (), u32> = hooks.get_named_property("threadId")?;
            thread_id.call(())?
        };
        let state = State {
            owner,
            thread,
            lock_error: lock_error.create_ref()?,
            system_error: system_error.create_ref()?,
            later: later.create_ref()?,
            waits: RefCell::default(),
        };
        env.set_instance_data(state, (), |_| {})?;
        sys::keep_loaded();
        end::watch(owner);
        // A worker that ends lets go of its own locks and of nobody else's.
        env.add_env_cleanup_hook(owner, end::of)?;
        Ok(())
    })
}
