//! Tests of waiting.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::acquire::behind_others;
use super::files::Files;
use super::job::{Job, Waiter};
use super::request::{HeldHere, HeldPath, LastRefusal, PendingCall};
use super::service::{acquire_again, await_readers, deliver, deliver_path, run, service};
use super::*;
use crate::platform::{Arrival, Os, Watcher};
use crate::protocol::{
    self,
    error::Error,
    options::LockOptions,
    target::{Target, readers_of},
};
use crate::table::{Owner, PendingWork, open_owner};

const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(150);

#[test]
fn waiting_for_the_own_lock_is_a_deadlock() {
    let directory = tempfile::tempdir().expect("a directory");
    let acquire = |directory: &Path, timeout| {
        let lock = LockOptions::in_directory(directory);
        crate::acquire_lock(&crate::AcquireOptions { lock, timeout })
    };
    let lock = acquire(directory.path(), Duration::ZERO).expect("free");
    assert!(matches!(acquire(directory.path(), LONG), Err(Error::Deadlock { .. })));
    assert!(matches!(acquire(directory.path(), Duration::ZERO), Err(Error::Contention { .. })));
    let path = directory.path().to_owned();
    let other = thread::spawn(move || acquire(&path, Duration::from_millis(10)).err());
    assert!(matches!(other.join(), Ok(Some(Error::Contention { .. }))), "another thread waits");
    lock.release().expect("held");
}

fn target(directory: &tempfile::TempDir) -> Target {
    LockOptions::in_directory(directory.path()).resolve().expect("a path")
}

fn hold(target: &Target) -> HeldHere {
    protocol::acquire(Os::get(), target, 0).expect("free")
}

fn release(held: HeldHere) {
    protocol::release(Os::get(), held).expect("released");
}

fn request(owner: Owner, target: &Target, timeout: Duration) -> AcquireRequest {
    AcquireRequest { owner, thread: 0, target: target.clone(), timeout, only_creator: false }
}

fn waiting(owner: Owner, target: &Target, timeout: Duration) -> (WaiterId, mpsc::Receiver<Answer>) {
    let (sender, receiver) = mpsc::channel();
    let id = WaiterId::next();
    start(id, request(owner, target, timeout), Box::new(move |answer| drop(sender.send(answer))));
    (id, receiver)
}

fn answer(receiver: &mpsc::Receiver<Answer>) -> Result<HeldHere, Error> {
    receiver.recv_timeout(LONG).expect("an answer").expect("no panic")
}

fn until_refused(id: WaiterId) -> LastRefusal {
    let started = Instant::now();
    while started.elapsed() < LONG {
        if let Some(refusal) = last_refusal(id).filter(|refusal| refusal.holder.is_some()) {
            return refusal;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("no attempt was refused");
}

#[test]
fn a_call_behind_others_reports_the_state_of_the_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let reason = || match behind_others(Os::get(), &target) {
        Error::Contention { holder: None, reason, .. } => reason.expect("a reason"),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(), "other waiters are ahead");
    std::fs::write(&target.path, "").expect("written");
    assert_eq!(reason(), "a process is creating it right now");
    let elsewhere = r#"{"pid":7,"createdAt":8,"host":"other","bootId":"another","fs":"shared","v":1}"#;
    std::fs::write(&target.path, elsewhere).expect("written");
    let refusal = behind_others(Os::get(), &target);
    assert_eq!(refusal.holder().map(|holder| holder.pid), Some(7));
    assert!(refusal.reason().is_some_and(|reason| reason.contains("break the lock with force")));
    std::fs::remove_file(&target.path).expect("removed");
    let held = hold(&target);
    let refusal = behind_others(Os::get(), &target);
    assert!(refusal.holder().is_some() && refusal.reason().is_none(), "{refusal:?}");
    release(held);
    let reader = hold(&Target { shared: true, ..target.clone() });
    let owner = protocol::acquire_path(Os::get(), &target, 0, protocol::PauseLimit::default(), &mut None)
        .expect("acquired");
    let refusal = behind_others(Os::get(), &target);
    assert!(refusal.holder().is_some() && refusal.reason().is_none(), "it waits for readers: {refusal:?}");
    release(owner);
    release(reader);
}

#[test]
fn a_waiter_reports_its_holder_and_acquires_after_release() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let (id, receiver) = waiting(Owner::PROGRAM, &target, Duration::MAX);
    assert_eq!(until_refused(id).holder.map(|holder| holder.pid), Some(std::process::id()));
    release(held);
    release(answer(&receiver).expect("acquired"));
    assert_eq!(last_refusal(id), None);
}

/// A waiter whose attempt has not run yet: for the lock, or for the readers of the lock whose path it holds.
fn attempting(target: &Target, held: Option<HeldHere>) -> (WaiterId, Job<Files>, mpsc::Receiver<Answer>) {
    let (sender, receiver) = mpsc::channel();
    let request = request(Owner::PROGRAM, target, Duration::MAX);
    let path = if held.is_some() { readers_of(&target.path) } else { target.path.clone() };
    let held_path =
        held.map(|held| Box::new(HeldPath { held: Some(held), _pending: PendingWork::begin(request.owner) }));
    let call = PendingCall {
        request,
        empty_file: None,
        empty_since: None,
        answer: Box::new(move |answer| drop(sender.send(answer))),
        held_path,
    };
    let (id, arrival) = (WaiterId::next(), Arrival::now());
    let waiter = Waiter { id, call, arrival, deadline: None, is_cancelled: false, is_last: false };
    let job = service().paths.start(path, waiter, Instant::now(), 0).expect("an attempt");
    (id, job, receiver)
}

#[test]
fn an_earlier_call_that_comes_during_an_attempt_is_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let earlier = WaiterId::next();
    let (_, job, later_answer) = attempting(&target, None);
    let (sender, earlier_answer) = mpsc::channel();
    let request = request(Owner::PROGRAM, &target, Duration::MAX);
    start(earlier, request, Box::new(move |answer| drop(sender.send(answer))));
    run(&Watcher::new(), vec![(target.path.clone(), job)]);
    let held = answer(&earlier_answer).expect("acquired");
    assert!(later_answer.try_recv().is_err(), "it waits");
    release(held);
    release(answer(&later_answer).expect("acquired"));
}

#[test]
fn a_wait_times_out_on_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let started = Instant::now();
    let refused = acquire(Owner::PROGRAM, std::slice::from_ref(&target), 0, SOON);
    assert!(started.elapsed() >= SOON && started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    assert!(matches!(refused, Err(Error::Contention { holder: Some(_), .. })), "{refused:?}");
    release(held);
}

/// On Windows the file may have a name until the last check has closed it, and a rollback can take longer than its answer.
fn until_removed(path: &Path) {
    let started = Instant::now();
    while path.exists() {
        assert!(started.elapsed() < LONG, "the wait has acquired");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_cancelled_wait_acquires_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let (id, receiver) = waiting(Owner::PROGRAM, &target, Duration::MAX);
    until_refused(id);
    cancel(id);
    assert!(matches!(answer(&receiver), Err(Error::Contention { .. })));
    release(held);
    until_removed(&target.path);
}

#[test]
#[cfg(unix)]
fn a_wait_cancelled_around_its_attempt_acquires_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let is_refused = |receiver| matches!(answer(receiver), Err(Error::Contention { .. }));
    let opened = std::fs::File::open(directory.path()).expect("opened");
    opened.set_modified(std::time::UNIX_EPOCH).expect("dated");
    let (id, job, receiver) = attempting(&target, None);
    cancel(id);
    run(&Watcher::new(), vec![(target.path.clone(), job)]);
    assert!(is_refused(&receiver));
    let modified = opened.metadata().and_then(|directory| directory.modified()).expect("described");
    assert_eq!(modified, std::time::UNIX_EPOCH, "it has created no file");

    let (id, job, receiver) = attempting(&target, None);
    let held = hold(&target);
    cancel(id);
    deliver(&target.path, id, Ok(Ok(held)));
    assert!(is_refused(&receiver) && !target.path.exists());
    run(&Watcher::new(), vec![(target.path.clone(), job)]);
}

#[test]
#[cfg(unix)]
fn a_wait_cancelled_beside_readers_acquires_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let assert_over = |path: &Path, job, receiver| {
        assert!(matches!(answer(&receiver), Err(Error::Contention { .. })));
        until_removed(&target.path);
        run(&Watcher::new(), vec![(path.to_owned(), job)]);
    };
    let (id, job, receiver) = attempting(&target, None);
    let held = hold(&target);
    cancel(id);
    await_readers(&target.path, id, held);
    assert_over(&target.path, job, receiver);
    let readers = readers_of(&target.path);
    for end in [deliver_path, acquire_again] {
        let (id, job, receiver) = attempting(&target, Some(hold(&target)));
        cancel(id);
        end(&readers, id);
        assert_over(&readers, job, receiver);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_cancelled_wait_leaves_the_queue_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let ticket = crate::platform::QueueTicket::at(&target.path).expect("a local directory");
    let took = || {
        let (id, receiver) = waiting(Owner::PROGRAM, &target, Duration::MAX);
        until_refused(id);
        // The checks that follow a refusal are over.
        thread::sleep(Duration::from_millis(20));
        assert!(ticket.has_others(), "it is in the queue");
        let started = Instant::now();
        cancel(id);
        while ticket.has_others() {
            assert!(started.elapsed() < LONG, "it keeps its ticket");
            thread::sleep(Duration::from_micros(100));
        }
        drop(receiver);
        started.elapsed()
    };
    // A machine that is busy may take its time, but not each time; without an event it takes 60 ms and more.
    let quickest = (0..5).map(|_| took()).min();
    assert!(quickest < Some(Duration::from_millis(30)), "{quickest:?}");
    release(held);
}

#[test]
fn closing_an_owner_cancels_only_its_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let (gone, stays) = (open_owner(), open_owner());
    let (_, first) = waiting(gone, &target, Duration::MAX);
    let (_, second) = waiting(stays, &target, Duration::MAX);
    cancel_all(gone);
    assert!(matches!(answer(&first), Err(Error::Contention { .. })));
    release(held);
    release(answer(&second).expect("acquired"));
}

#[test]
fn waiters_of_one_process_acquire_in_arrival_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let waiters: Vec<_> = (0..20).map(|_| waiting(Owner::PROGRAM, &target, Duration::MAX).1).collect();
    release(held);
    for (number, receiver) in waiters.iter().enumerate() {
        let held = answer(receiver).expect("acquired");
        let later = waiters[number + 1..].iter().filter(|receiver| receiver.try_recv().is_ok()).count();
        assert_eq!(later, 0, "no later waiter overtakes");
        release(held);
    }
}

#[test]
fn arrival_order_is_that_of_the_ids() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let ids = [WaiterId::next(), WaiterId::next(), WaiterId::next()];
    let (sender, receiver) = mpsc::channel();
    for id in [ids[2], ids[0], ids[1]] {
        let sender = sender.clone();
        let request = AcquireRequest {
            owner: Owner::PROGRAM,
            thread: 0,
            target: target.clone(),
            timeout: LONG,
            only_creator: false,
        };
        start(id, request, Box::new(move |answer| drop(sender.send((id, answer)))));
        until_refused(id);
    }
    release(held);
    for id in ids {
        let (first, answer) = receiver.recv_timeout(LONG).expect("an answer");
        assert_eq!(first, id);
        release(answer.expect("no panic").expect("acquired"));
    }
}

#[test]
fn a_wait_for_a_creator_is_refused_beside_a_waiter() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let (id, receiver) = waiting(Owner::PROGRAM, &target, Duration::MAX);
    until_refused(id);
    let (sender, of_creator) = mpsc::channel();
    let started = Instant::now();
    let answered = Box::new(move |answer| drop(sender.send(answer)));
    start_for_creator(Owner::PROGRAM, 0, target.clone(), answered);
    assert!(matches!(answer(&of_creator), Err(Error::Contention { holder: Some(_), .. })));
    assert!(started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    release(held);
    release(answer(&receiver).expect("acquired"));
}

#[test]
#[cfg(unix)]
fn an_error_is_reported_to_every_waiter() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let held = hold(&target);
    let waiters: Vec<_> = (0..3).map(|_| waiting(Owner::PROGRAM, &target, Duration::MAX)).collect();
    until_refused(waiters[0].0);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("/nowhere", &link).expect("linked");
    std::fs::rename(&link, &target.path).expect("replaced");
    for (_, receiver) in &waiters {
        assert!(matches!(answer(receiver), Err(Error::Symlink { .. })));
    }
    drop(held);
}

#[test]
fn a_change_without_an_event_is_detected() {
    let directory = tempfile::tempdir().expect("a directory");
    let (inner, moved) = (directory.path().join("a"), directory.path().join("b"));
    std::fs::create_dir(&inner).expect("made");
    let target = LockOptions::in_directory(&inner).resolve().expect("a path");
    let held = hold(&target);
    let (id, receiver) = waiting(Owner::PROGRAM, &target, Duration::MAX);
    until_refused(id);
    // The file keeps its name and its directory: no event reports it.
    std::fs::rename(&inner, &moved).expect("renamed");
    std::fs::create_dir(&inner).expect("made");
    release(answer(&receiver).expect("acquired"));
    drop(held);
}

/// Starts a wait beside a reader, and waits until the reader has refused it or it has ended.
fn wait_beside_a_reader(
    target: &Target,
    only_creator: bool,
    answer: impl FnOnce(Answer) + Send + 'static,
) -> WaiterId {
    let id = WaiterId::next();
    let request = AcquireRequest { only_creator, ..request(Owner::PROGRAM, target, LONG) };
    start(id, request, Box::new(answer));
    let beside_reader = |reason: String| reason.contains("holds it in shared mode");
    while last_refusal(id).is_some_and(|refusal| !refusal.reason.is_some_and(beside_reader)) {
        thread::yield_now();
    }
    id
}

#[test]
fn a_wait_for_a_creator_outlasts_a_reader_that_leaves() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let shared = Target { shared: true, legacy: false, ..target.clone() };
    let outcome = || {
        let reader = hold(&shared);
        let (sender, receiver) = mpsc::channel();
        wait_beside_a_reader(&target, true, move |answer| drop(sender.send(answer)));
        release(reader);
        answer(&receiver).map(release)
    };
    // On a busy machine the reader may leave too late, but not each time.
    let started = Instant::now();
    while let Err(error) = outcome() {
        assert!(started.elapsed() < LONG, "{error:?}");
    }
}

#[test]
fn an_error_beside_readers_follows_the_rollback_of_the_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory);
    let reader = hold(&Target { shared: true, legacy: false, ..target.clone() });
    let is_left = || {
        let (sender, receiver) = mpsc::channel();
        let path = target.path.clone();
        let id = wait_beside_a_reader(&target, false, move |_| sender.send(path.exists()).expect("awaited"));
        assert!(target.path.exists(), "it holds the path");
        let error = target.system("open")(std::io::ErrorKind::PermissionDenied.into());
        deliver(&readers_of(&target.path), id, Ok(Err(error)));
        receiver.recv_timeout(LONG).expect("an answer")
    };
    // On a busy machine the rollback may take longer than the answer waits, but not each time.
    let started = Instant::now();
    while is_left() {
        assert!(started.elapsed() < LONG);
    }
    release(reader);
}
