//! Breaking.

use reconcile_lock::LockState;
use reconcile_lock::protocol::{acquire, break_lock, inspect};

use crate::world::{World, target};
use crate::{EACCES, EBUSY, EIO, LEGACY_DEAD, is_contention, is_system};

#[test]
#[cfg(unix)]
fn a_stale_lock_is_broken_in_place_without_unlink() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    world.fail("unlink", EBUSY);
    assert!(break_lock(&one, &target(), false).unwrap());
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Free);
    assert!(!break_lock(&one, &target(), false).unwrap(), "nothing is left to break");
    assert!(is_system(break_lock(&one, &target(), true), "unlink", EBUSY), "force does not write");
}

#[test]
#[cfg(unix)]
fn a_break_that_cannot_mark_the_file_cuts_it() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    world.fail("unlink", EBUSY);
    world.write_only(300);
    assert!(is_system(break_lock(&one, &target(), false), "unlink", EBUSY));
    assert_eq!(world.content().map(|content| content.len()), Some(1));
}

#[test]
fn a_forced_break_of_a_linked_file_reports_read_errors() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    world.link();
    world.fail("read", EIO);
    assert!(is_system(break_lock(&one, &target(), true), "read", EIO));
}

#[test]
fn a_forced_break_needs_only_the_permission_to_unlink() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    world.fail("open", EACCES);
    assert!(is_system(break_lock(&one, &target(), false), "open", EACCES));
    assert!(break_lock(&one, &target(), true).unwrap());
    assert!(!break_lock(&one, &target(), true).unwrap(), "nothing was there");
}

#[test]
fn break_rechecks_under_the_kernel_lock() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    assert!(!break_lock(&one, &target(), false).unwrap());
    world.put(LEGACY_DEAD, 0);
    world.before("lstat", move |world| {
        world.remove();
        std::mem::forget(acquire(&two, &target(), 0).unwrap());
    });
    assert!(is_contention(break_lock(&one, &target(), false), Some(2)));
    assert!(break_lock(&one, &target(), true).unwrap());
    assert_eq!(world.content(), None);
}
