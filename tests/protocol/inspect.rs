//! Inspecting.

use std::mem;

use reconcile_lock::protocol::{acquire, break_lock, inspect};
use reconcile_lock::{Access, LockMode, LockState, Opened, ProcessState, System, Target, TryLock};

use crate::LEGACY_DEAD;
use crate::world::{self, World, target};

#[test]
#[cfg(unix)]
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
fn a_file_replaced_after_open_is_not_missing() {
    for call in [
        (|one| inspect(one, &target()).map(|status| assert_eq!(status.state, LockState::Stale)))
            as fn(&world::Process) -> _,
        |one| break_lock(one, &target(), false).map(|is_broken| assert!(is_broken)),
    ] {
        let world = World::new();
        world.put(LEGACY_DEAD, 60_000);
        world.before("fstat", |world| world.put(LEGACY_DEAD, 60_000));
        call(&world.process(1)).unwrap();
    }
}

#[test]
fn an_inspector_causes_no_refusal() {
    let world = World::new();
    let one = world.process(1);
    world.process(2);
    // The record's pid now belongs to an unrelated live process: only the mode of the kernel lock decides.
    world.put(br#"{"pid":2,"createdAt":5,"bootId":"boot","startTime":1,"pidNs":1}"#, 0);
    let Ok(Opened::File(inspector)) = one.open("x".as_ref(), Access::Read) else { panic!("opened") };
    assert_eq!(one.try_lock(&inspector, LockMode::Shared).unwrap(), TryLock::Acquired);
    // Neither process runs for a while.
    world.before("pause", |world| world.pass(1000));
    world.before("pause", move |_| drop(inspector));
    assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some());
}

#[test]
fn an_acquire_during_an_inspection_is_not_delayed() {
    let world = World::new();
    // The inspector cannot conclude from a pid of the other namespace that the process lives.
    let (one, two) = (world.process(1), world.process(2).in_pid_namespace(2));
    world.put(LEGACY_DEAD, 60_000);
    world.before("lstat", move |_| {
        mem::forget(acquire(&two, &Target { legacy: false, ..target() }, 0).unwrap());
        assert_eq!(two.pauses.get(), 0);
    });
    let status = inspect(&one, &target()).unwrap();
    assert_eq!((status.state, status.holder.unwrap().pid), (LockState::Held, 2));
}

#[test]
fn a_read_during_an_inspection_is_not_delayed() {
    let shared = Target { shared: true, legacy: false, ..target() };
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    drop(acquire(&two, &shared, 0).unwrap());
    // The first call finds the file.
    world.before("lstat readers", |_| {});
    world.before("lstat readers", move |_| {
        mem::forget(acquire(&two, &shared, 0).unwrap());
        assert_eq!(two.pauses.get(), 0);
    });
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Free);
    assert_eq!(inspect(&one, &target()).unwrap().state, LockState::Held);
}

#[test]
fn a_check_for_readers_causes_no_refusal() {
    let shared = Target { shared: true, legacy: false, ..target() };
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    drop(acquire(&two, &shared, 0).unwrap());
    let Ok(Opened::File(file)) = two.open("x.readers".as_ref(), Access::Read) else { panic!("opened") };
    assert_eq!(two.try_lock(&file, LockMode::Exclusive).unwrap(), TryLock::Acquired);
    for _ in 0..50 {
        world.before("pause", |_| {});
    }
    world.before("pause", move |_| drop(file));
    acquire(&one, &target(), 0).unwrap();
}
