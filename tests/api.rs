//! The functions that a Rust program calls, on the real system.
#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use reconcile_lock::{
    AcquireOptions, BreakOptions, DEFAULT_FILE, Error, Lock, LockOptions, ProcessDetails, acquire_lock,
    acquire_locks, break_lock, inspect_lock, release_lock, resolve_lock_path,
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

fn file(directory: &Path, name: &str) -> LockOptions {
    LockOptions { file: name.into(), ..LockOptions::in_directory(directory) }
}

fn three(directory: &Path) -> LockOptions {
    LockOptions { slots: 3, ..file(directory, "l") }
}

fn within(lock: LockOptions, timeout: Duration) -> AcquireOptions {
    AcquireOptions { lock, timeout }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("read");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn acquire_all(lock: &LockOptions, count: usize) -> Vec<Lock> {
    (0..count).map(|_| acquire_lock(&lock.clone().into()).expect("free")).collect()
}

/// A lock file whose process has ended.
fn leave_stale(path: &Path) {
    let quiet = Stdio::null;
    let program = if cfg!(windows) { "cmd" } else { "true" };
    let child = Command::new(program).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    let mut child = child.expect("started");
    child.wait().expect("waited for");
    fs::write(path, format!("{{\"pid\":{},\"createdAt\":1}}", child.id())).expect("written");
}

#[test]
fn slots_are_filled_in_order_then_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = three(directory.path());
    let mut locks = acquire_all(&lock, 3);
    assert_eq!(names(directory.path()), ["l", "l.slot1", "l.slot2"]);
    for timeout in [Duration::ZERO, SHORT] {
        let lock = lock.clone();
        let refused = thread::spawn(move || acquire_lock(&within(lock, timeout)).map(drop));
        let error = refused.join().expect("no panic").expect_err("all are held");
        assert_eq!(error.code(), Some("E_LOCK_CONTENTION"));
        // With a timeout, a busy machine can be the reason.
        assert!(error.reason() == Some("all 3 slots are held") || !timeout.is_zero(), "{error:?}");
        assert_eq!(error.path(), Some(&*directory.path().join("l")));
    }
    drop(locks.remove(1));
    assert!(acquire_lock(&lock.into()).expect("one is free").path().ends_with("l.slot1"));
}

#[test]
fn waiter_that_gets_two_slots_rolls_one_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = three(directory.path());
    for round in 0..30 {
        let (held, waited) = (acquire_all(&lock, 3), lock.clone());
        let waiting = thread::spawn(move || acquire_lock(&within(waited, LONG)).expect("a slot"));
        // Longer than a wait takes to enter all queues. Otherwise the round proves nothing.
        thread::sleep(SHORT / 5);
        let threads: Vec<_> = held.into_iter().map(|lock| thread::spawn(|| drop(lock))).collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        let own = waiting.join().expect("no panic");
        // Windows keeps the name of a deleted file until its last handle is closed.
        let end = Instant::now() + if cfg!(windows) { LONG } else { Duration::ZERO };
        while names(directory.path()).len() > 1 && Instant::now() < end {
            thread::sleep(SHORT / 10);
        }
        assert_eq!(names(directory.path()).len(), 1, "round {round}");
        own.release().expect("held");
    }
}

#[test]
fn thread_that_holds_all_slots_does_not_wait() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = three(directory.path());
    let _locks = acquire_all(&lock, 3);
    assert!(matches!(acquire_lock(&within(lock, LONG)), Err(Error::Deadlock { .. })));
}

#[test]
fn thread_waits_for_the_slots_of_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = three(directory.path());
    let other = lock.clone();
    let others = thread::spawn(move || acquire_all(&other, 2)).join().expect("no panic");
    let own = acquire_all(&lock, 1);
    let release = thread::spawn(move || {
        thread::sleep(SHORT);
        drop(others);
    });
    assert!(!acquire_lock(&within(lock, LONG)).expect("a slot").path().ends_with("l.slot2"));
    release.join().expect("no panic");
    drop(own);
}

#[test]
fn options_out_of_range_or_excluded_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = file(directory.path(), "l");
    for (options, text) in [
        (LockOptions { slots: 0, ..lock.clone() }, "must be from 1 to 1000. Received 0"),
        (LockOptions { slots: 1001, ..lock.clone() }, "must be from 1 to 1000. Received 1001"),
        (
            LockOptions { slots: 2, shared: true, ..lock.clone() },
            "\"shared\" and \"slots\" exclude each other",
        ),
        (
            LockOptions { durable: true, shared: true, ..lock.clone() },
            "\"shared\" and \"durable\" exclude each other",
        ),
    ] {
        let error = acquire_lock(&options.into()).expect_err("refused");
        assert_eq!(error.code(), Some("ERR_INVALID_ARG_VALUE"));
        assert!(error.to_string().ends_with(text), "{error}");
    }
    assert!(names(directory.path()).is_empty());
}

#[test]
fn readers_share_a_lock_and_exclude_an_owner() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = file(directory.path(), "l");
    let shared = LockOptions { shared: true, ..lock.clone() };
    let readers = acquire_all(&shared, 2);
    let error = acquire_lock(&lock.clone().into()).expect_err("it has readers");
    assert!(
        error
            .reason()
            .is_some_and(|reason| reason == "this process holds it in shared mode: release it first"),
        "{error:?}"
    );
    let owner = lock.clone();
    let waiter = thread::spawn(move || acquire_lock(&within(owner, LONG)).expect("the readers are gone"));
    while !lock.resolve().expect("a path").path.exists() {
        thread::yield_now();
    }
    assert!(matches!(acquire_lock(&shared.clone().into()), Err(Error::Contention { .. })), "an owner waits");
    drop(readers);
    let owner = waiter.join().expect("no panic");
    assert!(matches!(acquire_lock(&shared.clone().into()), Err(Error::Contention { .. })));
    owner.release().expect("held");
    acquire_lock(&shared.into()).expect("free").release().expect("held");
    assert!(names(directory.path()).is_empty());
}

#[test]
#[cfg(unix)]
fn mode_and_durable_apply_to_each_slot() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let lock = LockOptions { mode: 0o660, durable: true, ..three(directory.path()) };
    let locks = acquire_all(&lock, 3);
    for lock in &locks {
        let mode = fs::metadata(lock.path()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{}", lock.path().display());
    }
}

#[test]
fn several_locks_are_in_the_order_of_the_call() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = |name: &str| file(directory.path(), name);
    let locks = acquire_locks(&[lock("c"), lock("a"), lock("b")], Duration::ZERO).expect("free");
    let found: Vec<_> = locks.iter().map(|lock| lock.path().file_name().expect("a name")).collect();
    assert_eq!(found, ["c", "a", "b"]);
    drop(locks);
    assert!(names(directory.path()).is_empty());
    assert!(acquire_locks(&[], Duration::ZERO).expect("nothing to acquire").is_empty());
}

#[test]
fn opposite_orders_of_two_locks_do_not_deadlock() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other) = (file(directory.path(), "a"), file(directory.path(), "b"));
    let threads = [[one.clone(), other.clone()], [other, one]].map(|locks| {
        thread::spawn(move || {
            for _ in 0..20 {
                drop(acquire_locks(&locks, LONG).expect("no deadlock"));
            }
        })
    });
    for thread in threads {
        thread.join().expect("no panic");
    }
}

#[test]
fn refusal_of_one_lock_rolls_back_the_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let (stale, held) = (file(directory.path(), "a"), file(directory.path(), "b"));
    let path = directory.path().join("a");
    leave_stale(&path);
    let _held = acquire_lock(&held.clone().into()).expect("free");
    let error = acquire_locks(&[stale.clone(), held], Duration::ZERO).expect_err("one is held");
    assert_eq!(error.path(), Some(&*directory.path().join("b")));
    let lock = acquire_lock(&stale.into()).expect("rolled back");
    assert!(lock.taken_over().is_some(), "the refused call did not report the previous holder");
}

#[test]
fn one_lock_under_two_names_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other) = (file(directory.path(), "a"), file(directory.path(), "./a"));
    let error = acquire_locks(&[one, other], LONG).expect_err("twice");
    assert_eq!(error.code(), Some("ERR_INVALID_ARG_VALUE"));
    assert!(error.to_string().starts_with("The \"locks\" argument names one lock twice: "), "{error}");
    assert!(names(directory.path()).is_empty());
}

#[test]
#[cfg(unix)]
fn one_lock_behind_a_linked_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs::create_dir(&real).expect("made");
    std::os::unix::fs::symlink(&real, &link).expect("linked");
    let error = acquire_locks(&[file(&real, "a"), file(&link, "a")], LONG).expect_err("twice");
    assert_eq!(error.code(), Some("ERR_INVALID_ARG_VALUE"));
}

#[test]
#[cfg(target_os = "linux")]
fn names_that_are_not_utf8_are_different_locks() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().expect("a directory");
    let lock = |name: &[u8]| LockOptions {
        file: std::ffi::OsStr::from_bytes(name).into(),
        ..LockOptions::in_directory(directory.path())
    };
    let locks = acquire_locks(&[lock(b"a\xff"), lock(b"a\xfe")], Duration::ZERO).expect("two locks");
    assert_eq!(locks.len(), 2);
    drop(locks);
    let three = [lock(b"a\xff"), lock(b"a\xfe"), lock(b"a\xff")];
    let error = acquire_locks(&three, Duration::ZERO).expect_err("twice");
    assert_eq!(error.code(), Some("ERR_INVALID_ARG_VALUE"));
}

#[test]
fn each_listener_gets_a_loss_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = file(directory.path(), "l");
    let lock = acquire_lock(&options.clone().into()).expect("free");
    let (report, losses) = mpsc::channel();
    for _ in 0..2 {
        let report = report.clone();
        lock.on_loss(move |error| report.send(error).expect("received")).expect("watched");
    }
    lock.on_loss(|_| panic!("on purpose")).expect("watched");
    drop(report);
    assert!(losses.recv_timeout(SHORT).is_err(), "it is held");
    fs::rename(lock.path(), directory.path().join("moved")).expect("moved");
    for _ in 0..2 {
        let error = losses.recv_timeout(LONG).expect("a loss");
        assert_eq!((error.code(), error.path()), (Some("E_LOCK_LOST"), Some(lock.path())));
        assert_eq!(error.reason(), Some("the path no longer names a file"));
    }
    assert!(losses.recv_timeout(LONG).is_err(), "no listener is left");
    assert!(matches!(lock.release(), Err(Error::Lost { .. })));
}

#[test]
fn release_is_no_loss() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = acquire_lock(&file(directory.path(), "l").into()).expect("free");
    let (report, losses) = mpsc::channel();
    lock.on_loss(move |error| report.send(error).expect("received")).expect("watched");
    lock.release().expect("held");
    let started = Instant::now();
    assert!(matches!(losses.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected)));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn calls_that_do_not_acquire_ignore_slots_and_shared() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock =
        LockOptions { slots: 3, shared: true, durable: true, ..LockOptions::in_directory(directory.path()) };
    let path = directory.path().join(DEFAULT_FILE);
    assert_eq!(resolve_lock_path(&lock).expect("a path"), path);
    let held = acquire_lock(&LockOptions::in_directory(directory.path()).into()).expect("free");
    assert_eq!(inspect_lock(&lock).expect("read").path, path);
    let refused = break_lock(&BreakOptions { lock: lock.clone(), force: false });
    assert!(matches!(refused, Err(Error::Contention { .. })));
    release_lock(&lock).expect("held");
    assert!(!held.is_held());
}

#[test]
#[cfg(unix)]
fn inspect_names_the_process_of_the_holder() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = file(directory.path(), "l");
    assert_eq!(inspect_lock(&options).expect("read").process, ProcessDetails::default());
    let _lock = acquire_lock(&options.clone().into()).expect("free");
    let ProcessDetails { command, user } = inspect_lock(&options).expect("read").process;
    let program = std::env::args().next().expect("a name");
    assert!(command.is_some_and(|command| command.starts_with(&program)));
    assert!(user.is_some());
}
