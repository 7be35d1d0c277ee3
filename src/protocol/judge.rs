//! Judges whether the holder that a record names is gone. The kernel lock of the file is free, or there are none.
//!
//! A lock is stale only if the kernel lock and the record agree.
#![forbid(unsafe_code)]

use super::record::Record;
use crate::platform::{FileId, FsKind, ProcessIdentity, ProcessState};

/// The evidence for a verdict.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The record, if the file holds one.
    pub record: Option<&'a Record>,
    /// The file.
    pub file: FileId,
    /// Whether the file is empty.
    pub empty: bool,
    /// Whether the file is marked as released.
    pub released: bool,
    /// Whether the file is in its creation grace period.
    pub young: bool,
    /// The process that has the record's pid; [`ProcessState::Dead`] without a record.
    pub process: ProcessState,
    /// This process.
    pub identity: &'a ProcessIdentity,
    /// The kind of filesystem for this process.
    pub fs: FsKind,
    /// Whether the filesystem has kernel locks.
    pub kernel_locks: bool,
    /// Whether the record was written through another mount, which can have kernel locks of its own.
    pub by_another_mount: bool,
}

/// The verdict on a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A process has created the file and is about to write to it.
    BeingCreated,
    /// The lock was released, and the file could not be removed.
    Free,
    /// The holder may be alive, with the reason: a sentence without its full stop.
    Held(String),
    /// The holder is gone, with the reason: a sentence without its full stop.
    Stale(String),
}

/// Judges a lock file whose kernel lock is free, or whose filesystem has none.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let Some(record) = evidence.record else {
        return without_record(evidence);
    };
    match (record.boot_id.as_deref(), evidence.identity.boot.as_deref()) {
        (None, _) if record.v.is_none() => legacy_record(record, evidence),
        (Some(theirs), Some(ours)) if theirs == ours => same_boot(record, evidence),
        (Some(_), Some(_)) => other_boot(record, evidence),
        // `/proc/sys` is hidden. The kernel is the same, so its kernel lock is proof on every boot.
        _ if both_local(record, evidence) && evidence.kernel_locks => same_boot(record, evidence),
        _ if both_local(record, evidence) => legacy_record(record, evidence),
        _ => foreign_holder(record),
    }
}

fn without_record(evidence: &Evidence<'_>) -> Verdict {
    if evidence.released && evidence.kernel_locks {
        return Verdict::Free;
    }
    let reason = match (evidence.empty, evidence.young) {
        (true, true) => return Verdict::BeingCreated,
        (true, false) => {
            "the file was empty: its creator ended, or the machine lost power, before its record reached the disk"
        }
        (false, _) => "the file did not contain a lock record",
    };
    if evidence.kernel_locks {
        return Verdict::Stale(reason.to_owned());
    }
    Verdict::Held(format!(
        "{reason}, and this filesystem has no kernel locks that show whether it is held; if no process uses it, \
         break the lock with force"
    ))
}

/// A legacy record has a pid and nothing else: it is held as long as that pid is alive.
fn legacy_record(record: &Record, evidence: &Evidence<'_>) -> Verdict {
    let pid = record.pid;
    match evidence.process {
        ProcessState::Alive { .. } | ProcessState::Replaced => {
            Verdict::Held(format!("process {pid} is running"))
        }
        ProcessState::Dead | ProcessState::Zombie if evidence.kernel_locks => ended(pid),
        ProcessState::Dead | ProcessState::Zombie => Verdict::Held(format!(
            "no process {pid} runs on this host, but the record does not name its host, and this filesystem has no \
             kernel locks; if that process has ended, break the lock with force"
        )),
    }
}

fn same_boot(record: &Record, evidence: &Evidence<'_>) -> Verdict {
    let pid = record.pid;
    // Device and inode numbers mean the same file within one boot of one kernel. So a copy of a lock file names the
    // original, also if the holder of that has lost its kernel lock by accident.
    if evidence.fs == FsKind::Local && record.is_copy(evidence.file) {
        return Verdict::Stale("the file is a copy: its record names another file".to_owned());
    }
    if known_to_differ(record.pid_ns, evidence.identity.pid_namespace) {
        // The pid means nothing here, but the kernel is the same, and its locks count for all namespaces.
        return if evidence.kernel_locks && !evidence.by_another_mount {
            Verdict::Stale(format!("process {pid} of another pid namespace ended without releasing"))
        } else {
            Verdict::Held(format!(
                "process {pid} of another pid namespace, which this process cannot see, may be running; if it has \
                 ended, break the lock with force"
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
        Verdict::Stale("the machine was restarted, or its disk comes from another machine".to_owned())
    } else {
        foreign_holder(record)
    }
}

fn both_local(record: &Record, evidence: &Evidence<'_>) -> bool {
    record.on_local_fs() && evidence.fs == FsKind::Local
}

/// The holder runs, or ran, under another kernel, which this one cannot check.
fn foreign_holder(record: &Record) -> Verdict {
    let host = record.host.as_deref().unwrap_or("another machine");
    Verdict::Held(format!(
        "process {} on {host} may hold it: this machine cannot check processes of another one. If that process has \
         ended, break the lock with force. Locks across machines need PostgreSQL",
        record.pid
    ))
}

fn ended(pid: u32) -> Verdict {
    Verdict::Stale(format!("process {pid} ended without releasing"))
}

/// Whether both are known and differ: a stale verdict needs proof.
fn known_to_differ(theirs: Option<u64>, ours: Option<u64>) -> bool {
    matches!((theirs, ours), (Some(theirs), Some(ours)) if theirs != ours)
}

#[cfg(test)]
mod tests;
