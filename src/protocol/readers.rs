//! The readers of a lock, and their description.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::error::Error;
use super::file::not_a_file;
use super::holder::inherited;
use super::target::{Target, readers_of, system_error};
use crate::platform::{FileId, FileKind, Stat, System};

/// The longest path of the system, `PATH_MAX` of Linux and macOS.
const PATH_MAX: usize = if cfg!(windows) {
    32_767
} else if cfg!(target_os = "macos") {
    1024
} else {
    4096
};

/// The file of the readers, if it exists.
///
/// # Errors
/// [`Error::NotAFile`] if its owner could remove it while it is held: this process is not a reader of such a file, and
/// another one may be.
pub(super) fn find_readers<S: System>(system: &S, target: &Target) -> Result<Option<FileId>, Error> {
    let Some(stat) = stat_readers(system, target)? else { return Ok(None) };
    if !target.trusts_others() && system.is_planted(&target.path, stat.owner) {
        return Err(not_a_file(&target.of_readers(), FileKind::Planted));
    }
    Ok(Some(stat.id))
}

/// As [`find_readers`], of any owner. Readers refuse another kind of file, so an owner ignores it.
pub(super) fn stat_readers<S: System>(system: &S, target: &Target) -> Result<Option<Stat>, Error> {
    let path = readers_of(&target.path);
    let stat = match system.stat_path(&path) {
        // The name of the lock file has less than nine bytes left, so no reader can create this one. If the whole path is
        // too long, readers can use a shorter one.
        Err(error)
            if error.kind() == ErrorKind::InvalidFilename
                && path.as_os_str().as_encoded_bytes().len() < PATH_MAX =>
        {
            return Ok(None);
        }
        stat => stat.map_err(system_error("lstat", &path))?,
    };
    Ok(stat.filter(|stat| stat.kind == FileKind::File && stat.size == 0))
}

/// The processes that hold the lock in shared mode, as far as the system lists them.
pub(super) fn reader_pids<S: System>(system: &S, target: &Target) -> Vec<u32> {
    let Ok(Some(Stat { id, .. })) = stat_readers(system, target) else { return Vec::new() };
    let mut pids = system.shared_lock_owners(id);
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The reason to refuse a lock that is held in shared mode.
pub(super) fn held_by_readers<S: System>(system: &S, target: &Target) -> String {
    if let Ok(Some(Stat { id, .. })) = stat_readers(system, target)
        && system.holds(id)
    {
        return "this process holds it in shared mode: release it first".to_owned();
    }
    describe_readers(system, &reader_pids(system, target))
}

/// Names the processes that hold a lock in shared mode: a sentence without its full stop.
pub(super) fn describe_readers<S: System>(system: &S, readers: &[u32]) -> String {
    match readers {
        [] => "another process holds it in shared mode".to_owned(),
        [pid] if !system.process_exists(*pid) => inherited(*pid),
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
