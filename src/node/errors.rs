//! The conversion of the core's errors to values from which JavaScript makes errors.
//!
//! Each copy of the package's JavaScript has classes of its own, and so has each realm: the addon makes no error, and
//! a call that fails returns an array.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use napi::bindgen_prelude::{Array, FnArgs, Function, JsValue, Unknown};
use napi::{Env, JsError, Result};

use super::args::text_of;
use super::lock::milliseconds;
use crate::protocol::error::Error;
use crate::protocol::record::Holder;

/// `[code, message, path, reason, pid, createdAt, host, thread]`, or, if the system refused,
/// `[errno, syscall, path, text]`. `lib/failure.ts` reads it.
pub(super) fn to_js(env: &Env, error: Error) -> Result<Unknown<'_>> {
    let path = error.path().map(text_of).unwrap_or_default();
    if let Error::System { source, syscall, .. } = error {
        let mut failure = env.create_array(4)?;
        failure.set(0, source.raw_os_error().unwrap_or_default())?;
        failure.set(1, syscall)?;
        failure.set(2, path)?;
        failure.set(3, source.to_string())?;
        return Ok(failure.to_unknown());
    }
    let mut failure = env.create_array(8)?;
    failure.set(0, error.code().unwrap_or_default())?;
    failure.set(1, error.to_string())?;
    failure.set(2, path)?;
    if let Some(reason) = error.reason() {
        failure.set(3, reason)?;
    }
    if let Some(holder) = error.holder() {
        set_holder(&mut failure, holder)?;
    }
    Ok(failure.to_unknown())
}

type Fields =
    (&'static str, String, String, Option<String>, Option<u32>, Option<f64>, Option<String>, Option<u32>);

/// `toFailure` of `lib/native.ts`, which makes an array of its arguments.
pub(super) type CreateFailure<'env> = Function<'env, FnArgs<Fields>, Unknown<'env>>;

/// As [`to_js`]. A refusal is made in one call of the engine, which takes half as long.
pub(super) fn created_by<'env>(
    env: &'env Env,
    create: &CreateFailure<'env>,
    error: Error,
) -> Result<Unknown<'env>> {
    let code = error.code().unwrap_or_default();
    let Error::Contention { message, path, holder, reason } = error else { return to_js(env, error) };
    let Some(Holder { pid, created_at, host, thread }) = holder else {
        return create.call((code, message, text_of(&path), reason, None, None, None, None).into());
    };
    let (pid, created_at) = (Some(pid), Some(milliseconds(created_at)));
    create.call((code, message, text_of(&path), reason, pid, created_at, host, thread).into())
}

fn set_holder(failure: &mut Array<'_>, holder: &Holder) -> Result<()> {
    failure.set(4, holder.pid)?;
    failure.set(5, milliseconds(holder.created_at))?;
    failure.set(6, holder.host.as_deref())?;
    failure.set(7, holder.thread)
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
