//! Is the holder that a record names gone? Asked only when nobody holds the file's kernel lock.
//!
//! Two witnesses must agree that it is: the kernel lock, and the record.
#![forbid(unsafe_code)]

use crate::record::Record;
use crate::system::{FileId, FsKind, Here, ProcessState};

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
    pub here: &'a Here,
    /// The filesystem as we see it.
    pub fs: FsKind,
    /// Whether the filesystem has kernel locks, the first witness.
    pub kernel_locks: bool,
}

/// What the evidence comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody has created the file and is about to write to it.
    BeingBorn,
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
    match (record.boot_id.as_deref(), evidence.here.boot.as_deref()) {
        (None, _) => old_record(record, evidence),
        (Some(theirs), Some(ours)) if theirs == ours => same_boot(record, evidence),
        (Some(_), Some(_)) => other_boot(record, evidence),
        (Some(_), None) if both_local(record, evidence) => old_record(record, evidence),
        (Some(_), None) => out_of_sight(record),
    }
}

fn without_record(evidence: &Evidence<'_>) -> Verdict {
    if evidence.released && evidence.kernel_locks {
        return Verdict::Free;
    }
    let reason = match (evidence.empty, evidence.young) {
        (true, true) => return Verdict::BeingBorn,
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
fn old_record(record: &Record, evidence: &Evidence<'_>) -> Verdict {
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
    if differ(record.pid_ns, evidence.here.pid_namespace) {
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
        ProcessState::Alive { start } if differ(record.start_time, start) => Verdict::Stale(format!(
            "process {pid} ended without releasing, and another process has its pid now"
        )),
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
        out_of_sight(record)
    }
}

fn both_local(record: &Record, evidence: &Evidence<'_>) -> bool {
    record.saw_local_fs() && evidence.fs == FsKind::Local
}

/// The holder runs, or ran, under another kernel, so one witness is all there is.
fn out_of_sight(record: &Record) -> Verdict {
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
fn differ(theirs: Option<u64>, ours: Option<u64>) -> bool {
    matches!((theirs, ours), (Some(theirs), Some(ours)) if theirs != ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Here {
        Here {
            pid: 1,
            start: Some(10),
            boot: Some("this".into()),
            pid_namespace: Some(5),
            host: Some("here".into()),
        }
    }

    fn native() -> Record {
        let there = Here { pid: 4711, start: Some(99), host: Some("there".into()), ..here() };
        Record::of(&there, 0, 1, FsKind::Local)
    }

    fn old() -> Record {
        Record {
            host: None,
            boot_id: None,
            start_time: None,
            pid_ns: None,
            thread: None,
            fs: None,
            file: None,
            v: None,
            ..native()
        }
    }

    #[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
    struct Case {
        record: Option<Record>,
        empty: bool,
        released: bool,
        young: bool,
        process: ProcessState,
        fs: FsKind,
        kernel_locks: bool,
        here: Here,
    }

    const FILE: FileId = FileId { device: 1, inode: 2 };

    fn case(record: Option<Record>, process: ProcessState) -> Case {
        Case {
            record,
            empty: false,
            released: false,
            young: false,
            process,
            fs: FsKind::Local,
            kernel_locks: true,
            here: here(),
        }
    }

    impl Case {
        fn verdict(&self) -> Verdict {
            judge(&Evidence {
                record: self.record.as_ref(),
                empty: self.empty,
                released: self.released,
                file: FILE,
                young: self.young,
                process: self.process,
                here: &self.here,
                fs: self.fs,
                kernel_locks: self.kernel_locks,
            })
        }
        fn held(&self) -> bool {
            matches!(self.verdict(), Verdict::Held(_))
        }
        fn stale(&self, reason: &str) -> bool {
            matches!(self.verdict(), Verdict::Stale(text) if text.contains(reason))
        }
    }

    const DEAD: ProcessState = ProcessState::Dead;
    const ALIVE: ProcessState = ProcessState::Alive { start: Some(99) };
    const REUSED: ProcessState = ProcessState::Alive { start: Some(100) };
    const HIDDEN: ProcessState = ProcessState::Alive { start: None };

    #[test]
    fn empty_and_young_is_being_born() {
        let newborn = Case { empty: true, young: true, ..case(None, DEAD) };
        assert_eq!(newborn.verdict(), Verdict::BeingBorn);
    }

    #[test]
    fn empty_and_older_or_not_our_json_is_stale() {
        assert!(Case { empty: true, ..case(None, DEAD) }.stale("empty"));
        assert!(case(None, DEAD).stale("the file was not a lock record"));
        assert!(Case { young: true, ..case(None, DEAD) }.stale("not a lock record"));
    }

    #[test]
    fn a_released_file_is_free_where_the_kernel_lock_proves_it() {
        let released = Case { released: true, ..case(None, DEAD) };
        assert_eq!(released.verdict(), Verdict::Free);
        assert!(Case { kernel_locks: false, ..released }.held());
    }

    #[test]
    fn a_copy_of_a_live_holders_file_is_stale_and_the_file_itself_is_not() {
        assert!(case(Some(native().in_file(FILE)), ALIVE).held());
        let copy = native().in_file(FileId { inode: 3, ..FILE });
        assert!(case(Some(copy.clone()), ALIVE).stale("the file is a copy"));
        let shared = Case { fs: FsKind::Shared, ..case(Some(copy), ALIVE) };
        assert!(shared.held(), "another kernel may number its files otherwise");
    }

    #[test]
    fn an_old_record_is_held_by_a_live_pid_however_old() {
        assert!(case(Some(old()), HIDDEN).held());
        assert!(case(Some(old()), REUSED).held());
    }

    #[test]
    fn an_old_record_of_a_dead_pid_is_stale() {
        assert!(case(Some(old()), DEAD).stale("process 4711 ended without releasing"));
    }

    #[test]
    fn a_zombie_is_as_dead() {
        assert!(case(Some(old()), ProcessState::Zombie).stale("ended"));
        assert!(case(Some(native()), ProcessState::Zombie).stale("ended"));
    }

    #[test]
    fn this_boot_and_the_same_process_is_held() {
        assert!(case(Some(native()), ALIVE).held());
        assert!(case(Some(native()), HIDDEN).held(), "doubt breaks nothing");
    }

    #[test]
    fn a_program_that_was_replaced_is_gone_where_the_kernel_lock_proves_it() {
        let replaced = case(Some(native()), ProcessState::Replaced);
        assert!(replaced.stale("process 4711 did not release the lock"));
        assert!(Case { kernel_locks: false, ..replaced }.held());
        assert!(
            case(Some(old()), ProcessState::Replaced).held(),
            "the legacy lock may be in the same program"
        );
    }

    #[test]
    fn this_boot_otherwise_is_stale() {
        assert!(case(Some(native()), DEAD).stale("process 4711 ended without releasing"));
        assert!(case(Some(native()), REUSED).stale("another process has its pid"));
        let elsewhere = Record { pid_ns: Some(6), ..native() };
        assert!(case(Some(elsewhere), ALIVE).stale("another pid namespace"));
    }

    #[test]
    fn another_boot_may_number_its_files_otherwise() {
        let before =
            Record { boot_id: Some("before".into()), ..native() }.in_file(FileId { device: 9, ..FILE });
        assert!(case(Some(before), ALIVE).stale("the machine was restarted"));
    }

    #[test]
    fn another_boot_on_a_local_filesystem_is_a_restart() {
        let before = Record { boot_id: Some("before".into()), ..native() };
        assert!(case(Some(before), ALIVE).stale("the machine was restarted"));
    }

    #[test]
    fn another_boot_on_anything_else_is_held_and_says_where() {
        let before = Record { boot_id: Some("before".into()), ..native() };
        let we_share = Case { fs: FsKind::Shared, ..case(Some(before.clone()), DEAD) };
        let they_share = case(Some(Record { fs: Some("shared".into()), ..before.clone() }), DEAD);
        let they_are_silent = case(Some(Record { fs: None, ..before }), DEAD);
        for case in [we_share, they_share, they_are_silent] {
            let Verdict::Held(reason) = case.verdict() else { panic!("held") };
            assert!(
                reason.contains("on there") && reason.contains("breakLock") && reason.contains("PostgreSQL")
            );
        }
    }

    #[test]
    fn without_our_boot_id_a_local_record_is_judged_by_its_pid() {
        let here = Here { boot: None, ..here() };
        assert!(Case { here: here.clone(), ..case(Some(native()), DEAD) }.stale("ended"));
        assert!(Case { here: here.clone(), ..case(Some(native()), ALIVE) }.held());
        assert!(Case { here, fs: FsKind::Shared, ..case(Some(native()), DEAD) }.held());
    }

    #[test]
    fn without_kernel_locks_only_proof_of_death_on_this_boot_counts() {
        let bare = |record, process| Case { kernel_locks: false, ..case(record, process) };
        assert!(bare(Some(native()), DEAD).stale("ended"));
        assert!(bare(Some(native()), REUSED).stale("another process"));
        assert!(bare(Some(native()), ALIVE).held());
        assert!(bare(Some(old()), DEAD).held());
        assert!(bare(None, DEAD).held());
        assert!(bare(Some(Record { pid_ns: Some(6), ..native() }), DEAD).held());
        assert!(bare(Some(Record { boot_id: Some("before".into()), ..native() }), DEAD).held());
    }
}
