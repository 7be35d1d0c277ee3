//! Promises that any thread settles. All of an environment share one thread-safe function. With one for each, as napi has
//! it, a waiting call costs 1.3 kB more, and a handle that the event loop checks at each wake-up.
#![allow(unsafe_code, reason = "napi has no promise without a thread-safe function of its own")]

use std::cell::Cell;
use std::ptr;

use napi::bindgen_prelude::{FromNapiValue, Unknown};
use napi::{Env, JsError, JsValue, Result, check_status, sys};

use super::js_thread::JsThread;
use super::outcome::{Outcome, Settle};

type Convert = for<'env> fn(&'env Env, Outcome) -> Result<Unknown<'env>>;

/// The promises of an environment.
pub(super) struct Promises {
    js_thread: JsThread,
    /// How many are pending, without those of calls that do not keep the process running. They keep the event loop alive.
    awaited: Cell<i32>,
    /// Converts an outcome, and counts its promise off by [`Self::keep_alive`].
    convert: Convert,
}

impl Promises {
    pub(super) fn new(js_thread: JsThread, convert: Convert) -> Self {
        Self { js_thread, awaited: Cell::new(0), convert }
    }

    /// A promise, and the function that settles it from any thread.
    pub(super) fn deferred<'env>(&self, env: &'env Env) -> Result<(Settle, Unknown<'env>)> {
        let (deferred, promise) = Deferred::new(env)?;
        self.keep_alive(env, 1);
        let (js_thread, convert) = (self.js_thread.clone(), self.convert);
        let settle = move |done: Outcome| {
            js_thread.run(Box::new(move |env| {
                deferred.settle(&env, convert(&env, done));
                Ok(())
            }));
        };
        Ok((Box::new(settle), promise))
    }

    /// Lets more, or fewer, promises keep the event loop alive.
    pub(super) fn keep_alive(&self, env: &Env, change: i32) {
        let before = self.is_awaited();
        self.awaited.set(self.awaited.get() + change);
        if before != self.is_awaited() {
            self.js_thread.keep_alive(env, !before);
        }
    }

    /// Whether a promise keeps the event loop alive.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.get() > 0
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
