//! A file that exists: opening it, judging it, and classifying a busy kernel lock.
#![forbid(unsafe_code)]

use super::error::Error;
use super::file::{not_a_file, read, read_bytes, stat_if_current};
use super::holder::{author, is_foreign};
use super::judge::{Evidence, Verdict, judge};
use super::record::{Content, Record};
use super::retry::{Attempt, AttemptError, Refusal, Retry, RetryBudget};
use super::target::Target;
use crate::platform::{Access, FileKind, FsKind, LockMode, Opened, ProcessState, Stat, System, TryLock};

/// Opens the path and checks that it is a file that a lock may use.
pub(super) fn open_existing<S: System>(
    system: &S,
    target: &Target,
    access: Access,
    budget: &mut RetryBudget,
) -> Attempt<(S::File, Stat)> {
    let path = &target.path;
    let file = match system.open(path, access) {
        Ok(Opened::File(file)) => file,
        Ok(Opened::Missing) => return Err(Retry::Missing.into()),
        Ok(Opened::Leased) => return Err(Retry::Leased.into()),
        Ok(Opened::NotAFile(kind)) => return Err(not_a_file(target, kind).into()),
        Err(error) => {
            // A umask can make a new file unreadable until its creator has set the mode.
            let is_new = matches!(system.stat_path(path), Ok(Some(stat))
                if stat.kind == FileKind::File && budget.in_creation_grace(system, &stat));
            return Err(if is_new || budget.repeats_denied(system, target, &error) {
                Retry::BeingCreated.into()
            } else {
                target.system("open")(error).into()
            });
        }
    };
    let stat = system.stat(&file).map_err(target.system("fstat"))?;
    match (stat.kind, stat.links) {
        (FileKind::File, 0) => {
            // `unlink(2)` removes the link a moment before the name; a mount point keeps its name.
            if system.is_mount_point(path) {
                return Err(not_a_file(target, FileKind::Unlinked).into());
            }
            return Err(Retry::Vanished.into());
        }
        (FileKind::File, 1) => {}
        (FileKind::File, _) => {
            let content = read(system, target, &file, &stat)?;
            if !matches!(content, Content::Record(_) | Content::Released) {
                return Err(not_a_file(target, FileKind::HardLink).into());
            }
        }
        (kind, _) => return Err(not_a_file(target, kind).into()),
    }
    if !target.trusts_others() && system.is_planted(path, stat.owner) {
        return Err(not_a_file(target, FileKind::Planted).into());
    }
    Ok((file, stat))
}

/// The content of a file, and the verdict on it.
pub(super) struct Classified {
    pub(super) verdict: Verdict,
    pub(super) record: Option<Record>,
    pub(super) bytes: Vec<u8>,
}

/// Reads and judges a file whose kernel lock this process holds, or whose filesystem has none.
pub(super) fn classify<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    file: &S::File,
    stat: &Stat,
    (fs, kernel_locks): (FsKind, bool),
) -> Attempt<Classified> {
    let (content, bytes) = read_bytes(system, target, file, stat)?;
    let released = content == Content::Released;
    let record = if let Content::Record(record) = content { Some(record) } else { None };
    let verdict = judge(&Evidence {
        record: record.as_ref(),
        file: stat.id,
        released,
        empty: stat.size == 0,
        young: budget.in_creation_grace(system, stat),
        by_another_mount: record.as_ref().is_some_and(|record| record.names_another_mount(stat.id))
            && !system.has_server_locks(file),
        process: record.as_ref().map_or(ProcessState::Dead, |record| author(system, record, stat.id)),
        identity: system.identity(),
        fs,
        kernel_locks,
    });
    // Without kernel locks, the holder may have released the file, and ended, since it was opened.
    if !kernel_locks
        && matches!(verdict, Verdict::Stale(_))
        && stat_if_current(system, target, stat.id)?.is_none()
    {
        return Err(Retry::Vanished.into());
    }
    Ok(Classified { verdict, record, bytes })
}

/// Classifies a kernel lock that may be busy: that of an inspector, or of an owner.
pub(super) fn classify_busy<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    file: &S::File,
    stat: &Stat,
) -> Result<AttemptError, Error> {
    // An inspector holds the lock in shared mode, so a shared lock succeeds.
    if system.try_lock(file, LockMode::Shared).map_err(target.system("flock"))? != TryLock::WouldBlock {
        return Ok(Retry::HeldByInspector.into());
    }
    classify_owner(system, target, budget, file, stat, &|record| system.process_exists(record.pid))
}

/// Classifies the holder of the exclusive kernel lock: an owner, or a process that is about to write its record or to
/// break the lock.
pub(super) fn classify_owner<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    file: &S::File,
    stat: &Stat,
    runs: &dyn Fn(&Record) -> bool,
) -> Result<AttemptError, Error> {
    (budget.locked, budget.ended) = (Some(stat.id), None);
    let Content::Record(record) = read(system, target, file, stat)? else {
        return Ok(Retry::RecordPending.into());
    };
    // A process that takes over a copy has not written its record yet: this one names the holder of the original.
    if record.is_copy(stat.id) && system.fs_kind(file) == FsKind::Local {
        return Ok(Retry::RecordPending.into());
    }
    let holder = Some(record.holder(stat.modified));
    if is_foreign(system, &record) {
        budget.named_holder = holder;
        return Ok(Retry::OwnerNotVisible.into());
    }
    if runs(&record) {
        return Ok(Refusal { holder, reason: None }.into());
    }
    // Windows has no such inheritance, and the legacy lock has no kernel lock.
    budget.ended = holder.filter(|_| cfg!(not(windows)) && record.v.is_some());
    Ok(Retry::RecordPending.into())
}
