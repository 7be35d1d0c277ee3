//! From the core's errors to JavaScript's, which `index.js` makes.

use napi::bindgen_prelude::Unknown;
use napi::{Env, Status};
use napi_derive::napi;

use super::args::text_of;
use super::lock::JsHolder;
use super::state::State;
use crate::error::Error;

/// Everything that `toError` of `index.js` needs.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// The error's code; missing for the system's own errors.
    pub code: Option<&'static str>,
    /// The error's text; missing for the system's own errors, which Node.js has texts for.
    pub message: Option<String>,
    /// The lock file.
    pub path: Option<String>,
    /// Whether trying again later can succeed.
    pub recoverable: bool,
    /// Who holds the lock.
    pub holder: Option<JsHolder>,
    /// One sentence beside the message.
    pub reason: Option<String>,
    /// The system's error number.
    pub errno: Option<i32>,
    /// The system call.
    pub syscall: Option<&'static str>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (errno, syscall) = match &error {
            Error::System { source, syscall, .. } => (source.raw_os_error(), Some(*syscall)),
            _ => (None, None),
        };
        Self {
            code: error.code(),
            message: error.code().map(|_| error.to_string()),
            path: error.path().map(text_of),
            recoverable: error.recoverable(),
            holder: error.holder().cloned().map(JsHolder::from),
            reason: error.reason().map(str::to_owned),
            errno,
            syscall,
        }
    }
}

pub(super) fn to_js(env: &Env, error: Error) -> napi::Result<Unknown<'_>> {
    State::of(env)?.to_error.borrow_back(env)?.call(Failure::from(error))
}

/// Throws the error in JavaScript; the result only tells the caller to return.
pub(super) fn thrown(env: &Env, error: Error) -> napi::Error {
    match to_js(env, error).and_then(|error| env.throw(error)) {
        Ok(()) => pending(),
        Err(error) => error,
    }
}

/// Says that a JavaScript exception is on its way already.
pub(super) fn pending() -> napi::Error {
    napi::Error::new(Status::PendingException, String::new())
}
