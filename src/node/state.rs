//! What belongs to one Node.js environment: the main thread or one worker.

use std::cell::Cell;
use std::panic;

use napi::bindgen_prelude::{FnArgs, Function, FunctionRef, JsObjectValue, Object, Unknown};
use napi::{Env, Error, Result};
use napi_derive::napi;

use super::failure::{LockErrorArgs, SystemErrorArgs, guarded};
use crate::table::{self, Owner};

/// What `index.js` lends to the addon, and whose locks are whose.
pub(super) struct State {
    pub(super) owner: Owner,
    pub(super) thread: u32,
    pub(super) lock_error: FunctionRef<LockErrorArgs, Unknown<'static>>,
    pub(super) system_error: FunctionRef<SystemErrorArgs, Unknown<'static>>,
    pub(super) later: FunctionRef<LaterArgs, Unknown<'static>>,
    watch_exit: FunctionRef<bool, ()>,
    /// Locks that are held or being acquired.
    busy: Cell<u32>,
    watch: Cell<Watch>,
}

type LaterArgs = FnArgs<(bool, Unknown<'static>)>;

/// Whether the process' exit is watched. A call into JavaScript costs a tenth of an acquisition, so a
/// program that acquires and releases in a loop makes it once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    Off,
    On,
    /// On, and `index.js` asks soon whether that is still needed.
    Ending,
}

impl State {
    pub(super) fn of(env: &Env) -> Result<&'static Self> {
        let state: Option<&'static mut Self> = env.get_instance_data()?;
        state.map(|state| &*state).ok_or_else(|| Error::from_reason("reconcile-lock was not set up"))
    }

    /// A lock is held or wanted: from the first on, the process' exit is watched.
    pub(super) fn begin(&self, env: &Env) -> Result<()> {
        self.busy.set(self.busy.get() + 1);
        if self.watch.get() != Watch::Off {
            return Ok(());
        }
        self.watch.set(Watch::On);
        self.watch_exit.borrow_back(env)?.call(true)
    }

    /// A lock is held or wanted no more.
    pub(super) fn end(&self, env: &Env) -> Result<()> {
        self.busy.set(self.busy.get().saturating_sub(1));
        if self.busy.get() > 0 || self.watch.get() != Watch::On {
            return Ok(());
        }
        self.watch.set(Watch::Ending);
        self.watch_exit.borrow_back(env)?.call(false)
    }
}

/// Whether this environment holds and wants no lock, so that nothing has to watch for the exit any more.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn stop_watching(env: &Env) -> Result<bool> {
    guarded(env, || {
        let state = State::of(env)?;
        let idle = state.busy.get() == 0;
        state.watch.set(if idle { Watch::Off } else { Watch::On });
        Ok(idle)
    })
}

/// Takes what `index.js` lends: `lockError` and `systemError` make errors, `later(ok, value)` a promise that
/// settles in a later turn of the event loop, `watchExit(on)` calls `releaseAll` when the process exits.
///
/// # Errors
/// If one of them is missing.
#[napi(catch_unwind)]
pub fn setup(env: &Env, thread: u32, hooks: Object<'_>) -> Result<()> {
    guarded(env, || {
        let owner = table::open_owner();
        let lock_error: Function<'_, LockErrorArgs, Unknown<'static>> =
            hooks.get_named_property("lockError")?;
        let system_error: Function<'_, SystemErrorArgs, Unknown<'static>> =
            hooks.get_named_property("systemError")?;
        let later: Function<'_, LaterArgs, Unknown<'static>> = hooks.get_named_property("later")?;
        let watch_exit: Function<'_, bool, ()> = hooks.get_named_property("watchExit")?;
        let state = State {
            owner,
            thread,
            lock_error: lock_error.create_ref()?,
            system_error: system_error.create_ref()?,
            later: later.create_ref()?,
            watch_exit: watch_exit.create_ref()?,
            busy: Cell::new(0),
            watch: Cell::new(Watch::Off),
        };
        env.set_instance_data(state, (), |_| {})?;
        // A worker that ends lets go of its own locks and of nobody else's.
        env.add_env_cleanup_hook(owner, |owner| {
            // Nobody is left to tell.
            let _ = panic::catch_unwind(|| table::close_owner(owner));
        })?;
        Ok(())
    })
}
