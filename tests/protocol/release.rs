//! Releasing, also if the file cannot be removed.

use reconcile_lock::protocol::{acquire, inspect, is_held, release, rollback};
use reconcile_lock::{Error, LockState, System};

use crate::world::{World, target};
use crate::{EACCES, EBUSY, EIO, EPERM, is_contention, is_system};

#[test]
#[cfg(unix)]
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
        assert_eq!(acquire(&one, &target(), 0).unwrap().taken_over, None, "nor after a rollback");
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
fn release_of_a_moved_file_frees_the_lock_there() {
    let world = World::new();
    let one = world.process(1);
    let held = acquire(&one, &target(), 0).unwrap();
    let moved = world.move_away();
    world.put(b"another's", 0);
    assert!(matches!(release(&one, held), Err(Error::Lost { .. })));
    assert!(world.data(moved).starts_with(b"{} "));
    assert_eq!(world.content().unwrap(), b"another's");
}

#[test]
#[cfg(unix)]
fn release_cuts_the_record_if_it_cannot_unlink() {
    for call in ["unlink", "lstat"] {
        let world = World::new();
        let one = world.process(1);
        let held = acquire(&one, &target(), 0).unwrap();
        world.fail(call, EIO);
        assert!(is_system(release(&one, held), call, EIO));
        world.clear_failures();
        let before = one.wall_clock();
        let held = acquire(&one, &target(), 0).unwrap();
        assert!(held.taken_over.unwrap().reason.contains("not contain a lock record"));
        assert!(one.wall_clock() - before < 100, "{call}: no process waits for a creator");
    }
}

#[test]
#[cfg(unix)]
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
