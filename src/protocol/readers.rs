//! The readers of a lock, and what is said of them.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::error::Error;
use super::target::{Target, readers_of, system_error};
use crate::platform::{FileId, FileKind, System};

/// The file of the readers, if it exists. Readers refuse another kind of file, so an owner ignores it.
pub(super) fn find_readers<S: System>(system: &S, target: &Target) -> Result<Option<FileId>, Error> {
    let path = readers_of(&target.path);
    let stat = match system.stat_path(&path) {
        // The name of the lock file has less than nine bytes left, so no reader can create this one.
        Err(error) if error.kind() == ErrorKind::InvalidFilename => return Ok(None),
        stat => stat.map_err(system_error("lstat", &path))?,
    };
    let Some(stat) = stat else { return Ok(None) };
    let is_theirs = stat.kind == FileKind::File
        && stat.size == 0
        && (target.trusts_others() || !system.is_planted(&path, stat.owner));
    Ok(is_theirs.then_some(stat.id))
}

/// The processes that hold the lock in shared mode, as far as the system lists them.
pub(super) fn readers<S: System>(system: &S, target: &Target) -> Vec<u32> {
    let Ok(Some(id)) = find_readers(system, target) else { return Vec::new() };
    let mut pids = system.shared_lock_owners(id);
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The reason to refuse a lock that is held in shared mode.
pub(super) fn held_by_readers<S: System>(system: &S, target: &Target) -> String {
    if let Ok(Some(id)) = find_readers(system, target)
        && system.holds(id)
    {
        return "this process holds it in shared mode. Release it first: an upgrade in place is refused, because two of \
                them would wait for each other"
            .to_owned();
    }
    describe_readers(&readers(system, target))
}

/// Names the processes that hold a lock in shared mode: a sentence without its full stop.
pub(super) fn describe_readers(readers: &[u32]) -> String {
    match readers {
        [] => "another process holds it in shared mode".to_owned(),
        [pid] => format!("process {pid} holds it in shared mode"),
        pids => {
            let named: Vec<_> = pids.iter().take(MAX_NAMED).map(u32::to_string).collect();
            let more = if pids.len() > MAX_NAMED { ", …" } else { "" };
            format!("{} processes hold it in shared mode: {}{more}", pids.len(), named.join(", "))
        }
    }
}

/// How many readers a reason names.
const MAX_NAMED: usize = 8;
