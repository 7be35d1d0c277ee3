//! A repeated refusal.

use reconcile_lock::protocol::{acquire, still_refused};

use crate::world::{World, target};
use crate::{EIO, LEGACY_DEAD, acquire_and_forget, is_contention, locked_by_another_program};

#[test]
fn a_repeated_refusal_equals_the_first_with_fewer_calls() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    let held = acquire(&two, &target(), 0).unwrap();
    let first = acquire(&one, &target(), 0).map(drop).unwrap_err();
    world.calls();
    let second = still_refused(&one, &target()).unwrap();
    assert_eq!(world.calls(), ["open", "fstat", "flock", "read"]);
    assert_eq!(format!("{second:?}"), format!("{first:?}"));
    drop(held);
    assert!(still_refused(&one, &target()).is_none(), "its owner has ended");
    assert_eq!(world.open_files(), 0);
}

#[test]
fn a_refusal_is_not_repeated_without_an_owner() {
    let world = World::new();
    let one = world.process(1);
    assert!(still_refused(&one, &target()).is_none());
    world.put(LEGACY_DEAD, 60_000);
    assert!(still_refused(&one, &target()).is_none());
    assert!(!world.calls().contains(&"create"));
}

#[test]
fn a_refusal_is_not_repeated_without_kernel_locks() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.without_kernel_locks();
    acquire_and_forget(&two);
    assert!(still_refused(&one, &target()).is_none());
    assert!(is_contention(acquire(&one, &target(), 0), Some(2)));
}

#[test]
fn acquire_decides_about_a_kernel_lock_of_an_ended_holder() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    let _locked = locked_by_another_program(&world);
    assert!(still_refused(&one, &target()).is_none());
    assert!(is_contention(acquire(&one, &target(), 0), None));
}

#[test]
fn a_repeated_refusal_does_not_lock_an_empty_file() {
    let world = World::new();
    let one = world.process(1);
    for age in [0, 60_000] {
        world.put(b"", age);
        assert!(still_refused(&one, &target()).is_none());
        assert!(!world.calls().contains(&"flock"));
    }
}

#[test]
fn a_shared_kernel_lock_is_released_in_children_too() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    assert!(still_refused(&one, &target()).is_none());
    assert_eq!(one.unlocks.get(), 1);
}

#[test]
fn acquire_reports_the_error_of_a_repeated_refusal() {
    for call in ["open", "fstat", "flock", "read"] {
        let world = World::new();
        let (one, two) = (world.process(1), world.process(2));
        acquire_and_forget(&two);
        world.fail(call, EIO);
        assert!(still_refused(&one, &target()).is_none(), "{call}");
    }
}
