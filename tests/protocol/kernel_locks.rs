//! Kernel locks of other programs, inherited ones, and filesystems without any.

use reconcile_lock::protocol::{acquire, break_lock, inspect, release};
use reconcile_lock::{Access, Error, LockMode, LockState, Opened, System};

use crate::world::{self, World, target};
use crate::{
    EACCES, EPERM, LEGACY_DEAD, acquire_and_forget, break_and_forget, is_contention, is_system,
    locked_by_another_program, refusals,
};

const EWOULDBLOCK: i32 = 11;

#[test]
fn a_shared_kernel_lock_delays_a_call_by_300_ms() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(LEGACY_DEAD, 60_000);
    let Opened::File(file) = two.open(&target().path, Access::Read).unwrap() else { panic!("no file") };
    two.try_lock(&file, LockMode::Shared).unwrap();
    let begun = one.monotonic();
    let Err(Error::Contention { reason: Some(reason), .. }) = acquire(&one, &target(), 0) else {
        panic!("refused")
    };
    assert!(reason.contains("in shared mode"), "{reason}");
    let took = one.monotonic().saturating_sub(begun).as_millis();
    assert!((290..320).contains(&took), "{took} ms");
}

#[test]
#[cfg(unix)]
fn a_lease_is_retried_then_refused() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    release(&two, acquire(&two, &target(), 0).unwrap()).unwrap();
    world.put(LEGACY_DEAD, 60_000);
    world.fail("open", EWOULDBLOCK);
    world.before("pause", World::clear_failures);
    assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some());
    world.put(LEGACY_DEAD, 60_000);
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
fn contention_names_the_other_program_with_the_kernel_lock() {
    for (content, age) in [(&b""[..], 0), (b"", 60_000), (b"id,amount\n", 0), (LEGACY_DEAD, 0)] {
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

#[test]
#[cfg(unix)]
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
fn a_foreign_pid_with_a_hidden_boot_id_is_believed() {
    let world = World::new();
    let one = world.process(1);
    world.put(br#"{"pid":77,"createdAt":5,"pidNs":6,"fs":"local","v":1}"#, 60_000);
    let _locked = locked_by_another_program(&world);
    for (holder, reason) in refusals(&one) {
        assert_eq!(holder, Some(77));
        assert!(!reason.contains("ended"), "{reason}");
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
#[cfg(unix)]
fn a_kernel_lock_that_denies_reads_is_contention() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.share();
    let _held = acquire(&two, &target(), 0).unwrap();
    world.fail("read", crate::EBUSY);
    for (holder, reason) in refusals(&one) {
        assert_eq!(holder, None);
        assert!(reason.contains("SMB"), "{reason}");
    }
}

#[test]
fn a_denied_read_is_not_contention() {
    for (is_shared, is_held) in [(false, true), (true, true), (false, false), (true, false)] {
        let world = World::new();
        let (one, two) = (world.process(1), world.process(2));
        if is_shared {
            world.share();
        }
        // Otherwise the call reads under its own kernel lock.
        let _held = acquire(&two, &target(), 0).unwrap();
        if !is_held {
            world.put(LEGACY_DEAD, 60_000);
        }
        for errno in [EACCES, EPERM] {
            world.fail("read", errno);
            assert!(is_system(acquire(&one, &target(), 0), "read", errno));
        }
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
