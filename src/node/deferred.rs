//! Promises that any thread settles. All promises of an environment share one thread-safe function. With one for each,
//! as napi has it, a waiting call costs 1.3 kB more, and a handle that the event loop checks at each wake-up.
#![allow(unsafe_code, reason = "napi has no promise without a thread-safe function of its own")]

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::{Arc, Weak};

use napi::bindgen_prelude::{FromNapiValue, Object, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionHandle;
use napi::{Env, JsError, JsValue, Result, check_status, sys};

use super::outcome::{Outcome, Settle};

/// Settles one promise, on the JavaScript thread.
type Settlement = Box<dyn FnOnce(Env) + Send>;

type Convert = for<'env> fn(&'env Env, Outcome) -> Result<Unknown<'env>>;

/// The promises of an environment.
pub(super) struct Promises {
    settlements: Settlements,
    /// How many are pending, without those of calls that do not keep the process running. They keep the event loop alive.
    awaited: Cell<i32>,
    /// Converts an outcome, and counts its promise off by [`Self::keep_alive`].
    convert: Convert,
}

impl Promises {
    /// `resource` is the object of `async_hooks` for all promises.
    pub(super) fn new(env: &Env, resource: &Object<'_>, convert: Convert) -> Result<Self> {
        Ok(Self { settlements: Settlements::new(env, resource)?, awaited: Cell::new(0), convert })
    }

    /// A promise, and the function that settles it from any thread.
    pub(super) fn deferred<'env>(&self, env: &'env Env) -> Result<(Settle, Unknown<'env>)> {
        let (deferred, promise) = Deferred::new(env)?;
        self.keep_alive(env, 1);
        let (settlements, convert) = (self.settlements.clone(), self.convert);
        let settle = move |done: Outcome| {
            settlements.run(Box::new(move |env| deferred.settle(&env, convert(&env, done))));
        };
        Ok((Box::new(settle), promise))
    }

    /// Lets more, or fewer, promises keep the event loop alive.
    pub(super) fn keep_alive(&self, env: &Env, change: i32) {
        let before = self.is_awaited();
        self.awaited.set(self.awaited.get() + change);
        let raw = self.settlements.0.get_raw();
        match (before, self.is_awaited()) {
            // SAFETY: the environment is that of the function, and this is its thread.
            (false, true) => unsafe { sys::napi_ref_threadsafe_function(env.raw(), raw) },
            // SAFETY: as above.
            (true, false) => unsafe { sys::napi_unref_threadsafe_function(env.raw(), raw) },
            _ => 0,
        };
    }

    /// Whether a promise keeps the event loop alive.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.get() > 0
    }
}

/// The thread-safe function of an environment. napi's type for one has no `resource`.
#[derive(Clone)]
struct Settlements(Arc<ThreadsafeFunctionHandle>);

impl Settlements {
    /// It does not keep the event loop alive. `resource` is its object for `async_hooks`.
    fn new(env: &Env, resource: &Object<'_>) -> Result<Self> {
        let handle = ThreadsafeFunctionHandle::null();
        let (name, mut raw) = (env.create_string("reconcile-lock")?, ptr::null_mut());
        // SAFETY: the values are of this environment and scope, and `on_end` gets the weak reference once.
        check_status!(unsafe {
            sys::napi_create_threadsafe_function(
                env.raw(),
                ptr::null_mut(),
                resource.raw(),
                name.raw(),
                0,
                1,
                Weak::into_raw(Arc::downgrade(&handle)).cast_mut().cast(),
                Some(on_end),
                ptr::null_mut(),
                Some(on_settlement),
                &raw mut raw,
            )
        })?;
        handle.set_raw(raw);
        // SAFETY: the environment is that of the function, and this is its thread.
        check_status!(unsafe { sys::napi_unref_threadsafe_function(env.raw(), raw) })?;
        Ok(Self(handle))
    }

    /// Runs a settlement on the JavaScript thread, or drops it if the environment ends.
    fn run(&self, settlement: Settlement) {
        let data = Box::into_raw(Box::new(settlement));
        let is_taken = self.0.with_read_aborted(|has_ended| {
            let mode = sys::ThreadsafeFunctionCallMode::nonblocking;
            // SAFETY: the function exists until `on_end`, which waits for this lock.
            let call = || unsafe { sys::napi_call_threadsafe_function(self.0.get_raw(), data.cast(), mode) };
            !has_ended && call() == sys::Status::napi_ok
        });
        if !is_taken {
            // SAFETY: the function has not taken it.
            drop(unsafe { Box::from_raw(data) });
        }
    }
}

unsafe extern "C" fn on_settlement(
    env: sys::napi_env,
    _function: sys::napi_value,
    _context: *mut c_void,
    data: *mut c_void,
) {
    // SAFETY: `run` has made it for this call.
    let settlement = unsafe { Box::from_raw(data.cast::<Settlement>()) };
    // A call at the end of an environment has none. A panic must not reach Node.js.
    let settle = || {
        if !env.is_null() {
            settlement(Env::from_raw(env));
        }
    };
    let _ = panic::catch_unwind(AssertUnwindSafe(settle));
}

unsafe extern "C" fn on_end(_env: sys::napi_env, handle: *mut c_void, _hint: *mut c_void) {
    // SAFETY: `Settlements::new` has made it for this call.
    let handle = unsafe { Weak::from_raw(handle.cast::<ThreadsafeFunctionHandle>()) };
    if let Some(handle) = handle.upgrade() {
        handle.with_write_aborted(|mut has_ended| *has_ended = true);
    }
}

struct Deferred(sys::napi_deferred);

// SAFETY: other threads only pass it back to the JavaScript thread.
unsafe impl Send for Deferred {}

impl Deferred {
    fn new(env: &Env) -> Result<(Self, Unknown<'_>)> {
        let (mut deferred, mut promise) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: both pointers are valid for the call, which sets them.
        check_status!(unsafe { sys::napi_create_promise(env.raw(), &raw mut deferred, &raw mut promise) })?;
        // SAFETY: the promise is a value of this environment and scope.
        let promise = unsafe { Unknown::from_napi_value(env.raw(), promise) }?;
        Ok((Self(deferred), promise))
    }

    fn settle(self, env: &Env, value: Result<Unknown<'_>>) {
        match value {
            // SAFETY: napi frees a deferred when it is settled, and `self` is moved.
            Ok(value) => unsafe { sys::napi_resolve_deferred(env.raw(), self.0, value.raw()) },
            // SAFETY: as above.
            Err(error) => unsafe {
                let error = JsError::from(error).into_unknown(*env);
                sys::napi_reject_deferred(env.raw(), self.0, error.raw())
            },
        };
    }
}
