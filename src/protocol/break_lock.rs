//! Break: removes a stale lock, or with force a held one.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::await_readers::check_readers;
use super::error::Error;
use super::existing::{Classified, classify, classify_busy, open_existing};
use super::file::{cut, not_a_file, overwrite, read, stat_if_current, stays};
use super::judge::Verdict;
use super::readers::stat_readers;
use super::record::{Content, RELEASED};
use super::retry::{Attempt, AttemptError, Refusal, Retry, RetryBudget};
use super::target::Target;
use crate::platform::{Access, FileKind, LockMode, Opened, Stat, System, TryLock, Unlinked};

/// Removes a stale lock; with `force` a held one too, also in shared mode, whose release then fails with
/// [`Error::Lost`]. `false`: there was no lock.
///
/// With `force`, a lock that changes hands between the check and the removal is removed too.
///
/// # Errors
/// [`Error::Contention`] if it is held and not forced; otherwise as [`acquire`](super::acquire()), except
/// [`Error::Stale`].
pub fn break_lock<S: System>(system: &S, target: &Target, force: bool) -> Result<bool, Error> {
    if force {
        let is_removed = RetryBudget::default().repeat(system, target, |_| remove(system, target))?;
        return Ok(remove_readers(system, target)? || is_removed);
    }
    RetryBudget::default().repeat(system, target, |budget| {
        check_readers(system, target, budget, Access::ReadWrite)?;
        break_stale(system, target, budget)
    })
}

fn remove_readers<S: System>(system: &S, target: &Target) -> Result<bool, Error> {
    let readers = target.of_readers();
    let found = match stat_readers(system, target) {
        // Of a path that is too long. The lock itself is gone.
        Err(Error::System { source, .. }) if source.kind() == ErrorKind::InvalidFilename => None,
        found => found?,
    };
    let Some(Stat { id, owner, .. }) = found else { return Ok(false) };
    match system.unlink(&readers.path, id) {
        Ok(unlinked) => Ok(unlinked == Unlinked::Removed),
        Err(failed) if stays(&failed) && system.is_planted(&readers.path, owner) => Ok(false),
        Err(failed) => Err(readers.failed(failed)),
    }
}

fn break_stale<S: System>(system: &S, target: &Target, budget: &mut RetryBudget) -> Attempt<bool> {
    let (file, stat) = match open_existing(system, target, Access::ReadWrite, budget) {
        Err(AttemptError::Retry(Retry::Missing)) => return Ok(false),
        opened => opened?,
    };
    if budget.in_creation_grace(system, &stat) {
        return Err(Retry::BeingCreated.into());
    }
    let kernel_locks = match system.try_lock(&file, LockMode::Exclusive).map_err(target.system("flock"))? {
        TryLock::Acquired => true,
        TryLock::WouldBlock => return Err(classify_busy(system, target, budget, &file, &stat)?),
        TryLock::Unsupported => false,
    };
    let Some(current) = stat_if_current(system, target, stat.id)? else {
        return Err(Retry::Vanished.into());
    };
    let fs = system.fs_kind(&file);
    let Classified { verdict, record, .. } =
        classify(system, target, budget, &file, &current, (fs, kernel_locks))?;
    match verdict {
        Verdict::BeingCreated => return Err(Retry::BeingCreated.into()),
        Verdict::Held(reason) => {
            let holder = record.map(|record| record.holder(current.modified));
            return Err(Refusal { holder, reason: Some(reason) }.into());
        }
        Verdict::Free => return Ok(false),
        Verdict::Stale(_) => {}
    }
    match system.unlink(&target.path, stat.id) {
        Ok(unlinked) => is_removed(unlinked),
        Err(failed) if stays(&failed) && overwrite(system, &file, &RELEASED) => Ok(true),
        Err(failed) => {
            if stays(&failed) {
                // A part of the text is not a lock record, and refuses every process.
                let _ = cut(system, &file);
            }
            Err(target.failed(failed).into())
        }
    }
}

fn is_removed(unlinked: Unlinked) -> Attempt<bool> {
    match unlinked {
        Unlinked::Removed => Ok(true),
        Unlinked::Missing => Ok(false),
        Unlinked::Another => Err(Retry::Vanished.into()),
    }
}

/// Removes the file, also if it is held, whatever it contains. It needs no more permission than `unlink(2)`.
fn remove<S: System>(system: &S, target: &Target) -> Attempt<bool> {
    let path = &target.path;
    let Some(stat) = system.stat_path(path).map_err(target.system("lstat"))? else {
        return Ok(false);
    };
    match stat.kind {
        FileKind::File => {}
        kind => return Err(not_a_file(target, kind).into()),
    }
    if stat.links > 1
        && let Ok(Opened::File(file)) = system.open(path, Access::Read)
    {
        match read(system, target, &file, &stat) {
            Ok(Content::Record(_) | Content::Released) => {}
            Ok(_) | Err(Error::NotAFile { .. }) => return Err(not_a_file(target, FileKind::HardLink).into()),
            Err(error) => return Err(error.into()),
        }
    }
    is_removed(system.unlink(path, stat.id).map_err(|failed| target.failed(failed))?)
}
