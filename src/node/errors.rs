//! The conversion of the core's errors to values from which JavaScript makes errors.
//!
//! Each copy of the package's JavaScript has classes of its own, and so has each realm: the addon makes no error, and
//! a call that fails returns an array.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use napi::bindgen_prelude::{FnArgs, FunctionRef, JsValue, Unknown};
use napi::{Env, JsError, Result};

use super::args::text_of;
use super::lock::milliseconds;
use crate::protocol::error::Error;

type FailureFields = FnArgs<(
    &'static str,
    String,
    String,
    Option<String>,
    Option<u32>,
    Option<f64>,
    Option<String>,
    Option<u32>,
)>;

/// Makes an array of its arguments.
pub(super) type CreateFailure = FunctionRef<FailureFields, Unknown<'static>>;

/// `[code, message, path, reason, pid, createdAt, host, thread]`, or, if the system refused,
/// `[errno, syscall, path, text]`. `lib/failure.ts` reads it.
pub(super) fn to_js<'env>(env: &'env Env, create: &CreateFailure, error: Error) -> Result<Unknown<'env>> {
    let path = error.path().map(text_of).unwrap_or_default();
    let code = error.code().unwrap_or_default();
    let (message, holder, reason) = match error {
        Error::System { source, syscall, .. } => {
            let mut failure = env.create_array(4)?;
            failure.set(0, source.raw_os_error().unwrap_or_default())?;
            failure.set(1, syscall)?;
            failure.set(2, path)?;
            failure.set(3, source.to_string())?;
            return Ok(failure.to_unknown());
        }
        Error::Contention { message, holder, reason, .. } => (message, holder, reason),
        error => (error.to_string(), error.holder().cloned(), error.reason().map(str::to_owned)),
    };
    let (pid, created_at) =
        holder.as_ref().map(|holder| (holder.pid, milliseconds(holder.created_at))).unzip();
    let (host, thread) = holder.map_or((None, None), |holder| (holder.host, holder.thread));
    // The engine makes an array in half the time that it takes to set the elements one by one.
    let fields = (code, message, path, reason, pid, created_at, host, thread);
    create.borrow_back(env)?.call(fields.into())
}

/// `E_LOCK_INTERNAL`: a panic must not unwind into Node.js, which would end the process.
#[cold]
#[inline(never)]
pub(super) fn internal<'env>(env: &'env Env, panic: &Box<dyn Any + Send>) -> Unknown<'env> {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref().map(String::as_str));
    let message = format!("reconcile-lock: internal error: {}", text.unwrap_or("a panic without a text"));
    JsError::from(napi::Error::new("E_LOCK_INTERNAL", message)).into_unknown(*env)
}

/// Runs the work of a call, and converts a panic to an error.
///
/// `catch_unwind` of napi stays around it, for the conversions of arguments and results by napi.
pub(super) fn guarded<T>(env: &Env, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let work = || {
        #[cfg(feature = "panic-probe")]
        super::panic_probe::reached("call");
        work()
    };
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(internal(env, &panic).into()))
}
