//! Every system call of every operation fails, once or each time, with every error of its manual page.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[allow(dead_code, reason = "each test needs a part of it")]
mod world;

use std::io::Write;

use reconcile_lock::protocol::{acquire, break_lock, inspect, release};
use reconcile_lock::{Error, System, Target};
use world::{Process, World, target};

const DEAD: &[u8] = br#"{"pid":77,"createdAt":5,"bootId":"boot","startTime":3,"pidNs":1,"fs":"local","v":1}"#;

/// The state of the path before the operation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum On {
    Nothing,
    Stale,
    StaleAndLong,
    EmptyAndOld,
    NothingAndAUmask,
    NothingOnANetwork,
    Held,
    Own,
    /// Another process holds it in shared mode.
    Read,
    OwnShared,
    /// The last reader was killed.
    LeftByReaders,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    Acquire,
    AcquireDurable,
    AcquireShared,
    Release,
    ReleaseShared,
    Inspect,
    Break,
    ForceBreak,
}

use Operation::{Acquire, AcquireDurable, AcquireShared, Break, ForceBreak, Inspect, Release, ReleaseShared};

const CASES: [(Operation, On); 32] = [
    (Acquire, On::Nothing),
    (Acquire, On::NothingAndAUmask),
    (Acquire, On::NothingOnANetwork),
    (Acquire, On::Stale),
    (Acquire, On::StaleAndLong),
    (Acquire, On::EmptyAndOld),
    (Acquire, On::Held),
    (AcquireDurable, On::Nothing),
    (AcquireDurable, On::Stale),
    (AcquireDurable, On::StaleAndLong),
    (AcquireDurable, On::EmptyAndOld),
    (Release, On::Own),
    (Inspect, On::Nothing),
    (Inspect, On::Stale),
    (Inspect, On::Held),
    (Break, On::Nothing),
    (Break, On::Stale),
    (Break, On::Held),
    (ForceBreak, On::Stale),
    (ForceBreak, On::Held),
    (AcquireShared, On::Nothing),
    (AcquireShared, On::NothingAndAUmask),
    (AcquireShared, On::Stale),
    (AcquireShared, On::Held),
    (AcquireShared, On::LeftByReaders),
    (AcquireShared, On::Read),
    (ReleaseShared, On::OwnShared),
    (Acquire, On::LeftByReaders),
    (Acquire, On::Read),
    (Inspect, On::Read),
    (Break, On::Read),
    (ForceBreak, On::Read),
];

/// The errors of `open(2)`, `flock(2)`, `stat(2)`, `read(2)`, `write(2)`, `truncate(2)`, `chmod(2)` and
/// `unlink(2)`, by their numbers in `asm-generic/errno.h`, except those that `System` handles: EEXIST of a
/// creation, ENOENT of a path, EWOULDBLOCK of `open` and `flock`, missing kernel locks, and ENAMETOOLONG of the file of
/// the readers.
fn errors_of(call: &str) -> &'static [i32] {
    match call.trim_end_matches(" readers") {
        "lstat" if call != "lstat" => &[5, 9, 12, 13, 14, 20, 40, 75],
        "create" | "open" => {
            &[1, 4, 5, 6, 12, 13, 14, 16, 19, 20, 22, 23, 24, 26, 27, 28, 30, 36, 40, 75, 122]
        }
        "flock" => &[4, 5, 9, 12],
        "fstat" | "lstat" => &[5, 9, 12, 13, 14, 20, 36, 40, 75],
        "read" => &[4, 5, 9, 11, 12, 14, 21, 22],
        "flush" => &[5, 9, 28, 122],
        "write" => &[1, 4, 5, 9, 11, 14, 22, 27, 28, 32, 122],
        "ftruncate" => &[1, 4, 5, 9, 13, 22, 26, 27, 30],
        "fdatasync" | "fsync" => &[4, 5, 9, 22, 28, 30, 122],
        "fchmod" => &[1, 5, 9, 12, 30],
        "unlink" => &[1, 5, 12, 13, 14, 16, 20, 21, 30, 36, 40],
        "pause" => &[],
        other => panic!("{other}: no errors are listed"),
    }
}

/// The name of the call in the error.
fn named(call: &str) -> &str {
    match call.trim_end_matches(" readers") {
        "create" => "open",
        "flush" => "write",
        call => call,
    }
}

fn shared() -> Target {
    Target { shared: true, legacy: false, ..target() }
}

fn durable() -> Target {
    Target { durable: true, ..target() }
}

struct Scene {
    world: World,
    one: Process,
    two: Process,
    held: Option<reconcile_lock::protocol::Held<world::File>>,
    on: On,
}

impl Scene {
    fn new(on: On) -> Self {
        let world = World::new();
        let (one, two) = (world.process(1), world.process(2));
        match on {
            On::Nothing | On::Held | On::Own | On::Read | On::OwnShared => {}
            On::LeftByReaders => drop(acquire(&two, &shared(), 0).unwrap()),
            On::Stale => world.put(DEAD, 9000),
            On::StaleAndLong => world.put(&[DEAD, &[b' '; 600]].concat(), 9000),
            On::EmptyAndOld => world.put(b"", 9000),
            On::NothingAndAUmask => world.umask(0o777),
            On::NothingOnANetwork => world.share(),
        }
        let holder = match on {
            On::Held | On::Read => Some(&two),
            On::Own | On::OwnShared => Some(&one),
            _ => None,
        };
        let held_as = if matches!(on, On::Read | On::OwnShared) { shared() } else { target() };
        let held = holder.map(|holder| acquire(holder, &held_as, 0).unwrap());
        world.calls();
        Self { world, one, two, held, on }
    }

    /// Process 1 makes the operation.
    fn run(&mut self, operation: Operation) -> Result<(), Error> {
        match operation {
            Acquire => acquire(&self.one, &target(), 0).map(drop),
            AcquireDurable => acquire(&self.one, &durable(), 0).map(drop),
            AcquireShared => acquire(&self.one, &shared(), 0).map(drop),
            Release | ReleaseShared => release(&self.one, self.held.take().unwrap()),
            Inspect => inspect(&self.one, &target()).map(drop),
            Break => break_lock(&self.one, &target(), false).map(drop),
            ForceBreak => break_lock(&self.one, &target(), true).map(drop),
        }
    }

    /// Whether this is the outcome if no call fails.
    fn goes_well(&self, operation: Operation, outcome: &Result<(), Error>) -> bool {
        let refused = match self.on {
            On::Held => matches!(operation, Acquire | AcquireShared | Break),
            On::Read => matches!(operation, Acquire | Break),
            _ => false,
        };
        match outcome {
            Ok(()) => !refused,
            Err(Error::Contention { .. }) => refused,
            Err(_) => false,
        }
    }

    /// Another process acquires within 100 ms, after the release of a held lock, which is unchanged.
    fn is_left_well(&mut self, what: &str) {
        let own = usize::from(self.held.is_some());
        assert_eq!(self.world.open_files(), own, "{what}: a descriptor was leaked");
        let third = self.world.process(3);
        if self.on == On::Held && self.world.content().is_some() {
            assert!(
                matches!(acquire(&third, &target(), 0), Err(Error::Contention { holder: Some(holder), .. })
                if holder.pid == 2),
                "{what}: the holder is still there"
            );
            release(&self.two, self.held.take().unwrap()).unwrap();
        }
        if self.on == On::Read && self.world.has_file_of_readers() {
            let refused = acquire(&third, &target(), 0);
            assert!(matches!(refused, Err(Error::Contention { .. })), "{what}: the reader is still there");
            release(&self.two, self.held.take().unwrap()).unwrap();
        }
        let before = third.wall_clock();
        let next = acquire(&third, &target(), 0);
        assert!(next.is_ok(), "{what}: the next process: {:?}", next.err());
        let waited = third.wall_clock() - before;
        assert!(waited < 100, "{what}: the next process waited for {waited} ms");
    }
}

/// The calls of an operation if none fails.
fn calls_of(operation: Operation, on: On) -> Vec<&'static str> {
    let mut scene = Scene::new(on);
    let outcome = scene.run(operation);
    assert!(scene.goes_well(operation, &outcome), "{operation:?} on {on:?}: {outcome:?}");
    scene.world.calls()
}

#[test]
fn every_call_fails_once_with_every_error() {
    let mut cases = 0;
    for (operation, on) in CASES {
        let calls = calls_of(operation, on);
        // The last calls of a refusal name the readers.
        let is_refused = on == On::Read && matches!(operation, Acquire | Inspect | Break);
        let naming = calls.iter().rposition(|call| *call == "flock").filter(|_| is_refused);
        for (number, call) in calls.into_iter().enumerate() {
            for errno in errors_of(call) {
                let what = format!("{operation:?} on {on:?}, call {number}, {call}, error {errno}");
                let mut scene = Scene::new(on);
                scene.world.fail_call(number, *errno);
                let outcome = scene.run(operation);
                // A take-over from another user cannot set the mode; a creation must.
                let does_not_matter = call == "fchmod" && on != On::NothingAndAUmask;
                // If the file cannot be removed, its content marks the lock as free.
                let in_place =
                    matches!(operation, Release | Break) && call == "unlink" && [1, 13, 16].contains(errno);
                // An empty file of readers that stays refuses no process.
                let stays =
                    operation != ForceBreak && call == "unlink readers" && [1, 13, 16].contains(errno);
                let is_tidying = operation == ReleaseShared && number > 0;
                // Step 0: a later call reports the error.
                let is_early =
                    call == "lstat readers" && number == 0 && !matches!(operation, ReleaseShared | Break);
                let is_late = call == "lstat readers" && on == On::Read && operation == Acquire;
                if is_late && !is_system(&outcome, named(call), *errno) {
                    assert!(scene.goes_well(operation, &outcome), "{what}: {outcome:?}");
                    continue;
                }
                // The mode of a young file may already be set.
                let is_repeated = operation != AcquireDurable
                    && call.starts_with("open")
                    && [1, 13].contains(errno)
                    && !matches!(on, On::Stale | On::StaleAndLong | On::EmptyAndOld);
                let is_naming = naming.is_some_and(|flock| number > flock);
                let is_optional = does_not_matter || in_place || stays || is_tidying || is_naming || is_early;
                if is_optional || is_repeated {
                    assert!(scene.goes_well(operation, &outcome), "{what}: {outcome:?}");
                } else {
                    assert!(is_system(&outcome, named(call), *errno), "{what}: {outcome:?}");
                }
                scene.world.clear_failures();
                if outcome.is_ok() && matches!(operation, Acquire | AcquireDurable | AcquireShared) {
                    // The acquire has succeeded, and nothing released its lock.
                    scene.world.kill(1);
                }
                scene.is_left_well(&what);
                cases += 1;
            }
        }
    }
    writeln!(std::io::stdout(), "{cases} cases of one failing call").unwrap();
    assert!(cases > 700, "{cases}");
}

#[test]
fn every_call_fails_always_and_cleanup_may_fail() {
    for (operation, on) in CASES {
        let mut calls = calls_of(operation, on);
        calls.sort_unstable();
        calls.dedup();
        for call in calls.into_iter().filter(|call| *call != "pause") {
            let what = format!("{operation:?} on {on:?}, every {call}");
            let mut scene = Scene::new(on);
            scene.world.fail(call, 5);
            let outcome = scene.run(operation);
            let does_not_matter = call == "fchmod" && on != On::NothingAndAUmask;
            let is_tidying = operation == ReleaseShared && call != "lstat readers";
            // A refusal needs no file of readers.
            let is_early = on == On::Held && call == "lstat readers" && operation == Acquire;
            if !does_not_matter && !is_tidying && !is_early {
                assert!(is_system(&outcome, named(call), 5), "{what}: {outcome:?}");
            }
            scene.world.clear_failures();
            scene.is_left_well(&what);
        }
    }
}

#[test]
fn failed_release_keeps_the_lock_until_exit() {
    for call in ["lstat", "unlink"] {
        let mut scene = Scene::new(On::Own);
        scene.world.fail(call, 5);
        scene.world.fail("ftruncate", 5);
        assert!(is_system(&scene.run(Release), call, 5));
        scene.world.clear_failures();
        assert!(matches!(acquire(&scene.two, &target(), 0), Err(Error::Contention { .. })));
        scene.world.kill(1);
        scene.is_left_well(call);
    }
}

#[test]
fn a_failed_creation_is_taken_over_within_2_s() {
    for (mark_fails, limit) in [(false, 100), (true, 2100)] {
        for call in ["flock", "fstat", "write"] {
            let mut scene = Scene::new(On::Nothing);
            scene.world.fail(call, 28);
            scene.world.fail("unlink", 16);
            if mark_fails {
                scene.world.fail("ftruncate", 5);
            }
            assert!(is_system(&scene.run(Acquire), call, 28));
            scene.world.clear_failures();
            let before = scene.two.wall_clock();
            assert!(acquire(&scene.two, &target(), 0).unwrap().taken_over.is_some());
            let waited = scene.two.wall_clock() - before;
            assert!((limit - 100..limit).contains(&waited), "{call}: {waited} ms");
        }
    }
}

#[test]
fn a_failed_sync_rolls_the_lock_back() {
    for (on, stale_holder) in [(On::Nothing, None), (On::Stale, Some(77))] {
        for call in ["fdatasync", "fsync"] {
            let mut scene = Scene::new(on);
            let before = scene.world.content();
            scene.world.fail(call, 5);
            assert!(is_system(&scene.run(AcquireDurable), call, 5));
            scene.world.clear_failures();
            assert_eq!(scene.world.content(), before, "{on:?}, {call}");
            let next = acquire(&scene.two, &durable(), 0).unwrap();
            let reported = next.taken_over.and_then(|from| from.holder).map(|holder| holder.pid);
            assert_eq!(reported, stale_holder);
        }
    }
}

#[test]
fn only_a_durable_acquire_syncs_after_the_write() {
    let syncs = |operation, on| {
        let calls = calls_of(operation, on);
        let write = calls.iter().rposition(|call| *call == "write").unwrap();
        calls[write + 1..]
            .iter()
            .copied()
            .filter(|call| !["pause", "lstat", "lstat readers"].contains(call))
            .collect::<Vec<_>>()
    };
    for on in [On::Nothing, On::Stale, On::StaleAndLong, On::EmptyAndOld] {
        assert!(!syncs(Acquire, on).iter().any(|call| call.ends_with("sync")), "{on:?}");
        assert!(syncs(AcquireDurable, on).ends_with(&["fdatasync", "open", "fsync"]), "{on:?}");
    }
}

#[test]
fn a_partial_record_does_not_block_others() {
    for (on, is_reported) in [(On::Nothing, false), (On::Stale, true), (On::EmptyAndOld, true)] {
        for length in [0, 1, 100, 300, 400, 511, 512] {
            let mut scene = Scene::new(on);
            scene.world.write_only(length);
            assert!(is_system(&scene.run(Acquire), "write", 27), "{length}");
            scene.world.clear_failures();
            let before = scene.two.wall_clock();
            let next = acquire(&scene.two, &target(), 0).unwrap();
            assert_eq!(next.taken_over.is_some(), is_reported, "{length}");
            assert!(scene.two.wall_clock() - before < 100);
        }
    }
}

fn is_system(outcome: &Result<(), Error>, call: &str, errno: i32) -> bool {
    matches!(outcome, Err(Error::System { syscall, source, .. })
        if *syscall == call && source.raw_os_error() == Some(errno))
}
