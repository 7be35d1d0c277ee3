//! Taking over a stale lock.

use reconcile_lock::protocol::{acquire, inspect, rollback};
use reconcile_lock::{Access, LockMode, LockState, Opened, System, Target, TryLock};

use crate::world::{World, target};
use crate::{EIO, ENOSPC, LEGACY_DEAD, is_contention, is_system};

#[test]
fn a_stale_lock_is_taken_over_in_place() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 0);
    let held = acquire(&one, &target(), 0).unwrap();
    assert!(!world.calls().contains(&"unlink"));
    assert_eq!(held.taken_over.as_ref().unwrap().holder.as_ref().unwrap().pid, 77);
    assert_eq!(world.content().unwrap().len(), 512);
}

#[test]
fn rollback_restores_the_previous_record() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    rollback(&one, acquire(&one, &target(), 0).unwrap()).unwrap();
    assert_eq!(world.content(), None);
    let odd = br#"{ "pid":77, "host":"a\\b\u001b", "lease":{"until":1} }"#;
    for (found, reason, pid) in [
        (LEGACY_DEAD, "process 77 ended without releasing", Some(77)),
        (odd, "process 77 ended without releasing", Some(77)),
        (b"garbage", "not contain a lock record", None),
    ] {
        for failing in ["", "write"] {
            world.put(found, 60_000);
            let held = acquire(&one, &target(), 0).unwrap();
            world.fail(failing, EIO);
            rollback(&one, held).unwrap();
            world.clear_failures();
            assert_eq!(world.content().unwrap() == found, failing.is_empty());
            let next = acquire(&two, &target(), 0).unwrap().taken_over.unwrap();
            if failing.is_empty() {
                assert!(next.reason.contains(reason), "{}", next.reason);
                assert_eq!(next.holder.map(|holder| holder.pid), pid);
            } else {
                assert!(
                    next.reason.contains("not contain a lock record"),
                    "its own record would refuse other processes"
                );
            }
        }
    }
    assert_eq!(world.open_files(), 0);
}

#[test]
fn a_rollback_of_a_linked_file_blocks_no_process() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(LEGACY_DEAD, 60_000);
    let held = acquire(&one, &target(), 0).unwrap();
    world.link();
    world.calls();
    rollback(&one, held).unwrap();
    let calls = world.calls();
    assert!(
        !calls.contains(&"write") && !calls.contains(&"ftruncate"),
        "a snapshot is not written: {calls:?}"
    );
    assert!(acquire(&two, &target(), 0).is_ok(), "the record of process 1 stayed");
}

#[test]
fn a_failed_take_over_leaves_the_stale_file() {
    for call in ["create", "open", "fstat", "flock", "lstat", "read", "write"] {
        let world = World::new();
        let one = world.process(1);
        world.put(LEGACY_DEAD, 0);
        world.fail(call, ENOSPC);
        let named = if call == "create" { "open" } else { call };
        assert!(is_system(acquire(&one, &target(), 0), named, ENOSPC), "{call}");
        assert_eq!(world.content().as_deref(), Some(LEGACY_DEAD), "{call}");
        world.clear_failures();
        assert!(
            acquire(&one, &target(), 0).unwrap().taken_over.is_some(),
            "{call}: the next process still reports it"
        );
    }
}

#[test]
fn a_take_over_whose_recheck_fails_does_not_block_others() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(LEGACY_DEAD, 0);
    // The first call is the pause.
    world.before("pause", |world| world.fail_call(1, EIO));
    assert!(is_system(acquire(&one, &target(), 0), "lstat", EIO));
    world.clear_failures();
    assert!(acquire(&two, &target(), 0).unwrap().taken_over.is_some());
}

#[test]
fn a_stale_file_of_another_user_is_taken_over() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 0);
    world.set_mode(0o666);
    assert!(acquire(&one, &target(), 0).is_ok());
    assert_eq!(world.mode(), 0o600);
    world.put(LEGACY_DEAD, 0);
    world.set_mode(0o666);
    world.fail("fchmod", 1);
    assert!(acquire(&one, &target(), 0).is_ok());
    assert_eq!(world.mode(), 0o666);
}

#[test]
fn a_take_over_without_a_record_ends_in_contention() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 0);
    let Ok(Opened::File(rival)) = one.open("x".as_ref(), Access::ReadWrite) else { panic!("opened") };
    assert_eq!(one.try_lock(&rival, LockMode::Exclusive).unwrap(), TryLock::Acquired);
    assert!(is_contention(acquire(&one, &target(), 0), None));
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Held);
}

#[test]
fn a_stale_file_that_vanishes_after_locking_is_retried() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(LEGACY_DEAD, 0);
    world.before("lstat", move |world| {
        world.remove();
        std::mem::forget(acquire(&two, &target(), 0).unwrap());
    });
    assert!(is_contention(acquire(&one, &target(), 0), Some(2)));
}

#[test]
fn a_take_over_detects_a_legacy_unlink_within_5_ms() {
    let world = World::new();
    let one = world.process(1);
    world.process(9);
    world.put(LEGACY_DEAD, 0);
    world.before("pause", |world| world.put(br#"{"pid":9,"createdAt":6}"#, 0));
    assert!(is_contention(acquire(&one, &target(), 0), Some(9)));
}

#[test]
fn a_moved_file_does_not_name_the_process_taking_over() {
    for (has_another_name, expected) in [(false, LEGACY_DEAD), (true, b"{} ")] {
        let world = World::new();
        let one = world.process(1);
        world.put(LEGACY_DEAD, 0);
        if has_another_name {
            world.link();
        }
        world.before("pause", |world| {
            world.move_away();
        });
        assert_eq!(acquire(&one, &target(), 0).unwrap().taken_over, None);
        assert!(world.data(usize::from(has_another_name)).starts_with(expected));
    }
}

#[test]
fn a_take_over_pauses_unless_legacy_is_false() {
    for has_another_name in [false, true] {
        for (legacy, milliseconds) in [(true, 5), (false, 0)] {
            let world = World::new();
            let one = world.process(1);
            world.put(LEGACY_DEAD, 60_000);
            if has_another_name {
                world.link();
            }
            let before = one.monotonic();
            let held = acquire(&one, &Target { legacy, ..target() }, 0).unwrap();
            assert!(held.taken_over.is_some());
            assert_eq!(one.monotonic(), before + std::time::Duration::from_millis(milliseconds));
        }
    }
}

#[test]
fn a_replaced_program_takes_over_its_own_lock() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    drop(acquire(&one, &target(), 0).unwrap());
    assert!(
        is_contention(acquire(&one, &target(), 0), Some(1)),
        "it may have lost its kernel lock by accident"
    );
    one.exec();
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)), "another process cannot detect it");
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Stale);
    let from = acquire(&one, &target(), 0).unwrap().taken_over.unwrap();
    assert_eq!(from.holder.unwrap().pid, 1);
    assert!(from.reason.contains("replaced by execve"), "{}", from.reason);
}

#[test]
fn an_inherited_lock_is_taken_over_after_the_child_ends() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&two, &target(), 0).unwrap();
    world.kill(2);
    // The child ends while the call retries.
    world.before("pause", move |_| drop(held));
    let taken_over = acquire(&one, &target(), 0).unwrap().taken_over.unwrap();
    assert_eq!(taken_over.reason, "process 2 ended without releasing");
}

#[test]
fn a_record_of_another_mount_is_stale_with_server_locks() {
    let world = World::new();
    let one = world.process(1);
    world.share();
    world.put(br#"{"pid":77,"bootId":"boot","pidNs":2,"fs":"shared","file":"9:0","v":1}"#, 60_000);
    assert!(is_contention(acquire(&one, &target(), 0), Some(77)));
    world.share_by_server();
    assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some());
}

#[test]
fn a_partial_write_that_cannot_be_read_is_cut() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    world.before("write", |world| {
        world.write_only(400);
        world.fail("read", EIO);
    });
    assert!(is_system(acquire(&one, &target(), 0), "write", 27));
    assert_eq!(world.content().map(|content| content.len()), Some(1));
}

#[test]
fn a_linked_file_is_not_recreated_without_its_recheck() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    world.link();
    // The first call is the pause.
    world.before("pause", |world| world.fail_call(1, EIO));
    assert!(is_system(acquire(&one, &target(), 0), "lstat", EIO));
}
