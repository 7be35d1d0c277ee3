//! Naming a JavaScript value without its scope.
#![allow(unsafe_code, reason = "napi's resolvers name no lifetime")]

use napi::bindgen_prelude::Unknown;
use napi::{Env, JsValue};

/// The same value for a promise that is settled before this scope ends.
pub(super) fn detached(env: &Env, value: Unknown<'_>) -> Unknown<'static> {
    // SAFETY: the caller passes the value on within the handle scope that it was made in, and napi keeps
    // no copy of it afterwards.
    unsafe { Unknown::from_raw_unchecked(env.raw(), value.raw()) }
}
