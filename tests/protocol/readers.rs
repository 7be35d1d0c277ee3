//! Shared mode: the file of the readers.

use std::mem;

use reconcile_lock::protocol::{acquire, break_lock, inspect};
use reconcile_lock::{Error, LockState, Target};

use crate::world::{World, target};
use crate::{EIO, LEGACY_DEAD, is_contention, is_system};

fn shared() -> Target {
    Target { shared: true, legacy: false, ..target() }
}

#[test]
fn a_reader_is_detected_on_a_filesystem_of_unknown_kind() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    mem::forget(acquire(&two, &shared(), 0).unwrap());
    // As if `fstatfs` had failed.
    world.share();
    assert!(is_contention(acquire(&one, &target(), 0), None));
    assert!(is_contention(break_lock(&one, &target(), false), None));
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Held);
}

#[test]
fn an_owner_is_refused_if_it_cannot_check_for_readers() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    mem::forget(acquire(&two, &shared(), 0).unwrap());
    // As with ENOLCK, for which memory has run out.
    world.without_kernel_locks();
    assert!(matches!(acquire(&one, &target(), 0), Err(Error::Unsupported { .. })));
    world.share();
    acquire(&one, &target(), 0).unwrap();
}

#[test]
fn a_break_is_refused_by_readers_beside_a_stale_file() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(LEGACY_DEAD, 60_000);
    let reader = acquire(&two, &shared(), 0).unwrap();
    assert!(is_contention(break_lock(&one, &target(), false), None));
    drop(reader);
    assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some(), "its report is still there");
}

#[test]
#[cfg(unix)]
fn a_readers_file_without_its_mode_is_removed() {
    let world = World::new();
    let one = world.process(1);
    world.umask(0o777);
    world.fail("fchmod", EIO);
    assert!(is_system(acquire(&one, &shared(), 0), "fchmod", EIO));
    assert!(!world.has_file_of_readers());
}

#[test]
#[cfg(unix)]
fn a_reader_completes_the_mode_of_the_readers_file() {
    let world = World::new();
    let one = world.process(1);
    world.umask(0o777);
    world.before("fchmod", |world| {
        world.fail("fchmod", EIO);
        world.fail("unlink readers", EIO);
    });
    assert!(is_system(acquire(&one, &shared(), 0), "fchmod", EIO));
    world.clear_failures();
    world.calls();
    acquire(&one, &shared(), 0).unwrap();
    assert!(world.calls().contains(&"fchmod"));
}
