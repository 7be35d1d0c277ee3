//! The protocol under every interleaving. `cargo test --release --test model`
#![allow(missing_docs, reason = "tests")]

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Instant;

use reconcile_lock_model::checker::{Scenario, Start};
#[cfg(feature = "mutants")]
use reconcile_lock_model::mutants::mutant;
use reconcile_lock_model::programs::PROTOCOL;
use reconcile_lock_model::role::Role::{
    self, Break, ForceBreak, Inspect, LegacyProcess, NativeRun, Read, Refused, Remove, Run,
};
use reconcile_lock_model::violation::Violation::{self, *};
use reconcile_lock_model::world::{Filesystem, Life};

/// Prints although the test runner captures the output of tests that pass.
macro_rules! print_line {
    ($($text:tt)*) => { writeln!(io::stdout(), $($text)*).expect("standard output") };
}

/// A thread of a search frees memory of other threads, for which the allocator of glibc takes a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs one search at a time, because each uses all cores and much memory.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const LEGACY: &str = r#"{"pid":77,"createdAt":5}"#;
const DEAD: &str = r#"{"pid":77,"createdAt":5,"bootId":"boot","startTime":3,"pidNs":1,"fs":"local","v":1}"#;
const REUSED: &str = r#"{"pid":50,"createdAt":5,"bootId":"boot","startTime":3,"pidNs":1,"fs":"local","v":1}"#;
const RESTARTED: &str =
    r#"{"pid":50,"createdAt":5,"bootId":"before","startTime":1,"pidNs":1,"fs":"local","v":1}"#;
const ALIVE: &str = r#"{"pid":50,"createdAt":5}"#;

/// The record of a live process that lost its kernel lock by accident, in its own file, and in a copy of it.
const DEPRIVED: &str =
    r#"{"pid":50,"createdAt":5,"bootId":"boot","startTime":1,"pidNs":1,"fs":"local","file":"1:0","v":1}"#;
const COPY: &str =
    r#"{"pid":50,"createdAt":5,"bootId":"boot","startTime":1,"pidNs":1,"fs":"local","file":"1:9","v":1}"#;

/// The record of the first process, whose program `execve` has replaced.
const REPLACED: &str =
    r#"{"pid":100,"createdAt":5,"bootId":"boot","startTime":1000,"pidNs":1,"fs":"local","file":"1:0","v":1}"#;

/// The states of the path that most searches begin with.
fn starts() -> Vec<Start> {
    vec![
        Start::nothing(),
        Start::file("a stale file", LEGACY),
        Start::file("an empty file", ""),
        Start::file("random bytes", "\u{1}\u{2}rubbish"),
    ]
}

fn few_starts() -> Vec<Start> {
    starts().into_iter().take(2).collect()
}

fn more_starts() -> Vec<Start> {
    let mut all = starts();
    all.extend([
        Start::file("an empty file, just created", "").young(),
        Start::file("a stale file of this lock", DEAD),
        Start::file("a stale file whose pid another process has", REUSED),
        Start::file("a stale file from before a restart", RESTARTED),
        Start::file("the file of a running legacy process", ALIVE),
        Start::file("the file of a live process without its kernel lock", DEPRIVED),
        Start::file("a copy of a live process' file", COPY),
        Start::file("the file of a program that execve has replaced", REPLACED),
        Start::file("more bytes than a record", &"x".repeat(600)),
    ]);
    all
}

fn scenario(processes: &[(Role, u8)]) -> Scenario {
    Scenario::new(&PROTOCOL, processes.to_vec(), starts())
}

/// Explores all states, and checks that exactly the expected violations are found.
fn explore(name: &str, scenario: &Scenario, expected: &[Violation]) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let unknown: Vec<Violation> =
        Violation::ALL.iter().copied().filter(|violation| !expected.contains(violation)).collect();
    let started = Instant::now();
    let outcome = scenario.explore(&unknown);
    print_line!(
        "model {name}: all {} states, {} steps, longest schedule {}, {:.1} s",
        outcome.states,
        outcome.steps,
        outcome.depth,
        started.elapsed().as_secs_f64()
    );
    for (violation, schedule) in &outcome.found {
        let expected = expected.iter().any(|expected| Violation::NAMES[*expected as usize] == *violation);
        print_line!(
            "{} {violation}, by this schedule:\n{schedule}",
            if expected { "Expected:" } else { "FOUND" }
        );
    }
    let mut expected: Vec<&str> =
        expected.iter().map(|expected| Violation::NAMES[*expected as usize]).collect();
    expected.sort_unstable();
    let found: Vec<&str> = outcome.found.iter().map(|(violation, _)| *violation).collect();
    assert_eq!(found, expected, "exactly the expected violations are found");
}

/// Explores a mutant until the checker finds this violation, which the protocol itself does not have in this scenario.
#[cfg(feature = "mutants")]
fn is_caught(name: &str, mut scenario: Scenario, violation: Violation) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let expected = Violation::NAMES[violation as usize];
    let started = Instant::now();
    let control = scenario.clone();
    let control = control.explore(&[violation]);
    assert!(
        control.found.iter().all(|(found, _)| *found != expected),
        "{name}: without the fault, there is {expected} too"
    );
    print_line!("control of {name}: {} states, {:.1} s", control.states, started.elapsed().as_secs_f64());
    let mutant = mutant(name);
    scenario.protocol = &mutant.protocol;
    let outcome = scenario.explore(&[violation]);
    let schedule = outcome.found.iter().find(|(found, _)| *found == expected).map(|(_, schedule)| schedule);
    let Some(schedule) = schedule else {
        panic!("{name}: no {expected} in {} states", outcome.states);
    };
    print_line!(
        "mutant {name}: {}\n{expected} after {} states, by this schedule:\n{schedule}",
        mutant.mutation.about,
        outcome.states
    );
}

#[test]
fn two_processes_twice() {
    let scenario =
        Scenario { starts: more_starts(), ticks: 1, ends_alone: true, ..scenario(&[(Run, 2), (Run, 2)]) };
    explore("two processes, twice each", &scenario, &[]);
}

#[test]
fn two_processes_and_crashes_anywhere() {
    let scenario = Scenario {
        starts: more_starts(),
        ticks: 1,
        crashes: 2,
        fates: vec![Life::Dead, Life::Zombie, Life::Reused],
        ..scenario(&[(Run, 2), (Run, 2)])
    };
    explore("two processes, twice each, both killed at any operation", &scenario, &[]);
}

#[test]
fn a_child_that_works_on() {
    let children_survive = |processes: &[(Role, u8)]| Scenario {
        crashes: 1,
        children_survive: true,
        fates: vec![Life::Dead, Life::Zombie, Life::Reused],
        ..scenario(processes)
    };
    explore("two processes, twice each, one killed alone", &children_survive(&[(Run, 2), (Run, 2)]), &[]);
    for other in [Inspect, Break] {
        let three = Scenario { starts: few_starts(), ..children_survive(&[(Run, 1), (Run, 1), (other, 1)]) };
        explore(&format!("two processes and {other:?}, one killed alone"), &three, &[]);
    }
}

#[test]
fn two_processes_and_an_inspector() {
    let twice = scenario(&[(Run, 2), (Run, 2), (Inspect, 1)]);
    explore("two processes, twice each, and an inspector", &twice, &[]);
    let killed = Scenario {
        starts: few_starts(),
        crashes: 1,
        ticks: 1,
        ..scenario(&[(Run, 1), (Run, 1), (Inspect, 1)])
    };
    explore("two processes and an inspector, one killed", &killed, &[]);
}

#[test]
fn two_processes_and_one_that_was_refused() {
    let twice = scenario(&[(Run, 2), (Run, 2), (Refused, 1)]);
    explore("two processes, twice each, and one that was refused", &twice, &[]);
    let starts = more_starts();
    let killed = Scenario { starts, crashes: 1, ticks: 1, ..scenario(&[(Run, 2), (Refused, 2)]) };
    explore("a process and one that was refused, twice each, one killed", &killed, &[]);
    let apart = Scenario { in_namespaces: true, ..killed };
    explore("the same in pid namespaces of their own", &apart, &[]);
}

#[test]
fn two_processes_and_a_breaker() {
    explore("two processes, twice each, and a breaker", &scenario(&[(Run, 2), (Run, 2), (Break, 1)]), &[]);
    let killed = Scenario {
        starts: few_starts(),
        crashes: 1,
        ticks: 1,
        ..scenario(&[(Run, 1), (Run, 1), (Break, 1)])
    };
    explore("two processes and a breaker, one killed", &killed, &[]);
}

#[test]
fn a_file_that_cannot_be_removed() {
    let starts = vec![Start::released("a released lock"), Start::file("a stale file", DEAD)];
    let stays = Scenario { stays: true, starts, ticks: 1, ..scenario(&[(Run, 2), (Run, 2)]) };
    explore("two processes, twice each, at a mount point", &stays, &[]);
    let killed = Scenario { crashes: 1, processes: vec![(Run, 2), (Run, 1)], ..stays.clone() };
    explore("two processes at a mount point, one killed", &killed, &[]);
    let inspected = Scenario { processes: vec![(Run, 1), (Run, 1), (Inspect, 1)], ..stays.clone() };
    explore("two processes and an inspector at a mount point", &inspected, &[]);
    let broken = Scenario { processes: vec![(Run, 1), (Run, 1), (Break, 1)], ..stays };
    explore("two processes and a breaker at a mount point", &broken, &[]);
}

fn linked_starts() -> Vec<Start> {
    vec![
        Start::file("a stale file with another name", DEAD).linked_elsewhere(),
        Start::file("a stale legacy lock with another name", LEGACY).linked_elsewhere(),
        Start::released("a released lock with another name").linked_elsewhere(),
    ]
}

#[test]
fn a_file_with_another_name() {
    let starts = linked_starts();
    let twice = Scenario { starts, crashes: 1, ticks: 1, ..scenario(&[(Run, 2), (Run, 1)]) };
    explore("two processes and a file with another name, one killed", &twice, &[]);
    let three = Scenario {
        starts: linked_starts().into_iter().take(1).collect(),
        ..scenario(&[(Run, 1), (Run, 1), (Run, 1)])
    };
    explore("three processes and a file with another name", &three, &[]);
    let broken = Scenario { starts: linked_starts(), ..scenario(&[(Run, 1), (Break, 1), (Inspect, 1)]) };
    explore("a process, a breaker, an inspector and a file with another name", &broken, &[]);
}

#[test]
fn an_outside_remover() {
    let expected = [LockRemoved, ReleaseRace];
    explore("two processes, twice each, and rm", &scenario(&[(Run, 2), (Run, 2), (Remove, 1)]), &expected);
    let killed = Scenario {
        starts: few_starts(),
        crashes: 1,
        ticks: 1,
        ..scenario(&[(Run, 1), (Run, 1), (ForceBreak, 1)])
    };
    explore("two processes and a forced break, one killed", &killed, &expected);
}

#[test]
fn a_legacy_process() {
    let expected = [LockRemoved, ReleaseRace];
    let alone = Scenario { starts: more_starts(), ticks: 1, ..scenario(&[(Run, 2), (LegacyProcess, 2)]) };
    explore("a process and a legacy process, twice each", &alone, &expected);
    explore(
        "two processes, one of them twice, and a legacy process",
        &scenario(&[(Run, 2), (Run, 1), (LegacyProcess, 1)]),
        &expected,
    );
    let killed = Scenario {
        starts: few_starts(),
        crashes: 1,
        ticks: 1,
        ..scenario(&[(Run, 1), (Run, 1), (LegacyProcess, 1)])
    };
    explore("two processes and a legacy process, one killed", &killed, &expected);
}

#[test]
fn a_legacy_process_slower_than_the_recheck() {
    let slow =
        Scenario { legacy_unlinks_in_time: false, ..scenario(&[(Run, 1), (Run, 1), (LegacyProcess, 1)]) };
    explore(
        "a legacy process that is slower than 5 ms",
        &slow,
        &[LockRemoved, LockRemovedAfterTakeOver, ReleaseRace],
    );
}

#[test]
fn native_take_over_needs_no_pause() {
    let killed = Scenario {
        starts: more_starts(),
        ticks: 1,
        crashes: 1,
        fates: vec![Life::Dead, Life::Zombie, Life::Reused],
        ..scenario(&[(NativeRun, 2), (NativeRun, 1)])
    };
    explore("two processes without the pause, one of them twice, one killed", &killed, &[]);
    let mixed = Scenario { processes: vec![(NativeRun, 1), (Run, 2)], ..killed };
    explore("a process without the pause and another, twice, one killed", &mixed, &[]);
    for other in [NativeRun, Inspect, Break] {
        let three = scenario(&[(NativeRun, 1), (NativeRun, 1), (other, 1)]);
        explore(&format!("two processes without the pause, and {other:?}"), &three, &[]);
    }
    let linked =
        Scenario { starts: linked_starts(), crashes: 1, ..scenario(&[(NativeRun, 2), (NativeRun, 1)]) };
    explore("two processes without the pause and a file with another name, one killed", &linked, &[]);
}

#[test]
fn without_the_pause_a_legacy_process_removes_a_lock() {
    let expected = [LockRemoved, LockRemovedAfterTakeOver, ReleaseRace];
    for (start, starts) in [("a stale file", few_starts()), ("a file with another name", linked_starts())] {
        let beside = Scenario { starts, ..scenario(&[(NativeRun, 1), (LegacyProcess, 1)]) };
        explore(&format!("a process without the pause, a legacy process and {start}"), &beside, &expected);
    }
}

#[test]
fn three_processes() {
    let killed =
        Scenario { starts: few_starts(), crashes: 1, ticks: 1, ..scenario(&[(Run, 1), (Run, 1), (Run, 1)]) };
    explore("three processes, one killed", &killed, &[]);
}

#[test]
fn processes_in_pid_namespaces_of_their_own() {
    let killed = Scenario { in_namespaces: true, crashes: 1, ticks: 1, ..scenario(&[(Run, 2), (Run, 2)]) };
    explore("two processes, twice each, in pid namespaces of their own, one killed", &killed, &[]);
    let mut starts = starts();
    starts.push(Start::released("a released lock"));
    let inspected = Scenario { in_namespaces: true, starts, ..scenario(&[(Run, 1), (Run, 1), (Inspect, 1)]) };
    explore("two processes and an inspector in pid namespaces of their own", &inspected, &[]);
}

#[test]
fn a_reader_and_a_process() {
    let twice = Scenario { starts: few_starts(), ..scenario(&[(Read, 2), (Run, 2)]) };
    explore("a reader and a process, twice each", &twice, &[]);
    let killed = Scenario {
        starts: more_starts(),
        ticks: 1,
        crashes: 1,
        fates: vec![Life::Dead, Life::Zombie, Life::Reused],
        ..scenario(&[(Read, 1), (Run, 1)])
    };
    explore("a reader and a process, one killed", &killed, &[]);
    let alone = Scenario { starts: more_starts(), ends_alone: true, ..scenario(&[(Read, 1), (Run, 1)]) };
    explore("a reader and a process, each to its end alone", &alone, &[]);
}

#[test]
fn readers_processes_and_others() {
    for others in [[Read, Run], [Run, Run], [Read, Inspect], [Run, Inspect], [Read, Break], [Run, Break]] {
        let processes = [(Read, 1), (others[0], 1), (others[1], 1)];
        let three = Scenario { starts: vec![Start::nothing()], ..scenario(&processes) };
        explore(&format!("a reader and {others:?}"), &three, &[]);
    }
    let killed = Scenario { starts: few_starts(), crashes: 1, ..scenario(&[(Read, 2), (Read, 1)]) };
    explore("two readers, one of them twice, one killed", &killed, &[]);
}

#[test]
fn a_network_filesystem() {
    let filesystem = Filesystem::Shared;
    let killed = Scenario { filesystem, crashes: 1, ticks: 1, ..scenario(&[(Run, 2), (Run, 2)]) };
    explore("two processes, twice each, on a network filesystem, one killed", &killed, &[]);
}

#[test]
fn without_kernel_locks() {
    let filesystem = Filesystem::Lockless;
    let killed = Scenario { filesystem, crashes: 1, ticks: 1, ..scenario(&[(Run, 2), (Run, 2)]) };
    explore("two processes, twice each, without kernel locks, one killed", &killed, &[]);
}

#[cfg(feature = "mutants")]
macro_rules! mutants {
    ($($test:ident: $name:ident, $violation:ident, [$($role:ident $rounds:literal),*] $(, $field:ident: $value:expr)*;)*) => {$(
        #[test]
        fn $test() {
            let scenario = scenario(&[$(($role, $rounds)),*]);
            is_caught(stringify!($name), Scenario { $($field: $value,)* ..scenario }, $violation);
        }
    )*};
}

#[cfg(feature = "mutants")]
mutants! {
    mutant_no_inode_check_after_locking: no_inode_check_after_locking, TwoOwners, [Run 1, Run 1, Run 1];
    mutant_created_file_not_checked: created_file_not_checked, TwoOwners, [Run 1, Run 1, Break 1], ticks: 1;
    mutant_created_file_not_checked_on_a_network: created_file_not_checked_on_a_network, TwoOwners, [Run 1, Run 1, Break 1], filesystem: Filesystem::Shared, ticks: 1;
    mutant_stale_file_unlinked: stale_file_unlinked_without_its_kernel_lock, TwoOwners, [Run 1, Run 1];
    mutant_release_closes_first: release_closes_before_it_unlinks, TwoOwners, [Run 1, Run 1, Run 1], in_namespaces: true;
    mutant_record_written_first: record_written_before_the_kernel_lock, ForeignFileModified, [Run 1, Run 1];
    mutant_busy_is_contention: busy_is_contention, SpuriousRefusal, [Run 1, Inspect 1];
    mutant_busy_by_the_record_alone: busy_is_classified_by_the_record_alone, SpuriousRefusal, [Run 1, Inspect 1], starts: more_starts();
    mutant_ended_holder_taken_over: ended_holder_taken_over, TwoOwners, [Run 1, Run 1], crashes: 1, children_survive: true;
    mutant_pending_record_is_contention: pending_record_is_contention, WrongAnswer, [Run 1, Run 1];
    mutant_empty_file_taken_over: empty_file_taken_over_at_once, LegacyLockModified, [Run 1, LegacyProcess 1];
    mutant_file_being_created_locked: file_being_created_locked_before_the_check, UnneededWait, [Run 1, Run 1];
    mutant_zombie_alive: zombie_counts_as_alive, LostLock, [Run 1, Run 1], crashes: 1;
    mutant_legacy_records_ignored: legacy_records_ignored, LegacyLockModified, [Run 1, LegacyProcess 1];
    mutant_record_ignored: record_ignored, LegacyLockModified, [Run 1, LegacyProcess 1];
    mutant_created_file_not_classified: created_file_with_a_record_not_classified, CrashNotReported, [Run 1, Run 1], crashes: 1, ticks: 1;
    mutant_busy_file_being_created_entered: busy_file_being_created_entered, TwoOwners, [Run 1, Run 1], ticks: 1;
    mutant_no_recheck: no_recheck_after_a_take_over, LockRemovedAfterTakeOver, [Run 1, LegacyProcess 1];
    mutant_no_pause: no_pause_after_a_take_over, LockRemovedAfterTakeOver, [Run 1, LegacyProcess 1];
    mutant_release_does_not_check_the_path: release_does_not_check_the_path, ForeignFileModified, [Run 1, Run 1, Remove 1];
    mutant_exclusive_inspector: inspector_takes_the_exclusive_lock, SpuriousRefusal, [Run 1, Inspect 1];
    mutant_inspector_does_not_recheck: inspector_does_not_recheck, WrongAnswer, [Run 1, Inspect 1];
    mutant_inspector_later_record: inspector_believes_a_later_record, WrongAnswer, [Run 1, Inspect 1], in_namespaces: true, starts: vec![Start::released("a released lock")];
    mutant_repeated_refusal_without_the_kernel_lock: repeated_refusal_believes_the_record, SpuriousRefusal, [Run 1, Refused 1], starts: more_starts();
    mutant_exclusive_repeated_refusal: repeated_refusal_takes_the_exclusive_lock, SpuriousRefusal, [Run 1, Refused 1];
    mutant_file_being_created_repeated_refusal: file_being_created_locked_by_a_repeated_refusal, UnneededWait, [Run 1, Refused 1];
    mutant_breaker_takes_no_kernel_lock: breaker_takes_no_kernel_lock, ForeignFileModified, [Run 1, Break 1];
    mutant_breaker_does_not_recheck: breaker_does_not_recheck, ForeignFileModified, [Run 1, Run 1, Break 1];
    mutant_breaker_does_not_classify: breaker_does_not_classify, LegacyLockModified, [Break 1, LegacyProcess 1];
    mutant_released_lock_taken_over: released_lock_taken_over, FalseTakeOver, [Run 1, Run 1], starts: vec![Start::file("a stale file", DEAD)], stays: true;
    mutant_release_truncates_the_record: release_truncates_the_record, FalseTakeOver, [Run 1, Run 1], starts: vec![Start::file("a stale file", DEAD)], stays: true;
    mutant_release_in_place_is_an_error: release_in_place_is_an_error, WrongAnswer, [Run 1, Run 1], starts: vec![Start::file("a stale file", DEAD)], stays: true;
    mutant_file_with_several_links_written: file_with_several_links_written, SnapshotWritten, [Run 1, Run 1], starts: linked_starts();
    mutant_no_pause_after_the_file_was_recreated: no_pause_after_the_file_was_recreated, LockRemovedAfterTakeOver, [Run 1, LegacyProcess 1], starts: linked_starts();
    mutant_copy_of_a_record_believed: copy_of_a_record_believed, SpuriousRefusal, [Run 1, Run 1], starts: more_starts();
    mutant_longer_file_not_truncated: longer_file_not_truncated, LockRemovedAfterTakeOver, [Run 1, LegacyProcess 1], starts: more_starts();
    mutant_invisible_owner: invisible_owner_believed_at_once, WrongAnswer, [Run 1, Run 1], in_namespaces: true, starts: more_starts();
    mutant_file_being_created_breaker: file_being_created_locked_by_a_breaker, UnneededWait, [Run 1, Break 1];
    mutant_file_being_created_inspector: file_being_created_locked_by_an_inspector, UnneededWait, [Run 1, Inspect 1];
    mutant_replaced_program: replaced_program_taken_for_alive, SpuriousRefusal, [Run 1, Run 1], starts: more_starts();
    mutant_lockless_holder: lockless_holder_not_rechecked, WrongAnswer, [Run 1, Run 1], filesystem: Filesystem::Lockless;
    mutant_reader_does_not_check_the_path_again: reader_does_not_check_the_path_again, TwoOwners, [Read 1, Run 1];
    mutant_readers_file_not_checked_after_locking: readers_file_not_checked_after_locking, TwoOwners, [Read 1, Run 1, Run 1], starts: vec![Start::nothing()];
    mutant_owner_does_not_await_readers: owner_does_not_await_readers, TwoOwners, [Read 1, Run 1];
    mutant_owner_checks_in_shared_mode: owner_checks_in_shared_mode, TwoOwners, [Read 1, Run 1];
    mutant_owner_does_not_check_the_readers_file: owner_does_not_check_the_readers_file, ForeignFileModified, [Read 1, Read 1, Run 1], starts: vec![Start::nothing()];
    mutant_any_reader_removes_the_file: any_reader_removes_the_file, TwoOwners, [Read 1, Read 1, Run 1], starts: vec![Start::nothing()];
    mutant_record_awaited: record_awaited_without_bound, NonTermination, [Run 1, Run 1], ends_alone: true;
    mutant_missing_file_retried: missing_file_retried_without_bound, NonTermination, [Break 1], ends_alone: true;
    mutant_readers_are_contention: readers_are_contention, SpuriousRefusal, [Read 1, Run 1];
    mutant_checked_readers_are_contention: checked_readers_are_contention, SpuriousRefusal, [Read 1, Read 1];
    mutant_reader_does_not_await_the_record: reader_does_not_await_the_record, WrongAnswer, [Read 1, Run 1];
    mutant_reader_does_not_report: reader_does_not_report, CrashNotReported, [Read 1, Run 1], crashes: 1;
    mutant_inspector_ignores_readers: inspector_ignores_readers, WrongAnswer, [Read 1, Inspect 1];
    mutant_breaker_ignores_readers: breaker_ignores_readers, WrongAnswer, [Read 1, Break 1];
    mutant_lockless_take_over: lockless_take_over, TwoOwners, [Run 1, Run 1], starts: more_starts(), filesystem: Filesystem::Lockless;
}
