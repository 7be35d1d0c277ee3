//! Acquire. The numbers are the steps of `docs/design/protocol.md`.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use super::await_readers::{await_readers, check_readers_file};
use super::error::Error;
use super::existing::{Classified, classify, classify_busy, open_existing};
use super::file::{INVALID_RECORD_LEN, read, stat_if_current};
use super::held::{Held, TakenOver};
use super::judge::Verdict;
use super::readers::find_readers;
use super::record::{Content, Holder, RECORD_LEN, Record};
use super::release::rollback;
use super::retry::{Attempt, EmptyFile, PauseLimit, Refusal, Retry, RetryBudget};
use super::shared::acquire_shared;
use super::target::Target;
use crate::platform::{Access, FileId, FsKind, LockMode, Stat, System, TryLock, Unlinked};

/// The time within which a legacy process that has opened a stale file unlinks the path, unless it is stopped.
pub const LEGACY_UNLINK_WINDOW: Duration = Duration::from_millis(5);

/// Acquires the lock for `thread` of this process, or reports its holder. It does not wait for a holder.
///
/// # Errors
/// [`Error::Contention`] if it is held; [`Error::Symlink`], [`Error::NotAFile`], [`Error::Stale`],
/// [`Error::Unsupported`] and [`Error::System`] as documented there.
pub fn acquire<S: System>(system: &S, target: &Target, thread: u32) -> Result<Held<S::File>, Error> {
    acquire_with(system, target, thread, PauseLimit::Bounded, &mut None)
}

/// As [`acquire`], but with another limit of its pauses. `empty_file` carries the empty file that one attempt
/// has found to the next attempt of the same call.
///
/// # Errors
/// As [`acquire`].
pub fn acquire_with<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    pause_limit: PauseLimit,
    empty_file: &mut EmptyFile,
) -> Result<Held<S::File>, Error> {
    let held = attempt(system, target, thread, pause_limit, empty_file, !target.shared)?;
    // 10. Readers that came in between.
    if held.has_readers
        && let Err(error) = await_readers(system, target, pause_limit)
    {
        // The refusal is the error to report.
        let _ = rollback(system, held);
        return Err(error);
    }
    Ok(Held { has_readers: false, ..held })
}

/// As [`acquire_with`], but also acquires the path if readers hold the lock. Then `has_readers` is set, and this process
/// does not own the lock before [`await_readers`] has succeeded.
///
/// # Errors
/// As [`acquire`].
pub fn acquire_path<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    pause_limit: PauseLimit,
    empty_file: &mut EmptyFile,
) -> Result<Held<S::File>, Error> {
    attempt(system, target, thread, pause_limit, empty_file, false)
}

fn attempt<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    pause_limit: PauseLimit,
    empty_file: &mut EmptyFile,
    checks_readers: bool,
) -> Result<Held<S::File>, Error> {
    let mut budget = RetryBudget::new(pause_limit, *empty_file);
    let outcome = budget.repeat(system, target, |budget| {
        // 0. While this process holds the path, it refuses readers. Step 1 or 10 reports an error.
        if checks_readers && matches!(find_readers(system, target), Ok(Some(_))) {
            check_readers_file(system, target, budget, Access::ReadWrite)?;
        }
        if target.shared {
            return acquire_shared(system, target, thread, budget);
        }
        let path = &target.path;
        // 1. Create exclusively.
        if let Some(file) = system.create(path).map_err(target.system("open"))? {
            return lock_created(system, target, thread, budget, file);
        }
        // 2. The path exists: open it.
        let (file, stat) = open_existing(system, target, Access::ReadWrite, budget)?;
        // 3. Check before locking: the creator of an empty file needs its kernel lock next.
        if budget.in_creation_grace(system, &stat) {
            return Err(Retry::BeingCreated.into());
        }
        lock_existing(system, target, thread, budget, (file, stat.id))
    });
    *empty_file = budget.empty_file;
    let held = outcome?;
    if target.shared {
        return Ok(held);
    }
    let held = if target.durable { synced(system, target, held)? } else { held };
    match find_readers(system, target) {
        Ok(found) => Ok(Held { has_readers: found.is_some(), ..held }),
        Err(error) => {
            let _ = rollback(system, held);
            Err(error)
        }
    }
}

/// Step 9: syncs the record and the name of its file, or rolls the lock back.
fn synced<S: System>(system: &S, target: &Target, held: Held<S::File>) -> Result<Held<S::File>, Error> {
    if let Err(failed) = system.sync(&held.file, &held.path) {
        // The failed sync is the error to report.
        let _ = rollback(system, held);
        return Err(target.failed(failed));
    }
    Ok(held)
}

/// Steps 4 to 7 for a file that this process created.
fn lock_created<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    budget: &mut RetryBudget,
    file: S::File,
) -> Attempt<Held<S::File>> {
    let discard = |error| {
        // An empty file would delay the next process by the creation grace period. The path may name another
        // file now, if a program outside the protocol removed this one: that file stays.
        if !system.stat(&file).is_ok_and(|stat| system.unlink(&target.path, stat.id).is_ok()) {
            let _ = system.truncate(&file, INVALID_RECORD_LEN);
        }
        error
    };
    // 4. The kernel lock.
    let lock =
        system.try_lock(&file, LockMode::Exclusive).map_err(target.system("flock")).map_err(discard)?;
    let stat = system.stat(&file).map_err(target.system("fstat"));
    if lock == TryLock::WouldBlock {
        return Err(classify_busy(system, target, budget, &file, &stat?)?);
    }
    let stat = stat.map_err(discard)?;
    // 5. A new file has one name, the path, until it is unlinked. Network filesystems rename a file that is
    // unlinked while it is open, so there the path is compared.
    let fs = system.fs_kind(&file);
    let in_place = match fs {
        FsKind::Local => stat.links > 0,
        FsKind::Shared => stat_if_current(system, target, stat.id).map_err(discard)?.is_some(),
    };
    if !in_place {
        return Err(Retry::Vanished.into());
    }
    if stat.size > 0 {
        // This process slept past the creation grace period, and another process has used the file.
        return lock_existing(system, target, thread, budget, (file, stat.id));
    }
    if stat.mode & target.mode != target.mode {
        // The umask has removed permissions, or others need theirs: the file is created with those of its owner.
        system.set_mode(&file, target.mode).map_err(target.system("fchmod")).map_err(discard)?;
    }
    // 7. Write the record.
    let mut id = stat.id;
    let record =
        write_record(system, thread, &file, &mut id, fs).map_err(target.system("write")).map_err(discard)?;
    Ok(Held::new(file, id, target, record.into_holder()))
}

/// Steps 4 to 8 for a file that existed before.
fn lock_existing<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    budget: &mut RetryBudget,
    (file, mut id): (S::File, FileId),
) -> Attempt<Held<S::File>> {
    // 4. The kernel lock.
    let kernel_locks = match system.try_lock(&file, LockMode::Exclusive).map_err(target.system("flock"))? {
        TryLock::Acquired => true,
        TryLock::WouldBlock => {
            let stat = system.stat(&file).map_err(target.system("fstat"))?;
            return Err(classify_busy(system, target, budget, &file, &stat)?);
        }
        TryLock::Unsupported => false,
    };
    // 5. Check that the path still names the locked file.
    let Some(stat) = stat_if_current(system, target, id)? else {
        return Err(Retry::Vanished.into());
    };
    // 6. Read the record and classify it.
    let fs = system.fs_kind(&file);
    let Classified { verdict, record, bytes: previous_record } =
        classify(system, target, budget, &file, &stat, (fs, kernel_locks))?;
    let previous_holder = record.map(|record| record.holder(stat.modified));
    let reason = match verdict {
        Verdict::BeingCreated => return Err(Retry::BeingCreated.into()),
        Verdict::Held(reason) => {
            return Err(Refusal { holder: previous_holder, reason: Some(reason) }.into());
        }
        Verdict::Free => None,
        Verdict::Stale(reason) if kernel_locks => Some(reason),
        Verdict::Stale(reason) => {
            return Err(Error::Stale { path: target.path.clone(), holder: previous_holder, reason }.into());
        }
    };
    let taken_over = reason.map(|reason| TakenOver { holder: previous_holder.clone(), reason });
    if stat.links > 1 {
        let held = recreate(system, target, thread, budget, id)?;
        // Otherwise another process has held the new file, and ended.
        let is_ours = held.taken_over.is_none();
        return Ok(if is_ours { Held { taken_over, previous_record, ..held } } else { held });
    }
    // 7. Write the record. If that fails, the stale file stays if possible: the next process reports its holder.
    if stat.size > RECORD_LEN as u64 {
        system.truncate(&file, RECORD_LEN as u64).map_err(target.system("ftruncate"))?;
    }
    let record = match write_record(system, thread, &file, &mut id, fs) {
        Ok(record) => record,
        Err(error) => {
            cut_partial_record(system, target, &file, &stat, previous_holder.as_ref());
            return Err(target.system("write")(error).into());
        }
    };
    if stat.mode & 0o7777 != target.mode {
        // Only the owner of the file may do this. The lock is acquired without it.
        let _ = system.set_mode(&file, target.mode);
    }
    let held = Held { taken_over, previous_record, ..Held::new(file, id, target, record.into_holder()) };
    if target.legacy { recheck_take_over(system, target, held) } else { Ok(held) }
}

/// Step 8: a legacy process may have read the same stale record and be about to unlink the path.
fn recheck_take_over<S: System>(system: &S, target: &Target, held: Held<S::File>) -> Attempt<Held<S::File>> {
    system.pause(LEGACY_UNLINK_WINDOW);
    let current = stat_if_current(system, target, held.id);
    if matches!(current, Ok(Some(_))) {
        return Ok(held);
    }
    // The record names this process: where the file is now, it would refuse others until this process ends.
    let _ = rollback(system, held);
    current?;
    Err(Retry::Vanished.into())
}

/// Cuts a file whose write has failed, if that has changed its record: a partial record may name this process, which is
/// alive, and refuse others.
fn cut_partial_record<S: System>(
    system: &S,
    target: &Target,
    file: &S::File,
    stat: &Stat,
    previous_holder: Option<&Holder>,
) {
    let is_unchanged = read(system, target, file, stat).is_ok_and(|content| {
        let holder =
            if let Content::Record(record) = content { Some(record.holder(stat.modified)) } else { None };
        holder.as_ref() == previous_holder
    });
    if !is_unchanged {
        // The failed write is the error to report.
        let _ = system.truncate(file, INVALID_RECORD_LEN);
    }
}

/// Steps 7 and 8 for a stale file with several links. Another name of it may be part of a snapshot, so the file is not
/// written. This name is removed under the kernel lock, and a new file is created.
fn recreate<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    budget: &mut RetryBudget,
    id: FileId,
) -> Attempt<Held<S::File>> {
    let created = match system.unlink(&target.path, id).map_err(|failed| target.failed(failed))? {
        Unlinked::Removed => system.create(&target.path).map_err(target.system("open"))?,
        Unlinked::Missing | Unlinked::Another => None,
    };
    let Some(created) = created else {
        return Err(Retry::Vanished.into());
    };
    let held = lock_created(system, target, thread, budget, created)?;
    if target.legacy { recheck_take_over(system, target, held) } else { Ok(held) }
}

/// Step 7. Other clients of a network filesystem do not read what is in the cache of this one.
///
/// On FAT, macOS numbers a file by its first cluster: an empty file changes its `id` with its first byte, and the
/// record is written again.
fn write_record<S: System>(
    system: &S,
    thread: u32,
    file: &S::File,
    id: &mut FileId,
    fs: FsKind,
) -> io::Result<Record> {
    let record = Record::of(system.identity(), thread, system.wall_clock(), fs).in_file(*id);
    system.write(file, &record.encode())?;
    if fs == FsKind::Local {
        return Ok(record);
    }
    system.flush(file)?;
    if !cfg!(target_os = "macos") || system.stat(file)?.id == *id {
        return Ok(record);
    }
    *id = system.stat(file)?.id;
    let record = record.in_file(*id);
    system.write(file, &record.encode())?;
    system.flush(file)?;
    Ok(record)
}
