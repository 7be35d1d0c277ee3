//! The lock that a process owns.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::record::Holder;
use crate::platform::{FileId, System};

/// A lock that this process owns. Dropping it closes the file, which ends ownership and leaves a stale
/// file behind; [`release`](super::release()) is the way to end it.
#[derive(Debug)]
pub struct Held<F> {
    pub(super) file: F,
    pub(super) id: FileId,
    /// The lock file.
    pub path: PathBuf,
    /// We, as the record says.
    pub holder: Holder,
    /// Set if a run before this one never released the lock.
    pub taken_over: Option<TakenOver>,
    /// What that run had written.
    pub(super) previous_record: Vec<u8>,
}

impl<F> Held<F> {
    /// Whether this is the lock's file.
    pub(crate) fn is_file(&self, id: FileId) -> bool {
        self.id == id
    }

    /// The number by which a child can inherit the file. The kernel lock lives as long as the last that has it.
    pub fn descriptor<S: System<File = F>>(&self, system: &S) -> Option<i32> {
        system.descriptor(&self.file).filter(|_| system.is_open(&self.file, self.id))
    }
}

/// Whether the file of a lock that this process owns is open, and named by the path.
pub fn is_held<S: System>(system: &S, held: &Held<S::File>) -> bool {
    system.is_open(&held.file, held.id)
        && system.stat_path(&held.path).is_ok_and(|named| named.is_some_and(|named| named.id == held.id))
}

/// Whom a lock was taken over from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// Who left the lock behind, if the file said.
    pub holder: Option<Holder>,
    /// Why it was judged gone, as a sentence without its end.
    pub reason: String,
}
