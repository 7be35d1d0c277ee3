//! The outcome of a call, and its conversion for JavaScript.

use std::thread;

use napi::bindgen_prelude::{ToNapiValue, Unknown};
use napi::{Env, Result};

use super::acquired::{Acquired, Create};
use super::errors::{created_by, guarded, internal, to_js};
use super::status::JsStatus;
use crate::protocol::error::Error;

/// The value of a call. One type for all calls: the code for promises is there once.
pub(super) enum Value {
    Lock(Acquired),
    Flag(bool),
    /// Of a lock.
    Id(Option<f64>),
    Status(Box<JsStatus>),
    Path(String),
}

/// The outcome of a call that does not panic.
pub(super) type Answer = std::result::Result<Value, Error>;

/// How a call ended; a panic is an outcome too.
pub(super) type Outcome = thread::Result<Answer>;

/// Work for a thread of the pool.
pub(super) type Work = Box<dyn FnOnce() -> Answer + Send>;

/// Settles a promise.
pub(super) type Settle = Box<dyn FnOnce(Outcome) + Send>;

/// The return value of a call: its value, or the array of its failure. An `Err` is an error of the engine.
pub(super) fn returned<'env>(
    env: &'env Env,
    answer: Answer,
    create: Option<&Create<'env>>,
) -> Result<Unknown<'env>> {
    let delivers = create.is_none_or(|create| create.delivers);
    match answer {
        Ok(Value::Lock(mut acquired)) => match acquired.give(delivers) {
            Ok(lock) => {
                let lock = match create {
                    Some(create) => lock.created_by(&create.lock),
                    None => lock.into_unknown(env),
                };
                // The engine refuses it in a thread that is being terminated, for example.
                acquired.was_given(lock.is_ok());
                lock
            }
            Err(error) => to_js(env, error),
        },
        Ok(Value::Flag(flag)) => flag.into_unknown(env),
        Ok(Value::Id(id)) => id.into_unknown(env),
        Ok(Value::Status(status)) => status.into_unknown(env),
        Ok(Value::Path(path)) => path.into_unknown(env),
        Err(error) => match create {
            Some(create) => created_by(env, &create.failure, error),
            None => to_js(env, error),
        },
    }
}

/// As [`returned`], of an outcome that may be a panic.
pub(super) fn finished<'env>(
    env: &'env Env,
    outcome: Outcome,
    create: Option<&Create<'env>>,
) -> Result<Unknown<'env>> {
    match outcome {
        Ok(answer) => returned(env, answer, create),
        Err(panic) => Err(internal(env, &panic).into()),
    }
}

/// As [`finished`], but a panic of the conversion is an error too.
pub(super) fn settled<'env>(
    env: &'env Env,
    done: Outcome,
    create: Option<&Create<'env>>,
) -> Result<Unknown<'env>> {
    guarded(env, || {
        #[cfg(feature = "panic-probe")]
        super::panic_probe::reached("settling");
        finished(env, done, create)
    })
}
