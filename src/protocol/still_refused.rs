//! A repeated refusal, by fewer operations than an attempt to acquire.
#![forbid(unsafe_code)]

use super::error::Error;
use super::existing::{classify_busy, open_existing};
use super::retry::{AttemptError, Refusal, RetryBudget};
use super::target::Target;
use crate::platform::{Access, System};

/// The refusal of a lock that an owner holds, as [`acquire`](super::acquire()) reports it, by half of the operations. Like
/// an inspector it tries the kernel lock in shared mode. `None`: `acquire` has to decide.
pub fn still_refused<S: System>(system: &S, target: &Target) -> Option<Error> {
    let mut budget = RetryBudget::default();
    let (file, stat) = open_existing(system, target, Access::ReadWrite, &mut budget).ok()?;
    // The creator of an empty file needs its kernel lock next.
    if stat.size == 0 {
        return None;
    }
    let classified = classify_busy(system, target, &mut budget, &file, &stat);
    if let Ok(AttemptError::Refused(Refusal { holder, reason })) = classified {
        return Some(target.contention(holder, reason));
    }
    system.unlock(&file);
    None
}
