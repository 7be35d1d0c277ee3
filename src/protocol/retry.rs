//! Attempts, why one is repeated, and for how long.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::error::Error;
use super::holder::{inherited, lock_owner, without_record};
use super::record::Holder;
use super::target::Target;
use crate::platform::{FileId, Stat, System};

/// How long an empty file is left to its creator, who stands between creating it and locking it.
pub const CREATION_GRACE: Duration = Duration::from_secs(2);

/// How long an acquirer needs at most from its kernel lock to its record, unless it is stopped. Kernel locks without
/// a record that are older are reported.
const RECORD_WRITE_LIMIT: Duration = Duration::from_millis(20);

/// How long a call is held up at most by processes that only look.
const SHARED_LOCK_LIMIT: Duration = Duration::from_millis(100);

const SHARED_LOCK: &str = "another process holds the kernel lock in shared mode: an inspector, or a program other \
                           than reconcile-lock";

pub(super) const BEING_CREATED: &str = "a process is creating it right now";

/// An empty file, and when it was first seen by [`System::monotonic`].
pub type EmptyFile = Option<(FileId, Duration)>;

/// How one attempt ended.
pub(super) enum Attempt<T> {
    Done(T),
    Refused(Refusal),
    Retry(Retry),
}

pub(super) struct Refusal {
    pub(super) holder: Option<Holder>,
    /// What the holder alone does not tell.
    pub(super) reason: Option<String>,
}

/// Why an attempt proved nothing and is to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// The path named the file no more: its owner let go in between.
    Vanished,
    /// The file is empty and young: its creator is about to lock it.
    BeingCreated,
    /// The kernel lock was held in shared mode, by somebody who only looked.
    HeldByInspector,
    /// The kernel lock is held, and the record does not yet say by whom: a take-over in its middle.
    RecordPending,
    /// The kernel lock is held, and the record names a process that cannot be asked for from here.
    OwnerNotVisible,
    /// Another process has a lease on the file.
    Leased,
}

/// Bounds every repetition, so that each loop ends, and in the contention error.
#[derive(Default)]
pub(super) struct RetryBudget {
    vanished: u32,
    held_by_inspector: u32,
    record_pending: u32,
    owner_not_visible: u32,
    leased: u32,
    /// When the call first met a file in the moment of its creation, a shared kernel lock, and a lease.
    first_empty_file: Option<Duration>,
    first_inspected: Option<Duration>,
    pub(super) empty_file: EmptyFile,
    /// The file whose kernel lock was last found held without a record.
    pub(super) locked: Option<FileId>,
    /// Whom the record named when the kernel lock was last found held.
    pub(super) named_holder: Option<Holder>,
    /// The same, if that process has ended.
    pub(super) ended: Option<Holder>,
    /// When to pause no more, by the system's monotonic clock; `None`: each repetition has its own bound.
    until: Option<Duration>,
}

impl RetryBudget {
    /// For a call that stops pausing at `until` and may have seen an empty file before.
    pub(super) fn until(until: Option<Duration>, empty_file: EmptyFile) -> Self {
        Self { empty_file, until, ..Self::default() }
    }

    /// How long to wait before the next attempt; `None`: no more. The bounds are those of the whole call: whoever may
    /// create files in the directory can put one after the other at the path.
    fn next(&mut self, retry: Retry, now: Duration) -> Option<Duration> {
        let since = |first: &mut Option<Duration>| now.saturating_sub(*first.get_or_insert(now));
        let (count, limit, pause) = match retry {
            Retry::BeingCreated => {
                // The first such file has its own bound.
                let first = *self.first_empty_file.get_or_insert(self.empty_file.map_or(now, |(_, at)| at));
                let is_first = self.empty_file.is_some_and(|(_, at)| at == first);
                let goes_on = is_first || now.saturating_sub(first) < CREATION_GRACE;
                return goes_on.then_some(Duration::from_millis(5));
            }
            Retry::HeldByInspector if since(&mut self.first_inspected) >= SHARED_LOCK_LIMIT => return None,
            Retry::HeldByInspector => (&mut self.held_by_inspector, 1000, 1),
            Retry::Vanished => (&mut self.vanished, 200, 0),
            Retry::Leased => (&mut self.leased, 20, 5),
            Retry::RecordPending => (&mut self.record_pending, 20, 1),
            Retry::OwnerNotVisible => (&mut self.owner_not_visible, 3, 1),
        };
        *count += 1;
        // Many in a row: somebody else's turns, so let them go on.
        let crowded = u64::from(*count / 20);
        (*count <= limit).then(|| Duration::from_millis(pause + crowded))
    }

    /// Whether the file may belong to a creator that has not locked it yet. Two clocks must agree that it is old: the
    /// file's, which a network's server may be ahead with a little, or ours since we first saw this file. One that is of
    /// a later time is not young: the clock was set back since.
    pub(super) fn in_creation_grace<S: System>(&mut self, system: &S, stat: &Stat) -> bool {
        let age = system.wall_clock().abs_diff(stat.modified);
        if stat.size != 0 || u128::from(age) >= CREATION_GRACE.as_millis() {
            return false;
        }
        let now = system.monotonic();
        let first_seen = match self.empty_file {
            Some((id, at)) if id == stat.id => at,
            _ => self.empty_file.insert((stat.id, now)).1,
        };
        now.saturating_sub(first_seen) < CREATION_GRACE
    }

    /// Why a file that stays empty is not left to its creator until the end of [`CREATION_GRACE`]: its kernel lock is held.
    fn locked_without_record<S: System>(&self, system: &S, target: &Target) -> Option<String> {
        let (id, first_seen) = self.empty_file?;
        let is_late = system.monotonic().saturating_sub(first_seen) >= RECORD_WRITE_LIMIT;
        is_late.then(|| lock_owner(system, target, id)).flatten().map(|owner| without_record(Some(owner)))
    }

    /// Why a kernel lock that no live process has signed for keeps us out.
    fn record_pending_error<S: System>(&mut self, system: &S, target: &Target) -> Error {
        let owner = self.locked.and_then(|id| lock_owner(system, target, id));
        match self.ended.take() {
            // It took the kernel lock itself, so whoever keeps it has the file from it.
            Some(holder) if owner.is_none_or(|pid| pid == holder.pid) => {
                let reason = inherited(holder.pid);
                target.contention(Some(holder), Some(reason))
            }
            _ => target.contention(None, Some(without_record(owner))),
        }
    }

    /// What is known when the last repetition is over.
    fn give_up<S: System>(&mut self, system: &S, target: &Target, retry: Retry) -> Error {
        let reason = match retry {
            Retry::OwnerNotVisible => return target.contention(self.named_holder.take(), None),
            Retry::RecordPending => return self.record_pending_error(system, target),
            Retry::BeingCreated => BEING_CREATED,
            Retry::HeldByInspector => SHARED_LOCK,
            Retry::Leased => "another process has a lease on the file",
            Retry::Vanished => "another process is acquiring it",
        };
        target.contention(None, Some(reason.to_owned()))
    }

    /// Repeats `attempt` until it is done or refused.
    pub(super) fn repeat<S: System, T>(
        system: &S,
        target: &Target,
        attempt: impl FnMut(&mut Self) -> Result<Attempt<T>, Error>,
    ) -> Result<T, Error> {
        Self::default().repeated(system, target, attempt)
    }

    pub(super) fn repeated<S: System, T>(
        &mut self,
        system: &S,
        target: &Target,
        mut attempt: impl FnMut(&mut Self) -> Result<Attempt<T>, Error>,
    ) -> Result<T, Error> {
        let budget = self;
        loop {
            let retry = match attempt(budget)? {
                Attempt::Done(done) => return Ok(done),
                Attempt::Refused(Refusal { holder, reason }) => return Err(target.contention(holder, reason)),
                Attempt::Retry(retry) => retry,
            };
            if retry == Retry::BeingCreated
                && let Some(reason) = budget.locked_without_record(system, target)
            {
                return Err(target.contention(None, Some(reason)));
            }
            let pause = budget.next(retry, system.monotonic());
            if pause == Some(Duration::ZERO) {
                continue;
            }
            let has_time = budget.until.is_none_or(|until| system.monotonic() < until);
            match pause.filter(|_| has_time) {
                Some(pause) => system.pause(pause),
                None => return Err(budget.give_up(system, target, retry)),
            }
        }
    }
}

/// Whether an attempt was refused because the creator of the file may be about to lock it.
pub(crate) fn is_creation_grace(error: &Error) -> bool {
    matches!(error, Error::Contention { reason: Some(reason), .. } if reason == BEING_CREATED)
}
