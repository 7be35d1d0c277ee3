//! Files that are not ordinary lock files.

use reconcile_lock::protocol::{acquire, break_lock, inspect, release, rollback};
use reconcile_lock::{Error, FileKind, LockOptions, LockState, Target};

use crate::world::{self, World, target};
use crate::{EBUSY, LEGACY_DEAD, is_contention, locked_by_another_program, refusals};

fn own_name() -> Target {
    LockOptions { file: "books.csv".into(), ..LockOptions::in_directory("/world") }.resolve().unwrap()
}

#[test]
#[cfg(unix)]
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
    assert!(acquire(&two, &target(), 0).unwrap().taken_over.is_some(), "a rollback restores the file");
}

#[test]
fn a_held_file_with_two_names_is_not_written() {
    for (content, end) in [
        (None, release as fn(&world::Process, _) -> _),
        (Some(LEGACY_DEAD), rollback),
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

#[test]
fn foreign_content_is_refused_under_a_custom_name() {
    let long = [LEGACY_DEAD, &[b' '; 600]].concat();
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
        assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some(), "as the legacy lock");
        world.put(content, 60_000);
        assert!(break_lock(&one, &own_name(), true).unwrap());
    }
    for remnant in [&[0; 512][..], b"", b"{", b"{\"pid\":7", LEGACY_DEAD] {
        let world = World::new();
        world.put(remnant, 60_000);
        assert!(acquire(&world.process(1), &own_name(), 0).unwrap().taken_over.is_some());
    }
}

#[test]
fn a_planted_file_in_a_sticky_directory_is_refused() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
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
fn a_copy_is_stale_but_its_original_is_held() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&one, &target(), 0).unwrap();
    let record = world.content().unwrap();
    drop(held);
    assert!(is_contention(acquire(&two, &target(), 0), Some(1)), "its kernel lock was lost by accident");
    world.put(&record, 0);
    let status = inspect(&two, &target()).unwrap();
    assert_eq!((status.state, status.holder.unwrap().pid), (LockState::Stale, 1));
    let taken_over = acquire(&two, &target(), 0).unwrap().taken_over.unwrap();
    assert!(taken_over.reason.contains("is a copy"), "{}", taken_over.reason);
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
