//! Tests of the verdicts.

use super::*;

fn identity() -> ProcessIdentity {
    ProcessIdentity {
        pid: 1,
        start: Some(10),
        boot: Some("this".into()),
        pid_namespace: Some(5),
        host: Some("here".into()),
    }
}

fn native() -> Record {
    let there = ProcessIdentity { pid: 4711, start: Some(99), host: Some("there".into()), ..identity() };
    Record::of(&there, 0, 1, FsKind::Local)
}

fn legacy() -> Record {
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
    identity: ProcessIdentity,
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
        identity: identity(),
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
            identity: &self.identity,
            fs: self.fs,
            kernel_locks: self.kernel_locks,
            by_another_mount: self.record.as_ref().is_some_and(|record| record.names_another_mount(FILE)),
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
fn an_empty_young_file_is_being_created() {
    let empty_and_young = Case { empty: true, young: true, ..case(None, DEAD) };
    assert_eq!(empty_and_young.verdict(), Verdict::BeingCreated);
}

#[test]
fn an_empty_old_file_or_invalid_record_is_stale() {
    assert!(Case { empty: true, ..case(None, DEAD) }.stale("empty"));
    assert!(case(None, DEAD).stale("the file did not contain a lock record"));
    assert!(Case { young: true, ..case(None, DEAD) }.stale("not contain a lock record"));
}

#[test]
fn a_released_file_is_free_if_kernel_locks_exist() {
    let released = Case { released: true, ..case(None, DEAD) };
    assert_eq!(released.verdict(), Verdict::Free);
    assert!(Case { kernel_locks: false, ..released }.held());
}

#[test]
fn a_copy_of_a_held_file_is_stale() {
    assert!(case(Some(native().in_file(FILE)), ALIVE).held());
    let copy = native().in_file(FileId { inode: 3, ..FILE });
    assert!(case(Some(copy.clone()), ALIVE).stale("the file is a copy"));
    let shared = Case { fs: FsKind::Shared, ..case(Some(copy), ALIVE) };
    assert!(shared.held(), "another kernel may number its files otherwise");
}

#[test]
fn a_legacy_record_with_a_live_pid_is_held() {
    assert!(case(Some(legacy()), HIDDEN).held());
    assert!(case(Some(legacy()), REUSED).held());
}

#[test]
fn a_legacy_record_with_a_dead_pid_is_stale() {
    assert!(case(Some(legacy()), DEAD).stale("process 4711 ended without releasing"));
}

#[test]
fn a_zombie_counts_as_dead() {
    assert!(case(Some(legacy()), ProcessState::Zombie).stale("ended"));
    assert!(case(Some(native()), ProcessState::Zombie).stale("ended"));
}

#[test]
fn same_boot_and_same_process_is_held() {
    assert!(case(Some(native()), ALIVE).held());
    assert!(case(Some(native()), HIDDEN).held(), "doubt breaks nothing");
}

#[test]
fn a_replaced_program_is_gone_if_kernel_locks_exist() {
    let replaced = case(Some(native()), ProcessState::Replaced);
    assert!(replaced.stale("process 4711 did not release the lock"));
    assert!(Case { kernel_locks: false, ..replaced }.held());
    assert!(
        case(Some(legacy()), ProcessState::Replaced).held(),
        "the legacy lock may be in the same program"
    );
}

#[test]
fn same_boot_and_other_process_is_stale() {
    assert!(case(Some(native()), DEAD).stale("process 4711 ended without releasing"));
    assert!(case(Some(native()), REUSED).stale("another process has its pid"));
    let elsewhere = Record { pid_ns: Some(6), ..native() };
    assert!(case(Some(elsewhere), ALIVE).stale("another pid namespace"));
}

#[test]
fn another_pid_namespace_and_another_mount_is_held() {
    let shared = Record { pid_ns: Some(6), fs: Some("shared".into()), ..native() };
    let by_another = shared.clone().in_file(FileId { device: 9, ..FILE });
    for (fs, record) in
        [(FsKind::Shared, native()), (FsKind::Shared, shared.clone()), (FsKind::Local, shared.clone())]
    {
        let record = Record { pid_ns: Some(6), ..record }.in_file(FileId { device: 9, ..FILE });
        assert!(Case { fs, ..case(Some(record), DEAD) }.held());
    }
    for file in [FILE, FileId { inode: 9, ..FILE }] {
        let same_mount = Case { fs: FsKind::Shared, ..case(Some(shared.clone().in_file(file)), DEAD) };
        assert!(same_mount.stale("another pid namespace"), "the number of a file can change");
    }
    // Its pid is known in the same namespace.
    let seen = Record { pid_ns: Some(5), ..by_another };
    assert!(Case { fs: FsKind::Shared, ..case(Some(seen), DEAD) }.stale("ended without releasing"));
}

#[test]
fn file_numbers_of_another_boot_are_not_compared() {
    let before = Record { boot_id: Some("before".into()), ..native() }.in_file(FileId { device: 9, ..FILE });
    assert!(
        case(Some(before), ALIVE).stale("the machine was restarted, or its disk comes from another machine")
    );
}

#[test]
fn another_boot_on_a_local_filesystem_is_stale() {
    let before = Record { boot_id: Some("before".into()), ..native() };
    assert!(
        case(Some(before), ALIVE).stale("the machine was restarted, or its disk comes from another machine")
    );
}

#[test]
fn another_boot_on_a_shared_filesystem_is_held() {
    let before = Record { boot_id: Some("before".into()), ..native() };
    let we_share = Case { fs: FsKind::Shared, ..case(Some(before.clone()), DEAD) };
    let they_share = case(Some(Record { fs: Some("shared".into()), ..before.clone() }), DEAD);
    let they_are_silent = case(Some(Record { fs: None, ..before }), DEAD);
    for case in [we_share, they_share, they_are_silent] {
        let Verdict::Held(reason) = case.verdict() else { panic!("held") };
        assert!(
            reason.contains("on there") && reason.contains("with force") && reason.contains("PostgreSQL")
        );
    }
}

#[test]
fn a_hidden_boot_id_counts_as_equal_on_local_filesystems() {
    let hidden = ProcessIdentity { boot: None, ..identity() };
    let nameless = Record { boot_id: None, ..native() };
    for (record, identity) in
        [(native(), hidden.clone()), (nameless.clone(), identity()), (nameless.clone(), hidden)]
    {
        let local = |process| Case { identity: identity.clone(), ..case(Some(record.clone()), process) };
        assert!(local(ALIVE).held());
        assert!(local(HIDDEN).held());
        assert!(local(DEAD).stale("ended"));
        assert!(local(REUSED).stale("another process has its pid"));
        assert!(local(ProcessState::Replaced).stale("did not release the lock"));
        let elsewhere = Record { pid_ns: Some(6), ..record.clone() };
        assert!(Case { record: Some(elsewhere), ..local(ALIVE) }.stale("another pid namespace"));
        assert!(Case { kernel_locks: false, ..local(DEAD) }.held(), "it may run on another boot");
        assert!(Case { fs: FsKind::Shared, ..local(DEAD) }.held(), "it may run on another machine");
    }
}

#[test]
fn without_kernel_locks_stale_needs_a_dead_process() {
    let bare = |record, process| Case { kernel_locks: false, ..case(record, process) };
    assert!(bare(Some(native()), DEAD).stale("ended"));
    assert!(bare(Some(native()), REUSED).stale("another process"));
    assert!(bare(Some(native()), ALIVE).held());
    assert!(bare(Some(legacy()), DEAD).held());
    assert!(bare(None, DEAD).held());
    assert!(bare(Some(Record { pid_ns: Some(6), ..native() }), DEAD).held());
    assert!(bare(Some(Record { boot_id: Some("before".into()), ..native() }), DEAD).held());
}
