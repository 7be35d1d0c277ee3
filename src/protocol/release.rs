//! Release, and the rollback of a lock that was never delivered.
#![forbid(unsafe_code)]

use std::mem;

use super::error::Error;
use super::file::{cut, overwrite, stays};
use super::held::Held;
use super::record::RELEASED;
use super::target::system_error;
use crate::platform::{System, Unlinked};

/// Releases a lock. Whatever happens, this process owns it no more afterwards. Where the system does not let us remove
/// the file, its content says that the lock is free.
///
/// # Errors
/// [`Error::Lost`] if the path names our file no more: it is left alone. [`Error::System`] if the file
/// can be neither removed nor written: its record is cut away, so that the next run takes it over.
pub fn release<S: System>(system: &S, held: Held<S::File>) -> Result<(), Error> {
    let Held { file, id, path, .. } = held;
    if !system.is_open(&file, id) {
        // Closing it would close what somebody else has opened since.
        mem::forget(file);
        return Err(Error::Lost { path, reason: "because another part of this program closed its file" });
    }
    let failed = match system.unlink(&path, id) {
        Ok(Unlinked::Removed) => return Ok(()),
        Ok(Unlinked::Missing) => {
            return Err(Error::Lost { path, reason: "because the path names no file now" });
        }
        Ok(Unlinked::Another) => {
            return Err(Error::Lost { path, reason: "because the path names another file now" });
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

/// Gives back a lock that nobody has used. What a dead run had left is put back: the next one is to learn of it.
///
/// # Errors
/// As [`release`], of a lock that was not taken over.
pub fn rollback<S: System>(system: &S, held: Held<S::File>) -> Result<(), Error> {
    if held.taken_over.is_none() {
        return release(system, held);
    }
    if !system.is_open(&held.file, held.id) {
        mem::forget(held.file);
        return Ok(());
    }
    // An empty file looks like a birth.
    let put_back = !held.previous_record.is_empty() && overwrite(system, &held.file, &held.previous_record);
    if !put_back {
        let _ = cut(system, &held.file);
    }
    Ok(())
}
