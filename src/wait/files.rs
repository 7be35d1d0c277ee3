//! File operations for waiters, on threads that a disk may block.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::job::{Attempt, Job, Observation, Observed, Outcome, Platform, Queue, Ticket};
use super::request::{Answer, AttemptContext, HeldHere, LastRefusal, PendingCall};
use super::watched_file::WatchedFile;
use crate::platform::{
    Arrival, FileId, HolderEvent, Os, QueueTicket, System, Watch, Watcher, Watching, is_shortage,
};
use crate::protocol::error::Error;
use crate::protocol::{self, EmptyFile, PauseLimit};

/// Files, and the queue of all processes of this kernel.
pub(super) struct Files;

impl Platform for Files {
    type Call = PendingCall;
    type Arrival = Arrival;
    type Ticket = QueueTicket;
    type File = WatchedFile;
    type Watch = Watch;
}

impl Ticket<Arrival> for QueueTicket {
    fn take(&mut self, arrival: Arrival) {
        QueueTicket::take(self, arrival);
    }

    fn is_first(&self) -> bool {
        QueueTicket::is_first(self)
    }

    fn ahead(&self, most: u32) -> u32 {
        QueueTicket::ahead(self, most)
    }
}

impl super::job::Watch for Watch {
    fn missed(&self) -> Option<HolderEvent> {
        Watch::missed(self)
    }
}

/// Jobs that one thread runs in sequence.
pub(super) type Batch = Vec<(PathBuf, Job<Files>)>;

/// Groups rechecks by device: they are short and can be many, and only their own disk can block them.
pub(super) fn batches(jobs: Batch) -> Vec<Batch> {
    let (mut rechecks, mut others) = (Vec::<(u64, Batch)>::new(), Vec::new());
    for (path, job) in jobs {
        let Job::Recheck { file, .. } = &job else {
            others.push(vec![(path, job)]);
            continue;
        };
        let device = file.device();
        match rechecks.iter_mut().find(|(other, _)| *other == device) {
            Some((_, batch)) => batch.push((path, job)),
            None => rechecks.push((device, vec![(path, job)])),
        }
    }
    // The last batch is run first: no waiter depends on a recheck.
    rechecks.into_iter().map(|(_, batch)| batch).chain(others).collect()
}

/// The result of an attempt: an answer to its waiter, or none yet.
pub(super) enum Attempted {
    Answer(Answer),
    /// The readers, for which it holds the path, have released the lock.
    WithoutReaders,
    /// As `WithoutReaders`, but the path names another file or none.
    WithoutPath,
    Not(Outcome<Files>),
}

/// Attempts, if this waiter is the first in the queue or has waited for those before it.
pub(super) fn attempt(
    watcher: &Watcher,
    path: &Path,
    AttemptContext { target, thread, held_file, .. }: &AttemptContext,
    mut attempt: Attempt<Files>,
    empty_file: &mut EmptyFile,
    is_refused: impl FnOnce(&Error) -> bool,
) -> (Attempted, Queue<QueueTicket>) {
    if matches!(attempt.queue, Queue::Unknown) && joins_behind_others(path, &mut attempt) {
        return (Attempted::Not(Outcome::Queued), attempt.queue);
    }
    let os = Os::get();
    // The state machine schedules pauses, so the attempt itself does not pause.
    let pause_limit = PauseLimit::Until(os.monotonic());
    let outcome = if held_file.is_some() {
        protocol::await_readers(os, target, pause_limit).map(|()| None)
    } else {
        protocol::acquire_path(os, target, *thread, pause_limit, empty_file).map(Some)
    };
    let outcome = match outcome {
        Err(error @ Error::Contention { .. }) if is_refused(&error) => Attempted::Answer(Ok(Err(error))),
        Err(error @ Error::Contention { .. }) => {
            if let Queue::Ticket(ticket) = &mut attempt.queue {
                ticket.move_on();
            }
            let observed = if held_file.is_some() {
                observe_readers(watcher, path)
            } else {
                observe(watcher, path, &error, attempt.ended)
            };
            Attempted::Not(Outcome::Refused(LastRefusal::by(error), observed))
        }
        Err(Error::System { syscall, source, .. }) if is_shortage(&source) => {
            let shortage = source.raw_os_error().map(|code| (syscall, code));
            let refusal = LastRefusal { shortage, ..LastRefusal::default() };
            Attempted::Not(Outcome::Refused(refusal, Observed::Nothing))
        }
        outcome => {
            if let Queue::Ticket(ticket) = &mut attempt.queue {
                if attempt.has_waited && outcome.is_ok() {
                    ticket.pass_over();
                }
                ticket.leave();
            }
            match (outcome.transpose(), held_file) {
                (Some(outcome), _) => Attempted::Answer(Ok(outcome)),
                (None, Some(file)) if is_at(&target.path, *file) => Attempted::WithoutReaders,
                (None, _) => Attempted::WithoutPath,
            }
        }
    };
    (outcome, attempt.queue)
}

/// Joins the queue. Returns whether earlier waiters attempt first.
fn joins_behind_others(path: &Path, attempt: &mut Attempt<Files>) -> bool {
    attempt.queue = QueueTicket::at(path).map_or(Queue::No, Queue::Ticket);
    let Queue::Ticket(ticket) = &mut attempt.queue else { return false };
    ticket.take(attempt.arrival);
    attempt.has_time && !ticket.is_first()
}

fn is_at(path: &Path, file: FileId) -> bool {
    Os::get().stat_path(path).is_ok_and(|stat| stat.is_some_and(|stat| stat.id == file))
}

/// Watches the file of the lock and its holder.
fn observe(watcher: &Watcher, path: &Path, refusal: &Error, ended: Option<u32>) -> Observed<Files> {
    let Some(file) = WatchedFile::open(path) else { return Observed::Nothing };
    match refusal.holder() {
        // The record was written after the attempt: the next attempt reads it.
        None if protocol::is_creation_grace(refusal) || file.pid().is_some() => return Observed::Nothing,
        // The lock changed hands after the attempt: its refusal would name the earlier holder.
        Some(holder) if !file.names(holder) => return Observed::Changed,
        _ => {}
    }
    let pid = file.pid().filter(|pid| Some(*pid) != ended);
    match watcher.watch(path, pid, file.was_locked()) {
        Watching::Yes(watch) => observed(path, file, watch, pid.is_some()),
        Watching::Ended => pid.map_or(Observed::Nothing, Observed::Ended),
        Watching::No => Observed::Nothing,
    }
}

/// Watches the file of the readers.
fn observe_readers(watcher: &Watcher, path: &Path) -> Observed<Files> {
    let Some(file) = WatchedFile::open_readers(path) else { return Observed::Nothing };
    match watcher.watch(path, None, true) {
        Watching::Yes(watch) => observed(path, file, watch, false),
        Watching::Ended | Watching::No => Observed::Nothing,
    }
}

/// Watches the file of the lock but not its holder, which the first waiter of the queue watches.
pub(super) fn observe_file(watcher: &Watcher, path: &Path) -> Observed<Files> {
    let Some(file) = WatchedFile::open_locked(path) else { return Observed::Nothing };
    match watcher.watch(path, None, false) {
        Watching::Yes(watch) => observed(path, file, watch, true),
        Watching::Ended | Watching::No => Observed::Nothing,
    }
}

fn observed(path: &Path, file: WatchedFile, watch: Watch, is_held: bool) -> Observed<Files> {
    let (process, watches_file, was_locked) = (watch.process(), watch.watches_file(), file.was_locked());
    // A change, or the end of the holder, before the watch was set sends no event.
    if recheck(path, &file, is_held) && file.has_process() {
        Observed::Held(Observation { file, watch, process, watches_file, was_locked })
    } else {
        Observed::Changed
    }
}

/// Whether the path names the same unchanged file, and its holder still exists.
pub(super) fn recheck(path: &Path, file: &WatchedFile, watches_process: bool) -> bool {
    file.is_current(path)
        && if watches_process { file.has_holder(path) } else { file.is_locked_as_before(path) }
}

/// Rolls back a lock that cannot be delivered.
pub(super) fn roll_back(answer: Answer) {
    if let Ok(Ok(held)) = answer {
        let held: HeldHere = held;
        let _ = protocol::rollback(Os::get(), held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::options::LockOptions;

    #[test]
    #[cfg(target_os = "linux")]
    fn another_process_with_the_holders_pid_is_not_watched() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        std::fs::write(&path, format!(r#"{{"pid":{},"createdAt":1}}"#, child.id())).expect("written");
        let file = WatchedFile::open(&path).expect("a local file");
        child.kill().expect("killed");
        child.wait().expect("waited for");
        let watcher = Watcher::new();
        // No process can be given the pid of another one, so this one stands for it.
        let watching = watcher.watch(&path, Some(std::process::id()), false);
        let Watching::Yes(watch) = watching else { panic!("{watching:?}") };
        assert!(matches!(observed(&path, file, watch, true), Observed::Changed));
    }

    #[test]
    fn a_refusal_by_an_earlier_holder_is_not_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = LockOptions::in_directory(directory.path()).resolve().expect("a path");
        let held = protocol::acquire(Os::get(), &target, 0).expect("free");
        let refusal = protocol::acquire(Os::get(), &target, 0).expect_err("held");
        let watcher = Watcher::new();
        let observed = || observe(&watcher, &target.path, &refusal, None);
        assert!(matches!(observed(), Observed::Held(_)));
        protocol::release(Os::get(), held).expect("released");
        let next = format!(r#"{{"pid":{},"createdAt":1}}"#, std::process::id());
        std::fs::write(&target.path, next).expect("written");
        assert!(matches!(observed(), Observed::Changed));
    }
}
