//! Release, and the rollback of a lock that was not delivered.
#![forbid(unsafe_code)]

use std::mem;

use super::error::Error;
use super::file::{cut, overwrite, stays};
use super::held::{FILE_CLOSED, Held, NAMES_ANOTHER, NAMES_NONE};
use super::record::RELEASED;
use super::shared::release_shared;
use super::target::system_error;
use crate::platform::{System, Unlinked};

/// Releases a lock. This process does not own it afterwards, even if the call fails. A file that cannot be removed is
/// marked as released.
///
/// # Errors
/// [`Error::Lost`] if the path names another file or none, which stays as it is; a file that was moved is marked as
/// released. [`Error::System`] if the file can be neither removed nor marked: its record is cut off if possible, so that
/// the next process takes the lock over. Otherwise the record refuses others until this process ends.
pub fn release<S: System>(system: &S, held: Held<S::File>) -> Result<(), Error> {
    if held.shared {
        return release_shared(system, held);
    }
    let Held { file, id, path, .. } = held;
    if !system.is_open(&file, id) {
        // Closing the descriptor would close a file that another part of the program has opened since.
        mem::forget(file);
        return Err(Error::Lost { path, reason: FILE_CLOSED });
    }
    let failed = match system.unlink(&path, id) {
        Ok(Unlinked::Removed) => return Ok(()),
        Ok(unlinked) => {
            // Where it was moved to, the record would refuse others until this process ends.
            if system.stat(&file).is_ok_and(|stat| stat.links == 1) {
                overwrite(system, &file, &RELEASED);
            }
            // Also for children that have inherited it.
            system.unlock(&file);
            let reason = if unlinked == Unlinked::Missing { NAMES_NONE } else { NAMES_ANOTHER };
            return Err(Error::Lost { path, reason });
        }
        Err(failed) => failed,
    };
    if stays(&failed) && overwrite(system, &file, &RELEASED) {
        system.unlock(&file);
        return Ok(());
    }
    let _ = cut(system, &file);
    system.unlock(&file);
    Err(system_error(failed.syscall, &path)(failed.source))
}

/// Rolls back an acquire that was not delivered. A record that was taken over is restored, so that the next process
/// reports its holder.
///
/// # Errors
/// As [`release`], of a lock that was not taken over.
pub fn rollback<S: System>(system: &S, held: Held<S::File>) -> Result<(), Error> {
    if held.shared || held.taken_over.is_none() {
        return release(system, held);
    }
    if !system.is_open(&held.file, held.id) {
        mem::forget(held.file);
        return Ok(());
    }
    // An empty file would be read as one that is being created.
    let restored = !held.previous_record.is_empty() && overwrite(system, &held.file, &held.previous_record);
    if !restored && system.stat(&held.file).is_ok_and(|stat| stat.links > 1) {
        // The record stays in a snapshot, but at the path it would refuse others until this process ends.
        let _ = system.unlink(&held.path, held.id);
    } else if !restored {
        let _ = cut(system, &held.file);
    }
    Ok(())
}
