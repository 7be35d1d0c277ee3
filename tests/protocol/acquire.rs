//! Acquiring: a new file, its creator, and retries.

use std::mem;
use std::time::Duration;

use reconcile_lock::protocol::{PauseLimit, acquire, acquire_with, break_lock, inspect, is_held, release};
use reconcile_lock::{Access, Error, LockMode, LockOptions, LockState, Opened, System, Target, TryLock};

use crate::world::{self, World, target};
use crate::{
    EACCES, EIO, ENOSPC, LEGACY_DEAD, acquire_and_forget, break_and_forget, is_contention, is_system,
};

/// The lock of several users.
fn shared_target() -> Target {
    LockOptions { mode: 0o666, ..LockOptions::in_directory("/world") }.resolve().unwrap()
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
fn an_acquire_pauses_until_its_limit() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.put(b"garbage", 60_000);
    let Opened::File(inspector) = two.open(&target().path, Access::Read).unwrap() else { panic!() };
    assert_eq!(two.try_lock(&inspector, LockMode::Shared).unwrap(), TryLock::Acquired);
    let before = one.monotonic();
    let until = |milliseconds| before + Duration::from_millis(milliseconds);
    let acquire = |pause_limit| acquire_with(&one, &target(), 0, pause_limit, &mut None);
    assert!(is_contention(acquire(PauseLimit::Until(before)), None));
    assert_eq!(one.monotonic(), before);
    assert!(is_contention(acquire(PauseLimit::Until(until(50))), None));
    assert!(one.monotonic() <= until(60));
    for _ in 0..50 {
        world.before("pause", |_| {});
    }
    world.before("pause", move |_| drop(inspector));
    mem::forget(acquire(PauseLimit::ForCreatorUntil(before)).unwrap());
    world.put(b"", 0);
    let pauses = one.pauses.get();
    assert!(is_contention(acquire(PauseLimit::ForCreatorUntil(one.monotonic())), None));
    assert_eq!(one.pauses.get(), pauses);
}

#[test]
fn a_failed_fresh_acquire_leaves_no_file() {
    for (call, named) in [("create", "open"), ("flock", "flock"), ("write", "write")] {
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
    for call in ["fstat", "lstat"] {
        let world = World::new();
        world.share();
        world.fail(call, EIO);
        assert!(is_system(acquire(&world.process(1), &target(), 0), call, EIO));
        // A file whose identity is unknown is not removed but marked, so that the next process takes it over.
        assert_eq!(world.content(), Some(vec![0]), "{call}");
    }
}

#[test]
fn a_record_on_a_network_filesystem_is_flushed() {
    for is_stale in [false, true] {
        for shares in [false, true] {
            let world = World::new();
            if shares {
                world.share();
            }
            if is_stale {
                world.put(LEGACY_DEAD, 0);
            }
            drop(acquire(&world.process(1), &target(), 0).unwrap());
            let calls = world.calls();
            let last = |name| calls.iter().rposition(|call| *call == name);
            assert_eq!(last("flush"), last("write").filter(|_| shares).map(|at| at + 1), "{calls:?}");
        }
    }
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
fn a_failed_fstat_does_not_remove_another_lock() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.before("flock", move |world| {
        world.remove();
        mem::forget(acquire(&two, &target(), 0).unwrap());
        world.fail("flock", EIO);
        world.fail("fstat", EIO);
    });
    assert!(is_system(acquire(&one, &target(), 0), "flock", EIO));
    world.clear_failures();
    assert!(is_contention(acquire(&one, &target(), 0), Some(2)));
}

#[test]
fn a_umask_does_not_change_the_mode() {
    let world = World::new();
    world.umask(0o777);
    let _held = acquire(&world.process(1), &target(), 0).unwrap();
    assert_eq!(world.mode(), 0o600);
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
fn a_creator_past_its_grace_period_is_refused() {
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.before("flock", move |_| {
        two.pause(Duration::from_secs(3));
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
        two.pause(Duration::from_secs(3));
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

#[test]
fn a_name_without_a_link_is_retried() {
    let world = World::new();
    let one = world.process(1);
    world.put(LEGACY_DEAD, 60_000);
    world.unlink_half();
    world.before("open", |_| {});
    world.before("open", World::remove);
    release(&one, acquire(&one, &target(), 0).unwrap()).unwrap();
}

#[test]
#[cfg(unix)]
fn an_open_denied_before_the_mode_was_set_is_repeated() {
    // The creator sets the mode and writes its record, or releases, between the open and the check of the file.
    for (is_released, target) in
        [false, true].into_iter().flat_map(|released| [(released, target()), (released, shared_target())])
    {
        let denied = |call: fn(&world::Process, &Target) -> bool| {
            let world = World::new();
            let (one, two) = (world.process(1), world.process(2));
            let _held = acquire(&two, &target, 0).unwrap();
            world.fail("open", EACCES);
            world.before("lstat", move |world| {
                world.clear_failures();
                if is_released {
                    world.remove();
                }
            });
            call(&one, &target)
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
#[cfg(unix)]
fn a_reader_waits_for_the_mode_of_the_readers_file() {
    let shared = Target { shared: true, legacy: false, ..target() };
    let world = World::new();
    let (one, two) = (world.process(1), world.process(2));
    world.umask(0o777);
    let other = shared.clone();
    world.before("fchmod", move |world| {
        world.fail("open readers", EACCES);
        for _ in 0..19 {
            world.before("pause", |_| {});
        }
        world.before("pause", World::clear_failures);
        acquire(&two, &other, 0).unwrap();
        assert_eq!(two.pauses.get(), 20);
    });
    acquire(&one, &shared, 0).unwrap();
}

#[test]
#[cfg(unix)]
fn only_a_mode_repeats_a_denied_open() {
    for (target, pauses) in [(target(), 0), (shared_target(), 2)] {
        let world = World::new();
        let one = world.process(1);
        world.put(LEGACY_DEAD, 60_000);
        world.fail("open", EACCES);
        assert!(is_system(acquire(&one, &target, 0), "open", EACCES));
        assert_eq!(one.pauses.get(), pauses);
        world.fail("open", EIO);
        assert!(is_system(acquire(&one, &target, 0), "open", EIO));
        assert_eq!(one.pauses.get(), pauses, "another error is not repeated");
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
            world.clear_actions();
        }
    }
}

#[test]
fn a_file_that_reuses_an_inode_has_its_own_grace() {
    let world = World::new();
    let one = world.process(1);
    world.put(b"", 0);
    let mut empty_file = None;
    let mut attempt =
        || acquire_with(&one, &target(), 0, PauseLimit::Until(one.monotonic()), &mut empty_file);
    assert!(is_contention(attempt(), None));
    world.pass(1900);
    world.renew();
    world.pass(200);
    assert!(is_contention(attempt(), None), "its creator lives");
    world.pass(1900);
    assert!(attempt().unwrap().taken_over.is_some());
}

#[test]
fn a_lock_at_an_unreadable_path_is_held_unless_unlinked() {
    let world = World::new();
    let one = world.process(1);
    let held = acquire(&one, &target(), 0).unwrap();
    world.fail("lstat", EACCES);
    assert!(is_held(&one, &held));
    world.remove();
    assert!(!is_held(&one, &held));
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
    world.put(LEGACY_DEAD, 0);
    for _ in 0..500 {
        world.before("lstat", |world| world.put(LEGACY_DEAD, 0));
    }
    assert!(is_contention(acquire(&one, &target(), 0), None));
    world.clear_actions();
}

#[test]
#[cfg(unix)]
fn a_file_that_another_nfs_client_removed_is_retried() {
    use crate::ESTALE;
    for call in ["open", "flock", "fstat", "lstat", "read"] {
        let world = World::new();
        let one = world.process(1);
        world.put(LEGACY_DEAD, 0);
        world.before(call, move |world| world.fail(call, ESTALE));
        world.before(call, World::clear_failures);
        assert!(acquire(&one, &target(), 0).unwrap().taken_over.is_some(), "{call}");
        world.fail(call, ESTALE);
        assert!(is_system(acquire(&one, &target(), 0), call, ESTALE), "{call}: the mount is stale");
    }
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
