//! Shared mode: any number of readers, or one owner. The numbers are the steps of `docs/design/protocol.md`.
//!
//! The readers of a lock hold the shared kernel lock of an empty file beside it. An owner holds the path, and then waits
//! until no process holds that kernel lock. A reader takes that kernel lock, and then checks the path. So of a reader
//! and an owner that acquire at the same time, at least one finds the other.
#![forbid(unsafe_code)]

use std::io;
use std::mem;
use std::path::Path;

use super::error::Error;
use super::file::{not_a_file, stat_if_current};
use super::held::{FILE_CLOSED, Held, NAMES_ANOTHER, NAMES_NONE, TakenOver};
use super::inspect::{LockState, inspect_path};
use super::record::Record;
use super::retry::{Attempt, AttemptError, Refusal, Retry, RetryBudget};
use super::target::{Target, readers_of, system_error};
use crate::platform::{Access, FileId, FileKind, FsKind, LockMode, Opened, Stat, System, TryLock};

/// One attempt to acquire in shared mode.
pub(super) fn acquire_shared<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    budget: &mut RetryBudget,
) -> Attempt<Held<S::File>> {
    // S1. First the path: the kernel lock of the readers would delay an owner that waits for it.
    check_path(system, target, budget)?;
    // S2. The file of the readers.
    let readers = target.of_readers();
    let (file, stat) = open_or_create(system, &readers, budget)?;
    // S3. Its kernel lock. A process that checks for readers, or removes the file, holds it exclusively for a moment.
    let unsupported = match system.try_lock(&file, LockMode::Shared).map_err(readers.system("flock"))? {
        TryLock::Acquired if system.fs_kind(&file) == FsKind::Local => None,
        TryLock::Acquired => Some("shared mode needs a filesystem of this machine"),
        TryLock::WouldBlock => return Err(Retry::ReadersChecked.into()),
        TryLock::Unsupported => Some("shared mode needs a filesystem with kernel locks"),
    };
    // S4. Check that the path of the readers still names the locked file.
    if stat_if_current(system, &readers, stat.id)?.is_none() {
        return Err(Retry::Vanished.into());
    }
    let record = Record::of(system.identity(), thread, system.wall_clock(), FsKind::Local);
    let held = Held { shared: true, ..Held::new(file, stat.id, target, record.into_holder()) };
    if let Some(reason) = unsupported {
        let _ = release_shared(system, held);
        return Err(Error::Unsupported { path: target.path.clone(), reason }.into());
    }
    // S5. Check the path again: an owner that acquired since S1 may have found no reader.
    match check_path(system, target, budget) {
        Ok(taken_over) => Ok(Held { taken_over, ..held }),
        Err(error) => {
            let _ = release_shared(system, held);
            Err(error)
        }
    }
}

/// Checks that the path has no owner. Returns the previous owner if it did not release.
fn check_path<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
) -> Attempt<Option<TakenOver>> {
    let status = match inspect_path(system, target, budget) {
        // Its creator is about to write its record.
        Err(AttemptError::Refused(Refusal { holder: None, .. })) => return Err(Retry::BeingCreated.into()),
        inspected => inspected?,
    };
    match status.state {
        LockState::Free => Ok(None),
        LockState::Stale => Ok(Some(TakenOver { holder: status.holder, reason: status.reason })),
        LockState::Held => Err(Refusal { holder: status.holder, reason: Some(status.reason) }.into()),
    }
}

fn open_or_create<S: System>(
    system: &S,
    readers: &Target,
    budget: &mut RetryBudget,
) -> Attempt<(S::File, Stat)> {
    if let Some(file) = system.create(&readers.path).map_err(readers.system("open"))? {
        let stat = system.stat(&file).map_err(readers.system("fstat"))?;
        if let Err(error) = complete_mode(system, readers, &file, &stat) {
            // Without this mode it would refuse other users.
            remove_unused(system, &readers.path, &file, stat.id);
            return Err(readers.system("fchmod")(error).into());
        }
        return Ok((file, stat));
    }
    let file = match system.open(&readers.path, Access::ReadWrite) {
        Ok(Opened::File(file)) => file,
        Ok(Opened::Missing) => return Err(Retry::Missing.into()),
        Ok(Opened::Leased) => return Err(Retry::Leased.into()),
        Ok(Opened::NotAFile(kind)) => return Err(not_a_file(readers, kind).into()),
        Err(error) if budget.repeats_denied(system, readers, &error) => {
            return Err(Retry::BeingCreated.into());
        }
        Err(error) => return Err(readers.system("open")(error).into()),
    };
    let stat = system.stat(&file).map_err(readers.system("fstat"))?;
    match stat.kind {
        FileKind::File if stat.links == 0 => Err(Retry::Vanished.into()),
        FileKind::File if stat.size > 0 => Err(not_a_file(readers, FileKind::NotALock).into()),
        FileKind::File if !is_trusted(system, readers, &stat) => {
            Err(not_a_file(readers, FileKind::Planted).into())
        }
        FileKind::File => {
            // Its creator may have ended before it set the mode. Only the owner of the file can do this.
            let _ = complete_mode(system, readers, &file, &stat);
            Ok((file, stat))
        }
        kind => Err(not_a_file(readers, kind).into()),
    }
}

/// Sets the mode of the file if it lacks permissions.
fn complete_mode<S: System>(system: &S, readers: &Target, file: &S::File, stat: &Stat) -> io::Result<()> {
    if stat.mode & readers.mode == readers.mode { Ok(()) } else { system.set_mode(file, readers.mode) }
}

/// Removes the file of the readers if no process has its kernel lock.
fn remove_unused<S: System>(system: &S, readers: &Path, file: &S::File, id: FileId) {
    if matches!(system.try_lock(file, LockMode::Exclusive), Ok(TryLock::Acquired)) {
        // An empty file that stays refuses no process.
        let _ = system.unlink(readers, id);
        system.unlock(file);
    }
}

fn is_trusted<S: System>(system: &S, readers: &Target, stat: &Stat) -> bool {
    readers.trusts_others() || !system.is_planted(&readers.path, stat.owner)
}

/// Releases a lock in shared mode. The last reader removes the file.
pub(super) fn release_shared<S: System>(system: &S, held: Held<S::File>) -> Result<(), Error> {
    let Held { file, id, path, .. } = held;
    if !system.is_open(&file, id) {
        // Closing the descriptor would close a file that another part of the program has opened since.
        mem::forget(file);
        return Err(Error::Lost { path, reason: FILE_CLOSED });
    }
    let readers = readers_of(&path);
    let current = system.stat_path(&readers);
    // Also for children that have inherited it. Windows does not convert a shared lock into an exclusive one.
    system.unlock(&file);
    match current.map_err(system_error("lstat", &readers))? {
        Some(stat) if stat.id == id => {}
        Some(_) => return Err(Error::Lost { path, reason: NAMES_ANOTHER }),
        None => return Err(Error::Lost { path, reason: NAMES_NONE }),
    }
    remove_unused(system, &readers, &file, id);
    Ok(())
}
