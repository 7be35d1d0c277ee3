//! From the core's errors to JavaScript's, which `index.js` makes.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use napi::bindgen_prelude::{FnArgs, Unknown};
use napi::{Env, JsError, Status};

use super::args::text_of;
use super::lock::JsHolder;
use super::state::State;
use crate::error::Error;

/// `lockError(code, message, path, reason, pid, createdAt, host, thread)`; a `pid` of 0 is no holder.
///
/// By position, because an object costs more than the system calls of a refusal.
pub(super) type LockErrorArgs =
    FnArgs<(&'static str, String, String, Option<String>, u32, f64, Option<String>, Option<u32>)>;

/// `systemError(errno, syscall, path, text)`; the text is the system's own.
pub(super) type SystemErrorArgs = FnArgs<(i32, &'static str, String, String)>;

pub(super) fn to_js(env: &Env, error: Error) -> napi::Result<Unknown<'_>> {
    let state = State::of(env)?;
    let path = error.path().map(text_of).unwrap_or_default();
    let Some(code) = error.code() else {
        let (errno, syscall, text) = match error {
            Error::System { source, syscall, .. } => {
                (source.raw_os_error().unwrap_or_default(), syscall, source.to_string())
            }
            _ => Default::default(),
        };
        return state.system_error.borrow_back(env)?.call(FnArgs::from((errno, syscall, path, text)));
    };
    let message = error.to_string();
    let reason = error.reason().map(str::to_owned);
    let holder = error.holder().cloned().map(JsHolder::from).unwrap_or_default();
    let args = (code, message, path, reason, holder.pid, holder.created_at, holder.host, holder.thread);
    state.lock_error.borrow_back(env)?.call(FnArgs::from(args))
}

/// Throws the error in JavaScript; the result only tells the caller to return.
pub(super) fn thrown(env: &Env, error: Error) -> napi::Error {
    match to_js(env, error).and_then(|error| env.throw(error)) {
        Ok(()) => pending(),
        Err(error) => error,
    }
}

/// What a panic was about, from where it was caught.
pub(super) type Panic = Box<dyn Any + Send>;

/// `E_LOCK_INTERNAL`: a panic must not unwind into Node.js, which would end the process.
pub(super) fn internal<'env>(env: &'env Env, panic: &Panic) -> Unknown<'env> {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref().map(String::as_str));
    let message = format!("reconcile-lock: internal error: {}", text.unwrap_or("a panic without a text"));
    JsError::from(napi::Error::new("E_LOCK_INTERNAL", message)).into_unknown(*env)
}

/// Does what JavaScript has called for, and makes an error of a panic.
///
/// `catch_unwind` of napi stays around it, for what napi does with arguments and results.
pub(super) fn guarded<T>(env: &Env, work: impl FnOnce() -> napi::Result<T>) -> napi::Result<T> {
    let work = || {
        #[cfg(feature = "panic-probe")]
        super::probe::reached("call");
        work()
    };
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(internal(env, &panic).into()))
}

/// Says that a JavaScript exception is on its way already.
pub(super) fn pending() -> napi::Error {
    napi::Error::new(Status::PendingException, String::new())
}
