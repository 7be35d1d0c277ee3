//! The outcome of a call, and its conversion for JavaScript.

use std::thread;

use napi::bindgen_prelude::{ToNapiValue, Unknown};
use napi::{Env, Result};

use super::acquired::{Acquired, CreateLock};
use super::errors::{CreateFailure, guarded, internal, to_js};
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

/// The functions of `lib/native.ts` that make what most calls return: the engine takes much longer to define properties
/// one by one.
pub(super) struct Create {
    pub(super) lock: CreateLock,
    pub(super) failure: CreateFailure,
}

impl Create {
    /// The return value of a call: its value, or the array of its failure. An `Err` is an error of the engine.
    /// `is_delivered`: the program gets a lock now, and not in a later turn of the event loop.
    pub(super) fn returned<'env>(
        &self,
        env: &'env Env,
        answer: Answer,
        is_delivered: bool,
    ) -> Result<Unknown<'env>> {
        match answer {
            Ok(Value::Lock(mut acquired)) => match acquired.give(is_delivered) {
                Ok(lock) => {
                    let lock = lock.created_by(env, &self.lock);
                    // The engine refuses it in a thread that is being terminated, for example.
                    acquired.was_given(lock.is_ok());
                    lock
                }
                Err(error) => to_js(env, &self.failure, error),
            },
            Ok(Value::Flag(flag)) => flag.into_unknown(env),
            Ok(Value::Id(id)) => id.into_unknown(env),
            Ok(Value::Status(status)) => status.into_unknown(env),
            Ok(Value::Path(path)) => path.into_unknown(env),
            Err(error) => to_js(env, &self.failure, error),
        }
    }

    /// As [`Self::returned`], of an outcome that may be a panic.
    pub(super) fn finished<'env>(
        &self,
        env: &'env Env,
        outcome: Outcome,
        is_delivered: bool,
    ) -> Result<Unknown<'env>> {
        match outcome {
            Ok(answer) => self.returned(env, answer, is_delivered),
            Err(panic) => Err(internal(env, &panic).into()),
        }
    }

    /// As [`Self::finished`], but a panic of the conversion is an error too.
    pub(super) fn settled<'env>(
        &self,
        env: &'env Env,
        done: Outcome,
        is_delivered: bool,
    ) -> Result<Unknown<'env>> {
        guarded(env, || {
            #[cfg(feature = "panic-probe")]
            super::panic_probe::reached("settling");
            self.finished(env, done, is_delivered)
        })
    }
}
