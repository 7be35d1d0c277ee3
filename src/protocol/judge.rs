//! Is the holder that a record names gone? Asked only when nobody holds the file's kernel lock.
//!
//! Two witnesses must agree that it is: the kernel lock, and the record.
#![forbid(unsafe_code)]

use super::record::Record;
use crate::platform::{FileId, FsKind, ProcessIdentity, ProcessState};

/// Everything that the verdict depends on.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The record, if the file holds one.
    pub record: Option<&'a Record>,
    /// The file.
    pub file: FileId,
    /// Whether the file has no byte at all.
    pub empty: bool,
    /// Whether the file says that its lock was released in place.
    pub released: bool,
    /// Whether the file is so young that its creator may not have written to it yet.
    pub young: bool,
    /// The process that has the record's pid; asked of the system only if there is a record.
    pub process: ProcessState,
    /// Who and where we are.
    pub identity: &'a ProcessIdentity,
    /// The filesystem as we see it.
    pub fs: FsKind,
    /// Whether the filesystem has kernel locks, the first witness.
    pub kernel_locks: bool,
}

/// What the evidence comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody has created the file and is about to write to it.
    BeingCreated,
    /// Its lock was released, and the file could not be removed.
    Free,
    /// Its holder may be alive. The text says why, as a sentence without its end.
    Held(String),
    /// Its holder is gone. The text says why, as a sentence without its end.
    Stale(String),
}

/// Judges a lock file whose kernel lock is free, or whose filesystem has none.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let Some(record) = evidence.record else {
        return without_record(evidence);
    };
    match (record.boot_id.as_deref(), evidence.identity.boot.as_deref()) {
        (None, _) => legacy_record(record, evidence),
        (Some(theirs), Some(ours)) if theirs == ours => same_boot(record, evidence),
        (Some(_), Some(_)) => other_boot(record, evidence),
        (Some(_), None) if both_local(record, evidence) => legacy_record(record, evidence),
        (Some(_), None) => foreign_holder(record),
    }
}

fn without_record(evidence: &Evidence<'_>) -> Verdict {
    if evidence.released && evidence.kernel_locks {
        return Verdict::Free;
    }
    let reason = match (evidence.empty, evidence.young) {
        (true, true) => return Verdict::BeingCreated,
        (true, false) => "the file was empty: a run ended between creating it and writing to it",
        (false, _) => "the file was not a lock record",
    };
    if evidence.kernel_locks {
        return Verdict::Stale(reason.to_owned());
    }
    Verdict::Held(format!(
        "{reason}, and this filesystem has no kernel locks that could show whether it is held; \
         breakLock({{ force: true }}) removes it"
    ))
}

/// A record of the TypeScript lock: the pid is all there is, and a live pid keeps it, however old.
fn legacy_record(record: &Record, evidence: &Evidence<'_>) -> Verdict {
    let pid = record.pid;
    match evidence.process {
        ProcessState::Alive { .. } | ProcessState::Replaced => {
            Verdict::Held(format!("process {pid} is running"))
        }
        ProcessState::Dead | ProcessState::Zombie if evidence.kernel_locks => ended(pid),
        ProcessState::Dead | ProcessState::Zombie => Verdict::Held(format!(
            "no process {pid} runs on this host, but the record does not say which host it ran on, and this \
             filesystem has no kernel locks; breakLock({{ force: true }}) removes it"
        )),
    }
}

fn same_boot(record: &Record, evidence: &Evidence<'_>) -> Verdict {
    let pid = record.pid;
    // The numbers of devices and inodes mean the same file for one boot of one kernel. A holder that lost its kernel lock
    // by accident is named by the file that it wrote; a copy of that file names the original.
    if evidence.fs == FsKind::Local && record.is_copy(evidence.file) {
        return Verdict::Stale("the file is a copy: its record names another file".to_owned());
    }
    if known_to_differ(record.pid_ns, evidence.identity.pid_namespace) {
        // Its pid means nothing here, but the kernel is the same, and its lock speaks for all namespaces.
        return if evidence.kernel_locks {
            Verdict::Stale(format!("process {pid} of another pid namespace ended without releasing"))
        } else {
            Verdict::Held(format!(
                "process {pid} of another pid namespace, out of sight from here, may be running"
            ))
        };
    }
    match evidence.process {
        ProcessState::Alive { start } if known_to_differ(record.start_time, start) => Verdict::Stale(
            format!("process {pid} ended without releasing, and another process has its pid now"),
        ),
        ProcessState::Replaced if evidence.kernel_locks => Verdict::Stale(format!(
            "process {pid} did not release the lock: it was replaced by execve, or closed the lock file"
        )),
        ProcessState::Alive { .. } | ProcessState::Replaced => {
            Verdict::Held(format!("process {pid} is running"))
        }
        ProcessState::Dead | ProcessState::Zombie => ended(pid),
    }
}

fn other_boot(record: &Record, evidence: &Evidence<'_>) -> Verdict {
    if evidence.kernel_locks && both_local(record, evidence) {
        Verdict::Stale("the machine was restarted".to_owned())
    } else {
        foreign_holder(record)
    }
}

fn both_local(record: &Record, evidence: &Evidence<'_>) -> bool {
    record.on_local_fs() && evidence.fs == FsKind::Local
}

/// The holder runs, or ran, under another kernel, so one witness is all there is.
fn foreign_holder(record: &Record) -> Verdict {
    let host = record.host.as_deref().unwrap_or("another machine");
    Verdict::Held(format!(
        "process {} on {host} holds it, or was cut off: this cannot be seen from here. If that run is gone, \
         breakLock({{ force: true }}) removes it; several machines want the PostgreSQL lock",
        record.pid
    ))
}

fn ended(pid: u32) -> Verdict {
    Verdict::Stale(format!("process {pid} ended without releasing"))
}

/// Unknown on either side is no difference: a lock is broken on proof, never on doubt.
fn known_to_differ(theirs: Option<u64>, ours: Option<u64>) -> bool {
    matches!((theirs, ours), (Some(theirs), Some(ours)) if theirs != ours)
}

#[cfg(test)]
mod tests;
