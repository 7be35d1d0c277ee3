//! Break: removes a stale lock, or with force a held one.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::await_readers::check_readers;
use super::error::Error;
use super::existing::{Classified, classify, classify_busy, open_existing};
use super::file::{not_a_file, overwrite, read, stat_if_current, stays};
use super::judge::Verdict;
use super::readers::stat_readers;
use super::record::{Content, RELEASED};
use super::retry::{Attempt, Refusal, Retry, RetryBudget};
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
        let is_removed = RetryBudget::repeat(system, target, |_| remove(system, target))?;
        return Ok(remove_readers(system, target)? || is_removed);
    }
    RetryBudget::repeat(system, target, |budget| match break_stale(system, target, budget)? {
        Attempt::Done(false) => Ok(match check_readers(system, target, budget, Access::ReadWrite)? {
            Attempt::Done(()) => Attempt::Done(false),
            Attempt::Refused(refusal) => Attempt::Refused(refusal),
            Attempt::Retry(retry) => Attempt::Retry(retry),
        }),
        broken => Ok(broken),
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

fn break_stale<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
) -> Result<Attempt<bool>, Error> {
    let (file, stat) = match open_existing(system, target, Access::ReadWrite, budget)? {
        Attempt::Done(opened) => opened,
        Attempt::Retry(Retry::Missing) => return Ok(Attempt::Done(false)),
        Attempt::Retry(retry) => return Ok(Attempt::Retry(retry)),
        Attempt::Refused(refusal) => return Ok(Attempt::Refused(refusal)),
    };
    if budget.in_creation_grace(system, &stat) {
        return Ok(Attempt::Retry(Retry::BeingCreated));
    }
    let kernel_locks = match system.try_lock(&file, LockMode::Exclusive).map_err(target.system("flock"))? {
        TryLock::Acquired => true,
        TryLock::WouldBlock => return Ok(classify_busy(system, target, budget, &file, &stat)?.cast()),
        TryLock::Unsupported => false,
    };
    let Some(current) = stat_if_current(system, target, stat.id)? else {
        return Ok(Attempt::Retry(Retry::Vanished));
    };
    let fs = system.fs_kind(&file);
    let classified = classify(system, target, budget, &file, &current, (fs, kernel_locks))?;
    let Some(Classified { verdict, record, .. }) = classified else {
        return Ok(Attempt::Retry(Retry::Vanished));
    };
    let refused = match verdict {
        Verdict::BeingCreated => return Ok(Attempt::Retry(Retry::BeingCreated)),
        Verdict::Held(reason) => {
            let holder = record.map(|record| record.holder(current.modified));
            Some(Refusal { holder, reason: Some(reason) })
        }
        Verdict::Free => return Ok(Attempt::Done(false)),
        Verdict::Stale(_) => None,
    };
    if let Some(refusal) = refused {
        return Ok(Attempt::Refused(refusal));
    }
    match system.unlink(&target.path, stat.id) {
        Ok(unlinked) => Ok(after(unlinked)),
        Err(failed) if stays(&failed) && overwrite(system, &file, &RELEASED) => Ok(Attempt::Done(true)),
        Err(failed) => Err(target.failed(failed)),
    }
}

fn after(unlinked: Unlinked) -> Attempt<bool> {
    match unlinked {
        Unlinked::Removed => Attempt::Done(true),
        Unlinked::Missing => Attempt::Done(false),
        Unlinked::Another => Attempt::Retry(Retry::Vanished),
    }
}

/// Removes the file, also if it is held, whatever it contains. It needs no more permission than `unlink(2)`.
fn remove<S: System>(system: &S, target: &Target) -> Result<Attempt<bool>, Error> {
    let path = &target.path;
    let Some(stat) = system.stat_path(path).map_err(target.system("lstat"))? else {
        return Ok(Attempt::Done(false));
    };
    match stat.kind {
        FileKind::File => {}
        kind => return Err(not_a_file(target, kind)),
    }
    if stat.links > 1
        && let Ok(Opened::File(file)) = system.open(path, Access::Read)
        && !matches!(read(system, target, &file, &stat), Ok(Content::Record(_) | Content::Released))
    {
        return Err(not_a_file(target, FileKind::HardLink));
    }
    system.unlink(path, stat.id).map(after).map_err(|failed| target.failed(failed))
}
