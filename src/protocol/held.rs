//! The lock that a process owns.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::record::Holder;
use super::target::{Target, readers_of};
use crate::platform::{FileId, System};

pub(crate) const FILE_CLOSED: &str = "another part of this program closed its file";
pub(crate) const NAMES_NONE: &str = "the path no longer names a file";
pub(crate) const NAMES_ANOTHER: &str = "the path names another file now";

/// A lock that this process owns. [`release`](super::release()) ends it. Dropping it closes the file, which ends
/// ownership and leaves a stale file.
#[derive(Debug)]
pub struct Held<F> {
    pub(super) file: F,
    pub(super) id: FileId,
    /// The lock file.
    pub path: PathBuf,
    /// This process, as the record names it.
    pub holder: Holder,
    /// Set if the previous holder did not release the lock.
    pub taken_over: Option<TakenOver>,
    /// The bytes of the previous holder's record.
    pub(super) previous_record: Vec<u8>,
    /// Whether it is held in shared mode, by the file of the readers.
    pub(super) shared: bool,
    /// Whether readers were there at the end of [`acquire_path`](super::acquire_path()).
    pub(crate) has_readers: bool,
}

impl<F> Held<F> {
    /// A lock that this process holds exclusively, and did not take over.
    pub(super) fn new(file: F, id: FileId, target: &Target, holder: Holder) -> Self {
        Self {
            file,
            id,
            path: target.path.clone(),
            holder,
            taken_over: None,
            previous_record: Vec::new(),
            shared: false,
            has_readers: false,
        }
    }

    /// Whether other processes may hold it too, in shared mode.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The path of the file whose kernel lock this process holds.
    pub(crate) fn file_path(&self) -> Cow<'_, Path> {
        if self.shared { Cow::Owned(readers_of(&self.path)) } else { Cow::Borrowed(&self.path) }
    }

    /// The file that this path should name.
    pub(crate) fn file_id(&self) -> FileId {
        self.id
    }

    /// Whether the descriptor is still that of the lock's file: another part of the program may have closed it.
    pub(crate) fn is_open<S: System<File = F>>(&self, system: &S) -> bool {
        system.is_open(&self.file, self.id)
    }

    /// The descriptor by which a child can inherit the file. The kernel lock ends with the last process that has it. It may
    /// be that of another file, if another part of the program has closed it.
    pub(crate) fn descriptor<S: System<File = F>>(&self, system: &S) -> Option<i32> {
        system.descriptor(&self.file)
    }
}

/// Whether the file of the lock is open and named by the path. If the path cannot be read, whether it has a name.
pub fn is_held<S: System>(system: &S, held: &Held<S::File>) -> bool {
    held.is_open(system)
        && match system.stat_path(&held.file_path()) {
            Ok(named) => named.is_some_and(|named| named.id == held.id),
            Err(_) => system.stat(&held.file).is_ok_and(|stat| stat.links > 0),
        }
}

/// The previous holder of a lock that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// The previous holder, if the record was readable.
    pub holder: Option<Holder>,
    /// Why it was judged gone: a sentence without its full stop.
    pub reason: String,
}
