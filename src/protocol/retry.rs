//! Attempts: why one is repeated, how often, and for how long.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use super::error::Error;
use super::holder::{inherited, lock_owner, without_record};
use super::readers::held_by_readers;
use super::record::Holder;
use super::target::Target;
use crate::platform::{FileId, FileKind, Stat, System};

/// The creation grace period: an empty file belongs to its creator, which is between creating and locking it.
pub const CREATION_GRACE: Duration = Duration::from_secs(2);

/// The time from the kernel lock to the record, unless the process is stopped. An older kernel lock without a record is
/// reported.
const RECORD_WRITE_LIMIT: Duration = Duration::from_millis(20);

/// How often a call repeats an open that was denied.
const MAX_DENIED: u32 = 2;

const SHARED_LOCK: &str = "another process holds the kernel lock in shared mode: an inspector, or a program other \
                           than reconcile-lock";

/// On SMB: `flock(2)`.
const UNREADABLE: &str = "another process holds the kernel lock, so SMB denies reads";

pub(super) const BEING_CREATED: &str = "a process is creating it right now";

/// How long a call may pause for other processes, by [`System::monotonic`].
#[derive(Debug, Clone, Copy, Default)]
pub enum PauseLimit {
    /// As long as the bound of each kind of retry.
    #[default]
    Bounded,
    /// As [`Self::Bounded`], but for the creator of an empty file until this moment.
    ForCreatorUntil(Duration),
    /// Until this moment.
    Until(Duration),
}

impl PauseLimit {
    fn has_ended<S: System>(self, system: &S, retry: Retry) -> bool {
        match self {
            Self::ForCreatorUntil(until) if retry == Retry::BeingCreated => system.monotonic() >= until,
            Self::Until(until) => system.monotonic() >= until,
            Self::Bounded | Self::ForCreatorUntil(_) => false,
        }
    }
}

/// An empty file, by its id and its modification time, and when it was first found, by [`System::monotonic`]. A new file
/// can get the id of one that was removed.
pub type EmptyFile = Option<((FileId, u64), Duration)>;

/// The result of one attempt.
pub(super) type Attempt<T> = Result<T, AttemptError>;

/// Why an attempt did not succeed.
pub(super) enum AttemptError {
    Refused(Refusal),
    /// The next attempt of the same call can succeed.
    Retry(Retry),
    Failed(Error),
}

impl From<Refusal> for AttemptError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Retry> for AttemptError {
    fn from(retry: Retry) -> Self {
        Self::Retry(retry)
    }
}

impl From<Error> for AttemptError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

pub(super) struct Refusal {
    pub(super) holder: Option<Holder>,
    /// The reason beside the holder.
    pub(super) reason: Option<String>,
}

/// Why an attempt has to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// The path names no file now: its owner has released it.
    Missing,
    /// The path named the file, and names none or another one now, or its content has changed.
    Vanished,
    /// The file is empty and in its creation grace period: its creator is about to lock it.
    BeingCreated,
    /// The kernel lock is held in shared mode, by an inspector.
    HeldByInspector,
    /// The kernel lock is held, and the record does not name the holder yet, as during a take-over.
    RecordPending,
    /// The kernel lock is held, and the record names a process that cannot be checked from here.
    OwnerNotVisible,
    /// Another process has a lease on the file.
    Leased,
    /// Readers hold the lock, or one has just released it.
    HeldByReaders,
    /// A process checks for readers, or removes their file: it holds their kernel lock exclusively.
    ReadersChecked,
}

/// Bounds the retries of one call. A call that exceeds a bound fails with the contention error.
#[derive(Default)]
pub(super) struct RetryBudget {
    vanished: u32,
    held_by_inspector: u32,
    record_pending: u32,
    owner_not_visible: u32,
    leased: u32,
    denied: u32,
    held_by_readers: u32,
    readers_checked: u32,
    /// When the call first found a file in its creation grace period.
    first_empty_file: Option<Duration>,
    pub(super) empty_file: EmptyFile,
    /// The file whose kernel lock was last found held.
    pub(super) locked: Option<FileId>,
    /// The holder that the record named then.
    pub(super) named_holder: Option<Holder>,
    /// That holder, if its process has ended.
    pub(super) ended: Option<Holder>,
    pause_limit: PauseLimit,
}

impl RetryBudget {
    /// For a call that may have found an empty file before.
    pub(super) fn new(pause_limit: PauseLimit, empty_file: EmptyFile) -> Self {
        Self { empty_file, pause_limit, ..Self::default() }
    }

    /// The pause before the next attempt; `None`: the bound is reached. Bounds count for the whole call, because a
    /// process that may write to the directory can put one new file after the other at the path.
    fn next(&mut self, retry: Retry, now: Duration) -> Option<Duration> {
        let (count, limit, pause) = match retry {
            Retry::BeingCreated => {
                // The first such file has its own bound.
                let first = *self.first_empty_file.get_or_insert(self.empty_file.map_or(now, |(_, at)| at));
                let is_first = self.empty_file.is_some_and(|(_, at)| at == first);
                let goes_on = is_first || now.saturating_sub(first) < CREATION_GRACE;
                return goes_on.then_some(Duration::from_millis(5));
            }
            Retry::Missing | Retry::Vanished => (&mut self.vanished, 200, 0),
            Retry::Leased => (&mut self.leased, 20, 5),
            Retry::RecordPending => (&mut self.record_pending, 20, 1),
            Retry::OwnerNotVisible => (&mut self.owner_not_visible, 3, 1),
            Retry::HeldByReaders => (&mut self.held_by_readers, 20, 1),
            // Counted, not timed: on a busy machine this process may not run for most of a period either.
            Retry::HeldByInspector => (&mut self.held_by_inspector, 100, 1),
            Retry::ReadersChecked => (&mut self.readers_checked, 100, 1),
        };
        *count += 1;
        // Many in a row: other processes use the lock, so give them more time.
        let crowded = u64::from(*count / 20);
        (*count <= limit).then(|| Duration::from_millis(pause + crowded))
    }

    /// Whether the file is in its creation grace period: empty, and modified less than 2 s ago. The clock of a file
    /// server may be ahead, so the period also ends 2 s after this call first found the file. A file from the future is
    /// outside it: the clock was set back.
    pub(super) fn in_creation_grace<S: System>(&mut self, system: &S, stat: &Stat) -> bool {
        if stat.size != 0 || !is_young(system, stat) {
            return false;
        }
        let now = system.monotonic();
        let first_seen = match self.empty_file {
            Some((file, at)) if file == (stat.id, stat.modified) => at,
            _ => self.empty_file.insert(((stat.id, stat.modified), now)).1,
        };
        now.saturating_sub(first_seen) < CREATION_GRACE
    }

    /// Whether an open that was denied is repeated: the creator of the file has yet to set its mode, or has set it since,
    /// or has released the lock.
    pub(super) fn repeats_denied<S: System>(
        &mut self,
        system: &S,
        target: &Target,
        error: &io::Error,
    ) -> bool {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return false;
        }
        let found = system.stat_path(&target.path);
        if let Ok(Some(stat)) = &found
            && stat.kind == FileKind::File
            && stat.mode & target.mode != target.mode
            && self.in_creation_grace(system, stat)
        {
            return true;
        }
        let has_changed = found.is_ok_and(|found| found.is_none_or(|stat| is_young(system, &stat)));
        let is_repeated = has_changed || target.has_several_users();
        self.denied += u32::from(is_repeated);
        is_repeated && self.denied <= MAX_DENIED
    }

    /// The reason to refuse before the end of [`CREATION_GRACE`]: the kernel lock of the empty file is held.
    fn locked_without_record<S: System>(&self, system: &S, target: &Target) -> Option<String> {
        let ((id, _), first_seen) = self.empty_file?;
        let is_late = system.monotonic().saturating_sub(first_seen) >= RECORD_WRITE_LIMIT;
        is_late.then(|| lock_owner(system, target, id)).flatten().map(|owner| without_record(Some(owner)))
    }

    /// The contention error for a kernel lock that no record of a live process explains.
    fn record_pending_error<S: System>(&mut self, system: &S, target: &Target) -> Error {
        let owner = self.locked.and_then(|id| lock_owner(system, target, id));
        match self.ended.take() {
            // The ended process took the kernel lock itself, so its holder has inherited the file.
            Some(holder) if owner.is_none_or(|pid| pid == holder.pid) => {
                let reason = inherited(holder.pid);
                target.contention(Some(holder), Some(reason))
            }
            _ => target.contention(None, Some(without_record(owner))),
        }
    }

    /// The contention error after the last retry.
    fn retries_exhausted_error<S: System>(&mut self, system: &S, target: &Target, retry: Retry) -> Error {
        let reason = match retry {
            Retry::OwnerNotVisible => return target.contention(self.named_holder.take(), None),
            Retry::RecordPending => return self.record_pending_error(system, target),
            Retry::BeingCreated => BEING_CREATED,
            Retry::HeldByInspector => SHARED_LOCK,
            Retry::Leased if cfg!(windows) => "another program has the file open without sharing it",
            Retry::Leased => "another process has a lease on the file",
            Retry::Missing | Retry::Vanished => "other processes acquire and release it",
            Retry::HeldByReaders => return target.contention(None, Some(held_by_readers(system, target))),
            Retry::ReadersChecked => "another process checks for readers",
        };
        target.contention(None, Some(reason.to_owned()))
    }

    /// Repeats `attempt` until it succeeds, is refused or fails, or a bound is reached.
    pub(super) fn repeat<S: System, T>(
        &mut self,
        system: &S,
        target: &Target,
        mut attempt: impl FnMut(&mut Self) -> Attempt<T>,
    ) -> Result<T, Error> {
        loop {
            match attempt(self) {
                Ok(done) => return Ok(done),
                Err(error) => self.pause(system, target, error)?,
            }
        }
    }

    /// Pauses before the next attempt, or returns the error if there is none.
    fn pause<S: System>(&mut self, system: &S, target: &Target, failed: AttemptError) -> Result<(), Error> {
        let (retry, error) = match failed {
            AttemptError::Refused(Refusal { holder, reason }) => {
                return Err(target.contention(holder, reason));
            }
            AttemptError::Retry(retry) => (retry, None),
            AttemptError::Failed(error) => match failed_call(&error) {
                // Another client of NFS has removed the file.
                Some((_, io::ErrorKind::StaleNetworkFileHandle)) => (Retry::Vanished, Some(error)),
                Some(("read", io::ErrorKind::ResourceBusy)) => {
                    (Retry::RecordPending, Some(target.contention(None, Some(UNREADABLE.to_owned()))))
                }
                _ => return Err(error),
            },
        };
        if retry == Retry::BeingCreated
            && let Some(reason) = self.locked_without_record(system, target)
        {
            return Err(target.contention(None, Some(reason)));
        }
        match self.next(retry, system.monotonic()) {
            Some(Duration::ZERO) => {}
            Some(pause) if !self.pause_limit.has_ended(system, retry) => system.pause(pause),
            _ => return Err(error.unwrap_or_else(|| self.retries_exhausted_error(system, target, retry))),
        }
        Ok(())
    }
}

fn failed_call(error: &Error) -> Option<(&'static str, io::ErrorKind)> {
    match error {
        Error::System { syscall, source, .. } => Some((syscall, source.kind())),
        _ => None,
    }
}

fn is_young<S: System>(system: &S, stat: &Stat) -> bool {
    u128::from(system.wall_clock().abs_diff(stat.modified)) < CREATION_GRACE.as_millis()
}

/// Whether an attempt was refused because the file is in its creation grace period.
pub(crate) fn is_creation_grace(error: &Error) -> bool {
    matches!(error, Error::Contention { reason: Some(reason), .. } if reason == BEING_CREATED)
}
