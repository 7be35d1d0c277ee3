//! Work of any thread for the JavaScript thread. napi's type of a thread-safe function takes no resource, which Jest needs to
//! see that it does not keep the process running.
#![allow(unsafe_code, reason = "napi has no other way to set the resource")]

use std::ffi::c_void;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::{Arc, Weak};

use napi::bindgen_prelude::Object;
use napi::threadsafe_function::ThreadsafeFunctionHandle;
use napi::{Env, JsError, JsValue, Result, check_status, sys};

/// Work for the JavaScript thread.
type JsWork = Box<dyn FnOnce(Env) -> Result<()> + Send>;

/// The JavaScript thread of an environment.
#[derive(Clone)]
pub(super) struct JsThread(Arc<ThreadsafeFunctionHandle>);

impl JsThread {
    /// `resource` is the object for `async_hooks`.
    pub(super) fn new(env: &Env, resource: &Object<'_>) -> Result<Self> {
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
                Some(on_work),
                &raw mut raw,
            )
        })?;
        handle.set_raw(raw);
        // SAFETY: the environment is that of the function, and this is its thread.
        check_status!(unsafe { sys::napi_unref_threadsafe_function(env.raw(), raw) })?;
        Ok(Self(handle))
    }

    /// Sets whether the thread-safe function keeps the event loop alive, which it does not at first.
    pub(super) fn keep_alive(&self, env: &Env, keeps: bool) {
        let change =
            if keeps { sys::napi_ref_threadsafe_function } else { sys::napi_unref_threadsafe_function };
        // SAFETY: the environment is that of the function, and this is its thread.
        unsafe { change(env.raw(), self.0.get_raw()) };
    }

    /// Runs work on the thread, or drops it if the environment ends.
    pub(super) fn run(&self, work: JsWork) {
        let data = Box::into_raw(Box::new(work));
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

unsafe extern "C" fn on_work(
    env: sys::napi_env,
    _function: sys::napi_value,
    _context: *mut c_void,
    data: *mut c_void,
) {
    // SAFETY: `run` has made it for this call.
    let work = unsafe { Box::from_raw(data.cast::<JsWork>()) };
    let run = || {
        // A call at the end of an environment has none.
        if env.is_null() {
            return Ok(());
        }
        work(Env::from_raw(env))
    };
    // A panic must not reach Node.js. An exception that is thrown here would only be a warning.
    if let Ok(Err(error)) = panic::catch_unwind(AssertUnwindSafe(run)) {
        // SAFETY: the environment is that of this call.
        unsafe { sys::napi_fatal_exception(env, JsError::from(error).into_value(env)) };
    }
}

unsafe extern "C" fn on_end(_env: sys::napi_env, handle: *mut c_void, _hint: *mut c_void) {
    // SAFETY: `JsThread::new` has made it for this call.
    let handle = unsafe { Weak::from_raw(handle.cast::<ThreadsafeFunctionHandle>()) };
    if let Some(handle) = handle.upgrade() {
        handle.with_write_aborted(|mut has_ended| *has_ended = true);
    }
}
