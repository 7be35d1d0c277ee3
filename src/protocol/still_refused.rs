//! A repeated refusal, by fewer operations than an attempt to acquire.
#![forbid(unsafe_code)]

use super::error::Error;
use super::existing::{classify_owner, open_existing};
use super::record::Record;
use super::retry::{AttemptError, RetryBudget};
use super::target::Target;
use crate::platform::{Access, LockMode, System, TryLock};

/// The refusal of a lock that an owner holds, as [`acquire`](super::acquire()) reports it, by half of the operations. Like
/// an inspector it tries the kernel lock in shared mode. `None`: `acquire` has to decide.
pub fn still_refused<S: System>(system: &S, target: &Target) -> Option<Error> {
    let mut budget = RetryBudget::default();
    let (file, stat) = open_existing(system, target, Access::ReadWrite, &mut budget).ok()?;
    // The creator of an empty file needs its kernel lock next.
    if stat.size == 0 {
        return None;
    }
    if system.try_lock(&file, LockMode::Shared).ok()? != TryLock::WouldBlock {
        system.unlock(&file);
        return None;
    }
    let exists = |record: &Record| system.process_exists(record.pid);
    match classify_owner(system, target, &mut budget, &file, &stat, &exists) {
        Ok(AttemptError::Refused(refusal)) => Some(target.contention(refusal.holder, refusal.reason)),
        _ => None,
    }
}
