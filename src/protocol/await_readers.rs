//! How an owner, and an inspector, find out whether a lock still has readers.
#![forbid(unsafe_code)]

use super::error::Error;
use super::file::{stat_if_current, stays};
use super::readers::{find_readers, held_by_readers};
use super::retry::{Attempt, PauseLimit, Refusal, Retry, RetryBudget};
use super::target::Target;
use crate::platform::{Access, FsKind, LockMode, Opened, System, TryLock};

/// Checks that no reader holds the lock, whose path this process holds.
///
/// # Errors
/// [`Error::Contention`] if a reader holds it; [`Error::System`] as documented there.
pub fn await_readers<S: System>(system: &S, target: &Target, pause_limit: PauseLimit) -> Result<(), Error> {
    RetryBudget::new(pause_limit, None)
        .repeated(system, target, |budget| check_readers(system, target, budget, Access::ReadWrite))
}

/// Checks that no process has the kernel lock of the readers. With [`Access::ReadWrite`] it removes their file then.
pub(super) fn check_readers<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    access: Access,
) -> Result<Attempt<()>, Error> {
    match find_readers(system, target)? {
        Some(_) => check_file(system, target, budget, access),
        None => Ok(Attempt::Done(())),
    }
}

/// As [`check_readers`], of a file that exists.
pub(super) fn check_file<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    access: Access,
) -> Result<Attempt<()>, Error> {
    let readers = target.of_readers();
    let file = match system.open(&readers.path, access) {
        Ok(Opened::File(file)) => file,
        Ok(Opened::Leased) => return Ok(Attempt::Retry(Retry::Leased)),
        Ok(Opened::Missing | Opened::NotAFile(_)) => return Ok(Attempt::Retry(Retry::Vanished)),
        Err(error) if budget.repeats_denied(system, &readers, &error) => {
            return Ok(Attempt::Retry(Retry::BeingCreated));
        }
        Err(error) => return Err(readers.system("open")(error)),
    };
    let id = system.stat(&file).map_err(readers.system("fstat"))?.id;
    if system.fs_kind(&file) == FsKind::Shared {
        // Readers refuse it, and a network filesystem may need a writable descriptor for the exclusive kernel lock.
        return Ok(Attempt::Done(()));
    }
    match system.try_lock(&file, LockMode::Exclusive).map_err(readers.system("flock"))? {
        TryLock::Acquired if access == Access::Read => system.unlock(&file),
        TryLock::Acquired => {}
        TryLock::WouldBlock => {
            let shared = system.try_lock(&file, LockMode::Shared).map_err(readers.system("flock"))?;
            if shared == TryLock::WouldBlock {
                return Ok(Attempt::Retry(Retry::ReadersChecked));
            }
            // A reader of this process is not about to leave.
            return Ok(if system.holds(id) {
                Attempt::Refused(Refusal { holder: None, reason: Some(held_by_readers(system, target)) })
            } else {
                Attempt::Retry(Retry::HeldByReaders)
            });
        }
        TryLock::Unsupported => return Ok(Attempt::Done(())),
    }
    if stat_if_current(system, &readers, id)?.is_none() {
        return Ok(Attempt::Retry(Retry::Vanished));
    }
    if access == Access::ReadWrite
        && let Err(failed) = system.unlink(&readers.path, id)
        && !stays(&failed)
    {
        return Err(readers.failed(failed));
    }
    Ok(Attempt::Done(()))
}
