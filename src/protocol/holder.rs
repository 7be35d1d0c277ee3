//! The process that a record or a kernel lock names.
#![forbid(unsafe_code)]

use std::time::{Duration, UNIX_EPOCH};

use super::file::stat_if_current;
use super::record::{Holder, Record};
use super::target::Target;
use crate::platform::{FileId, ProcessState, System};

/// The state of the process that wrote a record.
pub(super) fn author<S: System>(system: &S, record: &Record, file: FileId) -> ProcessState {
    let (state, identity) = (system.process(record.pid), system.identity());
    let is_this_process =
        record.pid == identity.pid && record.start_time.is_some() && record.start_time == identity.start;
    // It may hold the same file through another mount of a shared filesystem.
    let is_released = !system.holds(file) && !record.names_another_mount(file);
    if is_this_process && is_released { ProcessState::Replaced } else { state }
}

/// Whether the process of a record runs: it is not a zombie, and no other process has its pid.
pub(crate) fn is_running<S: System>(system: &S, pid: u32, recorded_start: Option<u64>) -> bool {
    let ProcessState::Alive { start } = system.process(pid) else { return false };
    start.is_none() || recorded_start.is_none_or(|recorded| Some(recorded) == start)
}

/// Whether the pid of a record is of another pid namespace or another kernel, so that it means nothing here.
pub(crate) fn is_foreign<S: System>(system: &S, record: &Record) -> bool {
    let identity = system.identity();
    record.v.is_some() && (record.boot_id != identity.boot || record.pid_ns != identity.pid_namespace)
}

/// The process that holds the kernel lock of a file that was closed. If the path does not name that file, its number
/// may already be that of another file.
pub(super) fn lock_owner<S: System>(system: &S, target: &Target, id: FileId) -> Option<u32> {
    let owner = system.lock_owner(id)?;
    matches!(stat_if_current(system, target, id), Ok(Some(_))).then_some(owner)
}

/// The reason if the owner of the kernel lock has ended: children inherit a lock of `flock(2)`.
pub(super) fn inherited(pid: u32) -> String {
    format!("process {pid} ended, but its command, or another process that inherited its lock, still runs")
}

/// The reason if no record names the owner of the kernel lock.
pub(super) fn without_record(owner: Option<u32>) -> String {
    let owner = owner.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    format!(
        "{owner} holds the kernel lock without a record: a program other than reconcile-lock, \
         or an acquire that has just begun"
    )
}

/// Describes a holder: a sentence without its full stop.
pub(crate) fn describe(holder: &Holder) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(holder.created_at.min(MAX_TIME)));
    let since = at.map(|at| format!(" since {}", humantime::format_rfc3339_millis(at)));
    let host = holder.host.as_ref().map(|host| format!(" on {host}"));
    format!("process {}{} has held it{}", holder.pid, host.unwrap_or_default(), since.unwrap_or_default())
}

/// The end of the year 9999, the last that RFC 3339 can write.
const MAX_TIME: u64 = 253_402_300_799_999;
