//! The protocol on a simulated system, for cases that a real system does not produce on demand.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[allow(dead_code, reason = "each test needs a part of it")]
mod world;

use reconcile_lock::protocol::{acquire, acquire_until, break_lock, inspect, is_held, release, rollback};
use reconcile_lock::{
    Access, Error, FileKind, LockMode, LockOptions, LockState, Opened, ProcessState, System, Target, TryLock,
};
use world::{World, target};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const OLD_DEAD: &[u8] = br#"{"pid":77,"createdAt":5}"#;

fn is_contention<T>(result: Result<T, Error>, holder: Option<u32>) -> bool {
    matches!(result, Err(Error::Contention { holder: found, .. }) if found.as_ref().map(|found| found.pid) == holder)
}

fn is_system<T>(result: Result<T, Error>, call: &str, errno: i32) -> bool {
    matches!(result, Err(Error::System { syscall, source, .. })
        if syscall == call && source.raw_os_error() == Some(errno))
}

#[test]
fn a_free_lock_is_acquired_and_released() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&one, &target(), 0).unwrap();
    assert!(is_held(&one, &held) && held.taken_over.is_none());
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)));
    release(&one, held).unwrap();
    assert_eq!(world.content(), None);
    release(&two, acquire(&two, &target(), 0).unwrap()).unwrap();
}

#[test]
fn a_stale_lock_is_taken_over_in_place() {
    let world = World::new();
    let one = world.process(1);
    world.put(OLD_DEAD, 0);
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
    for (found, told, who) in [
        (OLD_DEAD, "process 77 ended without releasing", Some(77)),
        (odd, "process 77 ended without releasing", Some(77)),
        (b"garbage", "not a lock record", None),
    ] {
        for ill in ["", "write"] {
            world.put(found, 60_000);
            let held = acquire(&one, &target(), 0).unwrap();
            world.fail(ill, EIO);
            rollback(&one, held).unwrap();
            world.mend();
            assert_eq!(world.content().unwrap() == found, ill.is_empty());
            let next = acquire(&two, &target(), 0).unwrap().taken_over.unwrap();
            if ill.is_empty() {
                assert!(next.reason.contains(told), "{}", next.reason);
                assert_eq!(next.holder.map(|holder| holder.pid), who);
            } else {
                assert!(next.reason.contains("not a lock record"), "its own record keeps others out");
            }
        }
    }
    assert_eq!(world.open_files(), 0);
}

#[test]
fn acquire_until_does_not_pause_after_the_deadline() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(b"garbage", 60_000);
    let Opened::File(look) = two.open(&target().path, Access::Read).unwrap() else { panic!() };
    assert_eq!(two.try_lock(&look, LockMode::Shared).unwrap(), TryLock::Acquired);
    let before = one.monotonic();
    let until = |milliseconds| Some(before + std::time::Duration::from_millis(milliseconds));
    assert!(is_contention(acquire_until(&one, &target(), 0, until(0), &mut None), None));
    assert_eq!(one.monotonic(), before);
    assert!(is_contention(acquire_until(&one, &target(), 0, until(50), &mut None), None));
    assert!(one.monotonic() <= before + std::time::Duration::from_millis(60));
    drop(look);
    assert!(acquire_until(&one, &target(), 0, until(0), &mut None).unwrap().taken_over.is_some());
}

#[test]
fn a_failed_fresh_acquire_leaves_no_file() {
    for (call, named) in [("create", "open"), ("flock", "flock"), ("fstat", "fstat"), ("write", "write")] {
        let world = World::new();
        world.fail(call, EIO);
        assert!(is_system(acquire(&world.process(1), &target(), 0), named, EIO), "{call}");
        assert_eq!(world.content(), None, "{call}");
    }
    let world = World::new();
    world.umask(0o777);
    world.fail("fchmod", EIO);
    assert!(is_system(acquire(&world.process(1), &target(), 0), "fchmod", EIO));
    assert_eq!(world.content(), None);
    let world = World::new();
    world.share();
    world.fail("lstat", EIO);
    assert!(is_system(acquire(&world.process(1), &target(), 0), "lstat", EIO));
    // A file whose identity is unknown is not removed but marked, so that the next process takes it over.
    assert_eq!(world.content(), Some(vec![0]));
}

#[test]
fn a_failed_acquire_does_not_remove_another_file() {
    let world = World::new();
    let one = world.process(1);
    world.fail("write", ENOSPC);
    world.before("write", |world| world.put(b"another's", 0));
    assert!(is_system(acquire(&one, &target(), 0), "write", ENOSPC));
    assert_eq!(world.content().unwrap(), b"another's");
}

#[test]
fn a_failed_take_over_leaves_the_stale_file() {
    for call in ["create", "open", "fstat", "flock", "lstat", "read", "write"] {
        let world = World::new();
        let one = world.process(1);
        world.put(OLD_DEAD, 0);
        world.fail(call, ENOSPC);
        let named = if call == "create" { "open" } else { call };
        assert!(is_system(acquire(&one, &target(), 0), named, ENOSPC), "{call}");
        assert_eq!(world.content().as_deref(), Some(OLD_DEAD), "{call}");
        world.mend();
        assert!(
            acquire(&one, &target(), 0).unwrap().taken_over.is_some(),
            "{call}: the next run still learns of it"
        );
    }
}

#[test]
fn a_take_over_whose_recheck_fails_does_not_block_others() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(OLD_DEAD, 0);
    world.before("pause", |world| world.fail("lstat", EIO));
    assert!(is_system(acquire(&one, &target(), 0), "lstat", EIO));
    world.mend();
    assert!(acquire(&two, &target(), 0).unwrap().taken_over.is_some());
}

#[test]
fn a_stale_file_of_another_user_is_taken_over() {
    let world = World::new();
    let one = world.process(1);
    world.put(OLD_DEAD, 0);
    world.set_mode(0o666);
    assert!(acquire(&one, &target(), 0).is_ok());
    assert_eq!(world.mode(), 0o600);
    world.put(OLD_DEAD, 0);
    world.set_mode(0o666);
    world.fail("fchmod", 1);
    assert!(acquire(&one, &target(), 0).is_ok());
    assert_eq!(world.mode(), 0o666);
}

#[test]
fn a_umask_does_not_change_the_mode() {
    let world = World::new();
    world.umask(0o777);
    let _held = acquire(&world.process(1), &target(), 0).unwrap();
    assert_eq!(world.mode(), 0o600);
}

#[test]
fn an_inspector_causes_no_refusal() {
    let world = World::new();
    let one = world.process(1);
    world.process(2);
    // The record's pid now belongs to an unrelated live process: only the mode of the kernel lock decides.
    world.put(br#"{"pid":2,"createdAt":5,"bootId":"boot","startTime":1,"pidNs":1}"#, 0);
    let Ok(Opened::File(look)) = one.open("x".as_ref(), Access::Read) else { panic!("opened") };
    assert_eq!(one.try_lock(&look, LockMode::Shared).unwrap(), TryLock::Acquired);
    world.before("pause", move |_| drop(look));
    assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some());
}

#[test]
fn a_take_over_without_a_record_ends_in_contention() {
    let world = World::new();
    let one = world.process(1);
    world.put(OLD_DEAD, 0);
    let Ok(Opened::File(rival)) = one.open("x".as_ref(), Access::ReadWrite) else { panic!("opened") };
    assert_eq!(one.try_lock(&rival, LockMode::Exclusive).unwrap(), TryLock::Acquired);
    assert!(is_contention(acquire(&one, &target(), 0), None));
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Held);
}

#[test]
fn a_new_file_that_vanishes_after_locking_is_retried() {
    for share in [false, true] {
        let world = World::new();
        let (one, two) = (world.process(1), world.process(2));
        if share {
            world.share();
        }
        // Between creation and locking, a legacy process removes the empty file, and another one acquires.
        world.before("flock", move |world| {
            world.remove();
            std::mem::forget(acquire(&two, &target(), 0).unwrap());
        });
        assert!(is_contention(acquire(&one, &target(), 0), Some(2)), "shared: {share}");
    }
}

#[test]
fn a_stale_file_that_vanishes_after_locking_is_retried() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(OLD_DEAD, 0);
    world.before("lstat", move |world| {
        world.remove();
        std::mem::forget(acquire(&two, &target(), 0).unwrap());
    });
    assert!(is_contention(acquire(&one, &target(), 0), Some(2)));
}

#[test]
fn a_take_over_notices_a_legacy_unlink_within_5_ms() {
    let world = World::new();
    let one = world.process(1);
    world.process(9);
    world.put(OLD_DEAD, 0);
    world.before("pause", |world| world.put(br#"{"pid":9,"createdAt":6}"#, 0));
    assert!(is_contention(acquire(&one, &target(), 0), Some(9)));
}

#[test]
fn a_take_over_pauses_unless_legacy_is_false() {
    for has_another_name in [false, true] {
        for (legacy, milliseconds) in [(true, 5), (false, 0)] {
            let world = World::new();
            let one = world.process(1);
            world.put(OLD_DEAD, 60_000);
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
fn a_creator_past_its_grace_period_is_refused() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.before("flock", move |_| {
        two.pause(std::time::Duration::from_secs(3));
        let held = acquire(&two, &target(), 0).unwrap();
        assert!(held.taken_over.as_ref().unwrap().reason.contains("empty"));
        std::mem::forget(held);
    });
    assert!(is_contention(acquire(&one, &target(), 0), Some(2)));
}

#[test]
fn a_late_creator_takes_over_from_a_killed_process() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.before("flock", move |world| {
        two.pause(std::time::Duration::from_secs(3));
        drop(acquire(&two, &target(), 0).unwrap());
        world.kill(2);
    });
    let held = acquire(&one, &target(), 0).unwrap();
    assert_eq!(held.taken_over.unwrap().holder.unwrap().pid, 2);
}

#[test]
fn a_file_in_creation_is_not_locked_by_others() {
    for calls in [acquire_and_forget, break_and_forget] {
        let world = World::new();
        let one = world.process(1);
        world.put(b"", 0);
        world.before("pause", |world| assert!(!world.calls().contains(&"flock")));
        calls(&one);
    }
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EWOULDBLOCK: i32 = 11;

#[test]
fn a_release_in_place_leaves_a_free_lock() {
    for errno in [EPERM, EACCES, EBUSY] {
        let world = World::new();
        let (one, two) = (world.process(1), world.process(2));
        let held = acquire(&one, &target(), 0).unwrap();
        world.fail("unlink", errno);
        release(&one, held).unwrap();
        assert!(world.content().unwrap().starts_with(b"{} "));
        let status = inspect(&two, &target()).unwrap();
        assert_eq!((status.state, status.holder), (LockState::Free, None));
        let held = acquire(&two, &target(), 0).unwrap();
        assert_eq!(held.taken_over, None);
        assert!(is_contention(acquire(&one, &target(), 0), Some(2)));
        rollback(&two, held).unwrap();
        assert_eq!(acquire(&one, &target(), 0).unwrap().taken_over, None, "nor after a roll-back");
    }
}

#[test]
fn a_stale_lock_is_broken_in_place_without_unlink() {
    let world = World::new();
    let one = world.process(1);
    world.put(OLD_DEAD, 60_000);
    world.fail("unlink", EBUSY);
    assert!(break_lock(&one, &target(), false).unwrap());
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Free);
    assert!(!break_lock(&one, &target(), false).unwrap(), "nothing is left to break");
    assert!(is_system(break_lock(&one, &target(), true), "unlink", EBUSY), "force does not write");
}

#[test]
fn a_mount_point_without_original_is_refused() {
    let world = World::new();
    let one = world.process(1);
    let held = acquire(&one, &target(), 0).unwrap();
    world.fail("unlink", EBUSY);
    world.remove_original();
    release(&one, held).unwrap();
    for answer in [
        acquire(&one, &target(), 0).map(drop),
        inspect(&one, &target()).map(drop),
        break_lock(&one, &target(), false).map(drop),
    ] {
        let Err(error @ Error::NotAFile { kind: FileKind::Unlinked, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert!(error.to_string().contains("without links"), "{error}");
    }
}

#[test]
fn a_name_without_a_link_is_retried() {
    let world = World::new();
    let one = world.process(1);
    world.put(OLD_DEAD, 60_000);
    world.unlink_half();
    world.before("open", |_| {});
    world.before("open", World::remove);
    release(&one, acquire(&one, &target(), 0).unwrap()).unwrap();
}

#[test]
fn a_file_replaced_after_open_is_not_missing() {
    for call in [
        (|one| inspect(one, &target()).map(|status| assert_eq!(status.state, LockState::Stale)))
            as fn(&world::Process) -> _,
        |one| break_lock(one, &target(), false).map(|is_broken| assert!(is_broken)),
    ] {
        let world = World::new();
        world.put(OLD_DEAD, 60_000);
        world.before("fstat", |world| world.put(OLD_DEAD, 60_000));
        call(&world.process(1)).unwrap();
    }
}

#[test]
fn a_lock_file_with_two_names_is_not_written() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&one, &target(), 0).unwrap();
    world.link();
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)));
    assert_eq!(inspect(&two, &target()).unwrap().state, LockState::Held);
    world.kill(1);
    drop(held);
    assert_eq!(inspect(&two, &target()).unwrap().state, LockState::Stale);
    world.calls();
    let held = acquire(&two, &target(), 0).unwrap();
    let calls = world.calls();
    let [unlinks, creates, writes] =
        ["unlink", "create", "write"].map(|name| calls.iter().rposition(|call| *call == name));
    assert!(unlinks < creates && creates < writes, "{calls:?}");
    assert_eq!(held.taken_over.as_ref().unwrap().holder.as_ref().unwrap().pid, 1);
    assert_eq!(world.links(), 1);
    rollback(&two, held).unwrap();
    assert!(acquire(&two, &target(), 0).unwrap().taken_over.is_some(), "a roll-back keeps what it found");
}

#[test]
fn a_held_file_with_two_names_is_not_written() {
    for (content, end) in [
        (None, release as fn(&world::Process, _) -> _),
        (Some(OLD_DEAD), rollback),
        (Some(&b"{"[..]), rollback),
    ] {
        let world = World::new();
        let one = world.process(1);
        if let Some(content) = content {
            world.put(content, 60_000);
        }
        let held = acquire(&one, &target(), 0).unwrap();
        world.link();
        world.fail("unlink", EBUSY);
        world.calls();
        let _ = end(&one, held);
        let calls = world.calls();
        assert!(!calls.contains(&"write") && !calls.contains(&"ftruncate"), "{calls:?}");
    }
}

#[test]
fn a_linked_file_without_a_record_is_refused_untouched() {
    for content in [&b""[..], b"data", b"{"] {
        let world = World::new();
        let one = world.process(1);
        world.put(content, 60_000);
        world.link();
        for answer in [
            acquire(&one, &target(), 0).map(drop),
            break_lock(&one, &target(), false).map(drop),
            break_lock(&one, &target(), true).map(drop),
        ] {
            assert!(matches!(answer, Err(Error::NotAFile { kind: FileKind::HardLink, .. })), "{answer:?}");
        }
        assert!(!world.calls().iter().any(|call| ["flock", "write", "ftruncate", "unlink"].contains(call)));
    }
}

fn own_name() -> Target {
    LockOptions { file: "books.csv".into(), ..LockOptions::in_directory("/world") }.resolve().unwrap()
}

#[test]
fn foreign_content_is_refused_under_a_custom_name() {
    let long = [OLD_DEAD, &[b' '; 600]].concat();
    for content in [&b"id,amount\n"[..], b"#!/bin/sh\n", &long] {
        let world = World::new();
        let one = world.process(1);
        world.put(content, 60_000);
        for answer in [
            acquire(&one, &own_name(), 0).map(drop),
            break_lock(&one, &own_name(), false).map(drop),
            inspect(&one, &own_name()).map(drop),
        ] {
            let Err(error @ Error::NotAFile { kind: FileKind::NotALock, .. }) = answer else {
                panic!("{answer:?}")
            };
            assert!(error.to_string().contains("contains no lock record"), "{error}");
        }
        assert_eq!(world.content().unwrap(), content);
        assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some(), "the legacy lock's habit");
        world.put(content, 60_000);
        assert!(break_lock(&one, &own_name(), true).unwrap());
    }
    for remnant in [&[0; 512][..], b"", b"{", b"{\"pid\":7", OLD_DEAD] {
        let world = World::new();
        world.put(remnant, 60_000);
        assert!(acquire(&world.process(1), &own_name(), 0).unwrap().taken_over.is_some());
    }
}

#[test]
fn a_forced_break_needs_no_more_than_unlink() {
    let world = World::new();
    let one = world.process(1);
    world.put(OLD_DEAD, 60_000);
    world.fail("open", EACCES);
    assert!(is_system(break_lock(&one, &target(), false), "open", EACCES));
    assert!(break_lock(&one, &target(), true).unwrap());
    assert!(!break_lock(&one, &target(), true).unwrap(), "nothing was there");
}

/// The lock of several users.
fn shared_target() -> Target {
    LockOptions { mode: 0o666, ..LockOptions::in_directory("/world") }.resolve().unwrap()
}

#[test]
fn an_open_denied_before_the_mode_was_set_is_repeated() {
    // The creator sets the mode and writes its record, or releases, between the open and the check of the file.
    for is_released in [false, true] {
        let denied = |call: fn(&world::Process, &Target) -> bool| {
            let world = World::new();
            let (one, two) = (world.process(1), world.process(2));
            let _held = acquire(&two, &shared_target(), 0).unwrap();
            world.fail("open", EACCES);
            world.before("lstat", move |world| {
                world.mend();
                if is_released {
                    world.remove();
                }
            });
            call(&one, &shared_target())
        };
        if is_released {
            assert!(denied(|one, target| acquire(one, target, 0).is_ok()));
            assert!(denied(|one, target| inspect(one, target).unwrap().state == LockState::Free));
            assert!(denied(|one, target| !break_lock(one, target, false).unwrap()));
        } else {
            assert!(denied(|one, target| is_contention(acquire(one, target, 0), Some(2))));
            assert!(denied(|one, target| inspect(one, target).unwrap().state == LockState::Held));
            assert!(denied(|one, target| is_contention(break_lock(one, target, false), Some(2))));
        }
    }
}

#[test]
fn a_denied_open_is_repeated_twice_with_a_mode_alone() {
    for (target, pauses) in [(target(), 0), (shared_target(), 2)] {
        let world = World::new();
        let one = world.process(1);
        world.put(OLD_DEAD, 60_000);
        world.fail("open", EACCES);
        assert!(is_system(acquire(&one, &target, 0), "open", EACCES));
        assert_eq!(one.pauses.get(), pauses);
        world.fail("open", EIO);
        assert!(is_system(acquire(&one, &target, 0), "open", EIO));
        assert_eq!(one.pauses.get(), pauses, "another error is not repeated");
    }
}

#[test]
fn a_planted_file_in_a_sticky_directory_is_refused() {
    let world = World::new();
    let one = world.process(1);
    world.put(OLD_DEAD, 60_000);
    world.set_owner(world::STRANGER);
    for answer in [
        acquire(&one, &target(), 0).map(drop),
        inspect(&one, &target()).map(drop),
        break_lock(&one, &target(), false).map(drop),
    ] {
        assert!(matches!(answer, Err(Error::NotAFile { kind: FileKind::Planted, .. })), "{answer:?}");
    }
}

#[test]
fn new_empty_files_delay_a_call_by_2_s() {
    for call in [(|one| acquire(one, &target(), 0).map(drop)) as fn(&world::Process) -> _, |one| {
        break_lock(one, &target(), false).map(drop)
    }] {
        for failing in ["", "open"] {
            let world = World::new();
            let one = world.process(1);
            world.put(b"", 0);
            for _ in 0..100 {
                // A new file in every twentieth pause of 5 ms.
                for _ in 0..19 {
                    world.before("pause", |_| {});
                }
                world.before("pause", |world| world.put(b"", 0));
            }
            world.fail(failing, EACCES);
            let begun = one.monotonic();
            let Err(Error::Contention { reason: Some(reason), .. }) = call(&one) else { panic!("refused") };
            assert_eq!(reason, "a process is creating it right now");
            let took = one.monotonic().saturating_sub(begun).as_millis();
            assert!((2000..2050).contains(&took), "{took} ms");
        }
    }
}

#[test]
fn a_shared_kernel_lock_delays_a_call_by_100_ms() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(OLD_DEAD, 60_000);
    let Opened::File(file) = two.open(&target().path, Access::Read).unwrap() else { panic!("no file") };
    two.try_lock(&file, LockMode::Shared).unwrap();
    let begun = one.monotonic();
    let Err(Error::Contention { reason: Some(reason), .. }) = acquire(&one, &target(), 0) else {
        panic!("refused")
    };
    assert!(reason.contains("in shared mode"), "{reason}");
    let took = one.monotonic().saturating_sub(begun).as_millis();
    assert!((100..150).contains(&took), "{took} ms");
}

#[test]
fn a_lease_is_retried_then_refused() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    release(&two, acquire(&two, &target(), 0).unwrap()).unwrap();
    world.put(OLD_DEAD, 60_000);
    world.fail("open", EWOULDBLOCK);
    world.before("pause", World::mend);
    assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some());
    world.put(OLD_DEAD, 60_000);
    world.fail("open", EWOULDBLOCK);
    let begun = one.monotonic();
    let Err(Error::Contention { reason: Some(reason), .. }) = acquire(&one, &target(), 0) else {
        panic!("refused")
    };
    assert!(reason.contains("lease"), "{reason}");
    assert!((100..200).contains(&one.monotonic().saturating_sub(begun).as_millis()));
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Held);
}

#[test]
fn a_copy_is_stale_but_its_original_is_held() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&one, &target(), 0).unwrap();
    let record = world.content().unwrap();
    drop(held);
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)), "its kernel lock went by accident");
    world.put(&record, 0);
    let status = inspect(&two, &target()).unwrap();
    assert_eq!((status.state, status.holder.unwrap().pid), (LockState::Stale, 1));
    let taken_over = acquire(&two, &target(), 0).unwrap().taken_over.unwrap();
    assert!(taken_over.reason.contains("is a copy"), "{}", taken_over.reason);
}

/// A process of another program, like `flock(1)`, which locks the file and writes nothing.
fn locked_by_another_program(world: &World) -> (world::Process, world::File) {
    let stranger = world.process(4711);
    let Opened::File(file) = stranger.open(&target().path, Access::ReadWrite).unwrap() else {
        panic!("no file")
    };
    assert_eq!(stranger.try_lock(&file, LockMode::Exclusive).unwrap(), TryLock::Acquired);
    (stranger, file)
}

#[test]
fn contention_names_the_other_program_with_the_kernel_lock() {
    for (content, age) in [(&b""[..], 0), (b"", 60_000), (b"id,amount\n", 0), (OLD_DEAD, 0)] {
        let world = World::new();
        let one = world.process(1);
        world.put(content, age);
        let _locked = locked_by_another_program(&world);
        let begun = one.monotonic();
        let is_reported =
            |reason: &str| reason.starts_with("process 4711 holds the kernel lock without a record");
        for refused in [acquire(&one, &target(), 0).map(drop), break_lock(&one, &target(), false).map(drop)] {
            let Err(Error::Contention { holder: None, reason: Some(reason), .. }) = refused else {
                panic!("{refused:?}")
            };
            assert!(is_reported(&reason), "{reason}");
        }
        let status = inspect(&one, &target()).unwrap();
        assert!(status.state == LockState::Held && is_reported(&status.reason), "{}", status.reason);
        let took = one.monotonic().saturating_sub(begun);
        assert!(took.as_millis() < 200, "{took:?}");
    }
}

/// The pid of the holder and the reason, as each contended call reports them.
fn refusals(one: &world::Process) -> Vec<(Option<u32>, String)> {
    let contended = |error: Error| match error {
        Error::Contention { holder, reason, .. } => {
            (holder.map(|holder| holder.pid), reason.unwrap_or_default())
        }
        error => panic!("{error:?}"),
    };
    let status = inspect(one, &target()).unwrap();
    assert_eq!(status.state, LockState::Held);
    vec![
        contended(acquire(one, &target(), 0).map(drop).unwrap_err()),
        contended(break_lock(one, &target(), false).map(drop).unwrap_err()),
        (status.holder.map(|holder| holder.pid), status.reason),
    ]
}

#[test]
fn an_inherited_kernel_lock_is_contention_with_the_ended_holder() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    // The file of a killed process stays open in a child that inherited it.
    let held = acquire(&two, &target(), 0).unwrap();
    world.kill(2);
    for (holder, reason) in refusals(&one) {
        assert_eq!(holder, Some(2));
        assert!(reason.starts_with("process 2 ended, but its command, or another process"), "{reason}");
    }
    assert!(break_lock(&one, &target(), true).unwrap());
    drop(held);
}

#[test]
fn an_inherited_lock_is_taken_over_after_its_heir() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&two, &target(), 0).unwrap();
    world.kill(2);
    // The heir ends while the call retries.
    world.before("pause", move |_| drop(held));
    let taken_over = acquire(&one, &target(), 0).unwrap().taken_over.unwrap();
    assert_eq!(taken_over.reason, "process 2 ended without releasing");
}

#[test]
fn a_kernel_lock_of_another_program_is_not_inherited() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    drop(acquire(&two, &target(), 0).unwrap());
    world.kill(2);
    let _locked = locked_by_another_program(&world);
    for (holder, reason) in refusals(&one) {
        assert_eq!(holder, None);
        assert!(reason.starts_with("process 4711 holds the kernel lock without a record"), "{reason}");
    }
}

#[test]
fn a_locked_copy_does_not_name_the_original_holder() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&two, &target(), 0).unwrap();
    let copied = world.content().unwrap();
    release(&two, held).unwrap();
    world.put(&copied, 60_000);
    let _locked = locked_by_another_program(&world);
    for (holder, reason) in refusals(&one) {
        assert_eq!(holder, None);
        assert!(reason.starts_with("process 4711 holds the kernel lock without a record"), "{reason}");
    }
}

#[test]
fn inspect_reports_a_zombie_or_reused_pid_as_ended() {
    for state in [ProcessState::Zombie, ProcessState::Alive { start: Some(7) }] {
        let world = World::new();
        let (one, two) = (world.process(1), world.process(2));
        let _held = acquire(&two, &target(), 0).unwrap();
        world.becomes(2, state);
        let status = inspect(&one, &target()).unwrap();
        assert_eq!(status.state, LockState::Held);
        assert!(status.reason.starts_with("process 2 ended"), "{}", status.reason);
    }
}

#[test]
fn the_lock_owner_of_a_replaced_file_is_not_named() {
    let world = World::new();
    let one = world.process(1);
    world.put(b"", 0);
    let _locked = locked_by_another_program(&world);
    // The file is replaced after the search for the lock owner, so its number may be another file's.
    world.before("lstat", |world| world.put(b"", 0));
    let Err(Error::Contention { reason: Some(reason), .. }) = acquire(&one, &target(), 0) else {
        panic!("acquired")
    };
    assert_eq!(reason, "a process is creating it right now");
}

#[test]
fn a_creator_has_20_ms_to_write_its_record() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(b"", 0);
    let Opened::File(file) = two.open(&target().path, Access::ReadWrite).unwrap() else { panic!("no file") };
    two.try_lock(&file, LockMode::Exclusive).unwrap();
    for call in ["pause", "pause"] {
        world.before(call, |_| {});
    }
    world.before("pause", move |world| {
        let two = world.process(2);
        two.write(&file, br#"{"pid":2,"createdAt":5}"#).unwrap();
        std::mem::forget(file);
    });
    assert!(is_contention(acquire(&one, &target(), 0), Some(2)));
}

fn acquire_and_forget(process: &world::Process) {
    assert!(acquire(process, &target(), 0).is_ok());
}

fn break_and_forget(process: &world::Process) {
    assert!(break_lock(process, &target(), false).is_ok());
}

#[test]
fn a_crash_before_the_record_delays_others_2_s() {
    let world = World::new();
    let one = world.process(1);
    world.put(b"", 0);
    let before = one.wall_clock();
    assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some());
    assert!((2000..2100).contains(&(one.wall_clock() - before)));
}

#[test]
fn a_lock_that_keeps_changing_hands_is_contention() {
    let world = World::new();
    let one = world.process(1);
    world.put(OLD_DEAD, 0);
    for _ in 0..500 {
        world.before("lstat", |world| world.put(OLD_DEAD, 0));
    }
    assert!(is_contention(acquire(&one, &target(), 0), None));
}

#[test]
fn without_kernel_locks_nothing_is_taken_over() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.without_kernel_locks();
    let held = acquire(&one, &target(), 0).unwrap();
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)));
    drop(held);
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)), "its process lives, so it may hold");
    world.kill(1);
    let before = world.content();
    assert!(
        matches!(acquire(&two, &target(), 0), Err(Error::Stale { holder: Some(holder), .. }) if holder.pid == 1)
    );
    assert_eq!(world.content(), before);
    assert_eq!(inspect(&two, &target()).unwrap().state, LockState::Stale);
    assert!(break_lock(&two, &target(), false).unwrap());
    release(&two, acquire(&two, &target(), 0).unwrap()).unwrap();
}

#[test]
fn without_kernel_locks_a_release_in_between_is_not_stale() {
    let calls: [fn(&world::Process); 3] = [acquire_and_forget, break_and_forget, |process| {
        assert_eq!(inspect(process, &target()).unwrap().state, LockState::Free);
    }];
    for call in calls {
        let world = World::new();
        let (one, two) = (world.process(1), world.process(2));
        world.without_kernel_locks();
        let held = acquire(&one, &target(), 0).unwrap();
        world.before("read", move |world| {
            release(&one, held).unwrap();
            world.kill(1);
        });
        call(&two);
    }
}

#[test]
fn a_record_of_this_process_is_held_without_kernel_lock() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    drop(acquire(&one, &target(), 0).unwrap());
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)));
    assert!(is_contention(break_lock(&two, &target(), false), Some(1)));
    world.kill(1);
    assert!(acquire(&two, &target(), 0).unwrap().taken_over.is_some());
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
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)), "another process cannot know");
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Stale);
    let from = acquire(&one, &target(), 0).unwrap().taken_over.unwrap();
    assert_eq!(from.holder.unwrap().pid, 1);
    assert!(from.reason.contains("replaced by execve"), "{}", from.reason);
}

#[test]
fn a_time_after_the_year_9999_is_clamped() {
    for created_at in [253_402_300_800_000, u64::MAX] {
        let world = World::new();
        let (one, _two) = (world.process(1), world.process(2));
        world.put(format!(r#"{{"pid":2,"createdAt":{created_at}}}"#).as_bytes(), 0);
        let status = inspect(&one, &target()).unwrap();
        assert!(status.reason.contains("since 9999-12-31T23:59:59.999Z"), "{}", status.reason);
    }
}

#[test]
fn release_touches_only_its_own_file() {
    let world = World::new();
    let one = world.process(1);
    let held = acquire(&one, &target(), 0).unwrap();
    world.put(b"another's", 0);
    assert!(!is_held(&one, &held));
    assert!(matches!(release(&one, held), Err(Error::Lost { .. })));
    assert_eq!(world.content().unwrap(), b"another's");
    world.remove();
    let held = acquire(&one, &target(), 0).unwrap();
    world.remove();
    assert!(matches!(release(&one, held), Err(Error::Lost { .. })));
}

#[test]
fn release_cuts_the_record_if_it_cannot_unlink() {
    for call in ["unlink", "lstat"] {
        let world = World::new();
        let one = world.process(1);
        let held = acquire(&one, &target(), 0).unwrap();
        world.fail(call, EIO);
        assert!(is_system(release(&one, held), call, EIO));
        world.mend();
        let before = one.wall_clock();
        let held = acquire(&one, &target(), 0).unwrap();
        assert!(held.taken_over.unwrap().reason.contains("not a lock record"));
        assert!(one.wall_clock() - before < 100, "{call}: it is no birth that others wait for");
    }
}

#[test]
fn release_unlinks_before_it_closes() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&one, &target(), 0).unwrap();
    world.before("unlink", move |world| {
        // Only the kernel lock shows that the lock is held.
        world.kill(1);
        assert!(is_contention(acquire(&two, &target(), 0), Some(1)));
    });
    release(&one, held).unwrap();
    assert_eq!(world.content(), None);
}

#[test]
fn inspect_of_a_live_holder_takes_no_lock() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let _held = acquire(&one, &target(), 0).unwrap();
    world.calls();
    let status = inspect(&two, &target()).unwrap();
    assert_eq!((status.state, status.holder.unwrap().pid), (LockState::Held, 1));
    assert!(!world.calls().contains(&"flock"));
}

#[test]
fn break_rechecks_under_the_kernel_lock() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    assert!(!break_lock(&one, &target(), false).unwrap());
    world.put(OLD_DEAD, 0);
    world.before("lstat", move |world| {
        world.remove();
        std::mem::forget(acquire(&two, &target(), 0).unwrap());
    });
    assert!(is_contention(break_lock(&one, &target(), false), Some(2)));
    assert!(break_lock(&one, &target(), true).unwrap());
    assert_eq!(world.content(), None);
}
