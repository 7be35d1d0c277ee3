//! Checks whether a lock still has readers, for an owner and for an inspector.
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
        .repeat(system, target, |budget| check_readers(system, target, budget, Access::ReadWrite))
}

/// Checks that no process has the kernel lock of the readers. With [`Access::ReadWrite`] it removes their file then.
pub(super) fn check_readers<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    access: Access,
) -> Attempt<()> {
    match find_readers(system, target)? {
        Some(_) => check_readers_file(system, target, budget, access),
        None => Ok(()),
    }
}

/// As [`check_readers`], of a file that exists.
pub(super) fn check_readers_file<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    access: Access,
) -> Attempt<()> {
    let readers = target.of_readers();
    let file = match system.open(&readers.path, access) {
        Ok(Opened::File(file)) => file,
        Ok(Opened::Leased) => return Err(Retry::Leased.into()),
        Ok(Opened::Missing | Opened::NotAFile(_)) => return Err(Retry::Vanished.into()),
        Err(error) if budget.repeats_denied(system, &readers, &error) => {
            return Err(Retry::BeingCreated.into());
        }
        Err(error) => return Err(readers.system("open")(error).into()),
    };
    let id = system.stat(&file).map_err(readers.system("fstat"))?.id;
    let locked = match system.try_lock(&file, LockMode::Exclusive) {
        // Readers refuse such a filesystem, which may need a writable descriptor for the exclusive kernel lock.
        Err(_) | Ok(TryLock::Unsupported) if system.fs_kind(&file) == FsKind::Shared => return Ok(()),
        locked => locked.map_err(readers.system("flock"))?,
    };
    match locked {
        TryLock::Acquired if access == Access::Read => system.unlock(&file),
        TryLock::Acquired => {}
        TryLock::WouldBlock => {
            let shared = system.try_lock(&file, LockMode::Shared).map_err(readers.system("flock"))?;
            if shared == TryLock::WouldBlock {
                return Err(Retry::ReadersChecked.into());
            }
            // A reader of this process is not about to leave.
            return Err(if system.holds(id) {
                Refusal { holder: None, reason: Some(held_by_readers(system, target)) }.into()
            } else {
                Retry::HeldByReaders.into()
            });
        }
        // A shortage of memory, too, is reported like that.
        TryLock::Unsupported => {
            let reason = "the kernel lock of its readers cannot be checked";
            return Err(Error::Unsupported { path: target.path.clone(), reason }.into());
        }
    }
    if stat_if_current(system, &readers, id)?.is_none() {
        return Err(Retry::Vanished.into());
    }
    if access == Access::ReadWrite
        && let Err(failed) = system.unlink(&readers.path, id)
        && !stays(&failed)
    {
        return Err(readers.failed(failed).into());
    }
    Ok(())
}
