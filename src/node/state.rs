//! What belongs to one Node.js environment: the main thread or one worker.

use std::cell::Cell;

use napi::bindgen_prelude::{FnArgs, Function, FunctionRef, JsObjectValue, Object, Unknown};
use napi::{Env, Error, Result};
use napi_derive::napi;

use super::failure::Failure;
use crate::table::{self, Owner};

/// What `index.js` lends to the addon, and whose locks are whose.
pub(super) struct State {
    pub(super) owner: Owner,
    pub(super) thread: u32,
    pub(super) to_error: FunctionRef<Failure, Unknown<'static>>,
    pub(super) later: FunctionRef<FnArgs<(bool, Unknown<'static>)>, Unknown<'static>>,
    watch_exit: FunctionRef<bool, ()>,
    /// Locks that are held or being acquired.
    busy: Cell<u32>,
}

impl State {
    pub(super) fn of(env: &Env) -> Result<&'static Self> {
        let state: Option<&'static mut Self> = env.get_instance_data()?;
        state.map(|state| &*state).ok_or_else(|| Error::from_reason("reconcile-lock was not set up"))
    }

    /// A lock is held or wanted: from the first on, the process' exit is watched.
    pub(super) fn begin(&self, env: &Env) -> Result<()> {
        let busy = self.busy.get();
        self.busy.set(busy + 1);
        if busy == 0 { self.watch_exit.borrow_back(env)?.call(true) } else { Ok(()) }
    }

    /// A lock is held or wanted no more.
    pub(super) fn end(&self, env: &Env) -> Result<()> {
        let busy = self.busy.get().saturating_sub(1);
        self.busy.set(busy);
        if busy == 0 { self.watch_exit.borrow_back(env)?.call(false) } else { Ok(()) }
    }
}

/// Takes what `index.js` lends: `toError(failure)` makes an error, `later(ok, value)` a promise that
/// settles in a later turn of the event loop, `watchExit(on)` calls `releaseAll` when the process exits.
///
/// # Errors
/// If one of them is missing.
#[napi(catch_unwind)]
pub fn setup(env: &Env, thread: u32, hooks: Object<'_>) -> Result<()> {
    let owner = table::open_owner();
    let to_error: Function<'_, Failure, Unknown<'static>> = hooks.get_named_property("toError")?;
    let later: Function<'_, FnArgs<(bool, Unknown<'static>)>, Unknown<'static>> =
        hooks.get_named_property("later")?;
    let watch_exit: Function<'_, bool, ()> = hooks.get_named_property("watchExit")?;
    let state = State {
        owner,
        thread,
        to_error: to_error.create_ref()?,
        later: later.create_ref()?,
        watch_exit: watch_exit.create_ref()?,
        busy: Cell::new(0),
    };
    env.set_instance_data(state, (), |_| {})?;
    // A worker that ends lets go of its own locks and of nobody else's.
    env.add_env_cleanup_hook(owner, table::close_owner)?;
    Ok(())
}
