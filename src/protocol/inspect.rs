//! Inspect: reads the state of a lock without changing it.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use super::await_readers::check_readers;
use super::error::Error;
use super::existing::{Classified, classify, classify_owner, open_existing};
use super::file::{read, stat_if_current};
use super::holder::{describe, is_foreign, is_running, without_record};
use super::judge::Verdict;
use super::readers::{describe_readers, reader_pids};
use super::record::{Content, Holder, Record};
use super::retry::{Attempt, AttemptError, BEING_CREATED, Refusal, Retry, RetryBudget};
use super::target::Target;
use crate::platform::{Access, LockMode, ProcessDetails, Stat, System, TryLock};

/// Whether a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// There is no lock file, or one that the last holder has marked as released.
    Free,
    /// A process holds the lock, or that cannot be excluded.
    Held,
    /// There is a lock file, and its holder is gone.
    Stale,
}

/// The result of [`inspect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockStatus {
    /// The lock file.
    pub path: PathBuf,
    /// Whether the lock is held.
    pub state: LockState,
    /// The current or previous holder, if the record was readable.
    pub holder: Option<Holder>,
    /// The process of the holder of a held lock, if the record proves that it is the process with that pid.
    pub process: ProcessDetails,
    /// The state in one sentence.
    pub reason: String,
    /// The processes that hold the lock in shared mode, as far as the system lists them; `None`: there are none. The
    /// holder of a lock with readers waits for them.
    pub readers: Option<Vec<u32>>,
}

/// Reports whether the lock is held, and by which process. Changes no byte of the file.
///
/// # Errors
/// [`Error::Symlink`], [`Error::NotAFile`] and [`Error::System`] as documented there.
pub fn inspect<S: System>(system: &S, target: &Target) -> Result<LockStatus, Error> {
    let inspected =
        RetryBudget::default().repeat(system, target, |budget| inspect_path(system, target, budget));
    let status = match inspected {
        Err(Error::Contention { holder, reason, .. }) => {
            let reason = reason.or_else(|| holder.as_ref().map(describe));
            status(target, LockState::Held, holder, reason.unwrap_or_else(|| "a process holds it".to_owned()))
        }
        Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => free(target),
        other => other?,
    };
    let checked = RetryBudget::default()
        .repeat(system, target, |budget| check_readers(system, target, budget, Access::Read));
    match checked {
        Ok(()) => Ok(status),
        Err(Error::Contention { .. }) => Ok(with_readers(system, status, reader_pids(system, target))),
        Err(error) => Err(error),
    }
}

fn with_readers<S: System>(system: &S, status: LockStatus, readers: Vec<u32>) -> LockStatus {
    let reason = describe_readers(system, &readers);
    let readers = Some(readers);
    if status.state == LockState::Held {
        return LockStatus { readers, reason: format!("{}; {reason}", status.reason), ..status };
    }
    LockStatus { readers, state: LockState::Held, holder: None, reason, ..status }
}

fn status(target: &Target, state: LockState, holder: Option<Holder>, reason: String) -> LockStatus {
    let process = ProcessDetails::default();
    LockStatus { path: target.path.clone(), state, holder, process, reason, readers: None }
}

fn free(target: &Target) -> LockStatus {
    status(target, LockState::Free, None, "there is no lock file".to_owned())
}

/// Inspects the path, but not the readers.
pub(super) fn inspect_path<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
) -> Attempt<LockStatus> {
    let (file, stat) = match open_existing(system, target, Access::Read, budget) {
        Err(AttemptError::Retry(Retry::Missing)) => return Ok(free(target)),
        opened => opened?,
    };
    inspect_open_file(system, target, budget, &file, &stat)
}

/// The refusal by a record that names a live process, which is enough: the kernel lock stays free for a process that
/// acquires.
fn refused_by_record<S: System>(
    system: &S,
    target: &Target,
    file: &S::File,
    stat: &Stat,
    classified: &Classified,
) -> Result<Option<Refusal>, Error> {
    let Classified { verdict: Verdict::Held(_), record: Some(first), .. } = classified else {
        return Ok(None);
    };
    let Content::Record(second) = read(system, target, file, stat)? else { return Ok(None) };
    let is_alive = !is_foreign(system, &second) && system.process_exists(second.pid);
    Ok(is_alive.then(|| Refusal { holder: Some(first.holder(stat.modified)), reason: None }))
}

fn inspect_open_file<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    file: &S::File,
    stat: &Stat,
) -> Attempt<LockStatus> {
    if budget.in_creation_grace(system, stat) {
        let owner = system.lock_owner(stat.id);
        let reason = Some(owner.map_or_else(|| BEING_CREATED.to_owned(), |pid| without_record(Some(pid))));
        return Err(Refusal { holder: None, reason }.into());
    }
    let fs = system.fs_kind(file);
    let first = classify(system, target, budget, file, stat, (fs, true))?;
    if let Some(refusal) = refused_by_record(system, target, file, stat, &first)? {
        return Err(refusal.into());
    }
    let kernel_locks = match system.try_lock(file, LockMode::Shared).map_err(target.system("flock"))? {
        // It is released before anything else, as a process that acquires would have to wait for it.
        TryLock::Acquired => {
            system.unlock(file);
            true
        }
        TryLock::WouldBlock => {
            let runs = |record: &Record| is_running(system, record.pid, record.start_time);
            return Err(classify_owner(system, target, budget, file, stat, &runs)?);
        }
        TryLock::Unsupported => false,
    };
    let Some(current) = stat_if_current(system, target, stat.id)? else {
        return Err(Retry::Vanished.into());
    };
    let Classified { verdict, record, bytes } =
        classify(system, target, budget, file, &current, (fs, kernel_locks))?;
    // The content that did not change is that of the moment of the kernel lock, when no process owned the file.
    if bytes != first.bytes {
        return Err(Retry::Vanished.into());
    }
    let holder = record.map(|record| record.holder(current.modified));
    let (state, reason) = match verdict {
        Verdict::BeingCreated => (LockState::Held, BEING_CREATED.to_owned()),
        Verdict::Free => {
            let reason = "the last holder released the lock, but could not remove its file";
            (LockState::Free, reason.to_owned())
        }
        Verdict::Held(reason) => (LockState::Held, reason),
        Verdict::Stale(reason) => (LockState::Stale, reason),
    };
    Ok(status(target, state, holder, reason))
}
