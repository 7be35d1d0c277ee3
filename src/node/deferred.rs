//! Promises that any thread settles. All promises of an environment share one thread-safe function. With one for each,
//! as napi has it, a waiting call costs 1.3 kB more, and a handle that the event loop checks at each wake-up.
#![allow(unsafe_code, reason = "napi has no promise without a thread-safe function of its own")]

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use napi::bindgen_prelude::{FromNapiValue, Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, JsError, JsValue, Result, Status, check_status, sys};

use super::outcome::{Outcome, Settle};

/// Settles one promise, on the JavaScript thread.
type Settlement = Box<dyn FnOnce(Env) + Send>;

type Settlements = ThreadsafeFunction<Settlement, (), (), Status, false, true>;

type Convert = for<'env> fn(&'env Env, Outcome) -> Result<Unknown<'env>>;

/// The promises of an environment.
pub(super) struct Promises {
    settlements: Arc<Settlements>,
    /// How many are pending, without those of calls that do not keep the process running. They keep the event loop alive.
    awaited: Cell<i32>,
    /// Converts an outcome, and counts its promise off by [`Self::keep_alive`].
    convert: Convert,
}

impl Promises {
    /// napi calls `nothing` after each settlement.
    pub(super) fn new(nothing: &Function<'_, (), ()>, convert: Convert) -> Result<Self> {
        let settlements =
            nothing.build_threadsafe_function::<Settlement>().weak::<true>().build_callback(|context| {
                (context.value)(context.env);
                Ok(())
            })?;
        Ok(Self { settlements: Arc::new(settlements), awaited: Cell::new(0), convert })
    }

    /// A promise, and the function that settles it from any thread.
    pub(super) fn deferred<'env>(&self, env: &'env Env) -> Result<(Settle, Unknown<'env>)> {
        let (deferred, promise) = Deferred::new(env)?;
        self.keep_alive(env, 1);
        let (settlements, convert) = (Arc::clone(&self.settlements), self.convert);
        let settle = move |done: Outcome| {
            let settlement = move |env: Env| deferred.settle(&env, convert(&env, done));
            // If the environment ends, this drops the outcome.
            settlements.call(Box::new(settlement), ThreadsafeFunctionCallMode::NonBlocking);
        };
        Ok((Box::new(settle), promise))
    }

    /// Lets more, or fewer, promises keep the event loop alive.
    pub(super) fn keep_alive(&self, env: &Env, change: i32) {
        let before = self.awaited.replace(self.awaited.get() + change);
        match (before > 0, before + change > 0) {
            // SAFETY: the environment is that of the function, and this is its thread.
            (false, true) => unsafe { sys::napi_ref_threadsafe_function(env.raw(), self.settlements.raw()) },
            // SAFETY: as above.
            (true, false) => unsafe {
                sys::napi_unref_threadsafe_function(env.raw(), self.settlements.raw())
            },
            _ => 0,
        };
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
