//! Acquire. The numbers are the steps of `docs/design/protocol.md`.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::error::Error;
use super::existing::{Examined, contended, examine, open};
use super::file::{NO_RECORD, named, read};
use super::held::{Held, TakenOver, is_held};
use super::judge::Verdict;
use super::record::{Content, RECORD_LEN, Record};
use super::retry::{Again, Attempt, EmptyFile, Patience, Refusal};
use super::target::Target;
use crate::platform::{Access, FileId, FsKind, LockMode, Locking, System, Unlinked};

/// How long an old TypeScript peer that has read a stale record may take to unlink the path.
pub const OLD_PEER_UNLINKS_WITHIN: Duration = Duration::from_millis(5);

/// Acquires the lock for `thread` of this process, or says who has it. Never waits for a holder.
///
/// # Errors
/// [`Error::Contention`] if it is held; [`Error::Symlink`], [`Error::NotAFile`], [`Error::Stale`] and
/// [`Error::System`] as they say.
pub fn acquire<S: System>(system: &S, target: &Target, thread: u32) -> Result<Held<S::File>, Error> {
    acquire_until(system, target, thread, None, &mut None)
}

/// As [`acquire`], but pauses for nobody, such as the creator of an empty file, after the moment `until` of
/// [`System::monotonic`]. `empty_file` is for the next attempt of the same call.
///
/// # Errors
/// As [`acquire`].
pub fn acquire_until<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    until: Option<Duration>,
    empty_file: &mut EmptyFile,
) -> Result<Held<S::File>, Error> {
    let mut patience = Patience::until(until, *empty_file);
    let outcome = patience.repeated(system, target, |patience| {
        let path = &target.path;
        // 1. Create exclusively.
        if let Some(file) = system.create(path).map_err(target.system("open"))? {
            return enter_created(system, target, thread, patience, file);
        }
        // 2. It exists: open it.
        let (file, stat) = match open(system, target, Access::ReadWrite, patience)? {
            Attempt::Done(opened) => opened,
            Attempt::Refused(refusal) => return Ok(Attempt::Refused(refusal)),
            Attempt::Again(again) => return Ok(Attempt::Again(again)),
        };
        // 3. Look before you lock: whoever creates a file wants its kernel lock next.
        if patience.is_being_born(system, &stat) {
            return Ok(Attempt::Again(Again::BeingBorn));
        }
        enter_found(system, target, thread, patience, (file, stat.id))
    });
    *empty_file = patience.newborn;
    outcome
}

/// Steps 4 to 7 for a file that we created.
fn enter_created<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    patience: &mut Patience,
    file: S::File,
) -> Result<Attempt<Held<S::File>>, Error> {
    let discard = |error| {
        // Empty, it would hold up the next run for as long as a birth may take. But somebody outside the
        // protocol may have removed it, and what stands there now is another's.
        let seen = system.stat(&file).ok().or_else(|| system.stat_path(&target.path).ok().flatten());
        if seen.is_none_or(|stat| system.unlink(&target.path, stat.id).is_err()) {
            let _ = system.truncate(&file, NO_RECORD);
        }
        error
    };
    // 4. The kernel lock.
    let locking =
        system.try_lock(&file, LockMode::Exclusive).map_err(target.system("flock")).map_err(discard)?;
    let stat = system.stat(&file).map_err(target.system("fstat"));
    if locking == Locking::Busy {
        return contended(system, target, patience, &file, &stat?);
    }
    let stat = stat.map_err(discard)?;
    // 5. A file that we made has one name until somebody unlinks it, and that name is the path. Network
    // filesystems rename a file that is unlinked while it is open, so there only the path tells.
    let fs = system.fs_kind(&file);
    let in_place = match fs {
        FsKind::Local => stat.links > 0,
        FsKind::Shared => named(system, target, stat.id).map_err(discard)?.is_some(),
    };
    if !in_place {
        return Ok(Attempt::Again(Again::Vanished));
    }
    if stat.size > 0 {
        // We slept past the time of birth, and somebody else made use of the file.
        return enter_found(system, target, thread, patience, (file, stat.id));
    }
    if stat.mode & 0o600 != 0o600 {
        // A umask took away what the owner needs.
        system.make_private(&file).map_err(target.system("fchmod")).map_err(discard)?;
    }
    // 7. Our record.
    let record = our_record(system, thread, stat.id, fs);
    system.write(&file, &record.encode()).map_err(target.system("write")).map_err(discard)?;
    let (path, holder) = (target.path.clone(), record.into_holder());
    Ok(Attempt::Done(Held { file, id: stat.id, path, holder, taken_over: None, left: Vec::new() }))
}

/// Steps 4 to 8 for a file that was there before us.
fn enter_found<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    patience: &mut Patience,
    (file, id): (S::File, FileId),
) -> Result<Attempt<Held<S::File>>, Error> {
    // 4. The kernel lock.
    let kernel_locks = match system.try_lock(&file, LockMode::Exclusive).map_err(target.system("flock"))? {
        Locking::Taken => true,
        Locking::Busy => {
            let stat = system.stat(&file).map_err(target.system("fstat"))?;
            return contended(system, target, patience, &file, &stat);
        }
        Locking::Unsupported => false,
    };
    // 5. Does the path still name what we locked?
    let Some(stat) = named(system, target, id)? else {
        return Ok(Attempt::Again(Again::Vanished));
    };
    // 6. Read and judge.
    let fs = system.fs_kind(&file);
    let examined = examine(system, target, patience, &file, &stat, (fs, kernel_locks))?;
    let Some(Examined { verdict, record, bytes: left }) = examined else {
        return Ok(Attempt::Again(Again::Vanished));
    };
    let left_by = record.map(|record| record.holder(stat.modified));
    let reason = match verdict {
        Verdict::BeingBorn => return Ok(Attempt::Again(Again::BeingBorn)),
        Verdict::Held(reason) => {
            return Ok(Attempt::Refused(Refusal { holder: left_by, reason: Some(reason) }));
        }
        Verdict::Free => None,
        Verdict::Stale(reason) if kernel_locks => Some(reason),
        Verdict::Stale(reason) => {
            return Err(Error::Stale { path: target.path.clone(), holder: left_by, reason });
        }
    };
    let taken_over = reason.map(|reason| TakenOver { holder: left_by.clone(), reason });
    if stat.links > 1 {
        return Ok(match recreate(system, target, thread, patience, id)? {
            // The new file may have been held since, by a process that died.
            Attempt::Done(held) if held.taken_over.is_none() => {
                Attempt::Done(Held { taken_over, left, ..held })
            }
            other => other,
        });
    }
    // 7. Our record. Where that fails, the stale file stays if it can, so that the next run learns of it.
    let record = our_record(system, thread, id, fs);
    if stat.size > RECORD_LEN as u64 {
        system.truncate(&file, RECORD_LEN as u64).map_err(target.system("ftruncate"))?;
    }
    if let Err(error) = system.write(&file, &record.encode()) {
        // A part of it may name us, who live, and keep others out.
        let is_changed = match read(system, target, &file, &stat)? {
            Content::Record(record) => Some(record.holder(stat.modified)) != left_by,
            _ => left_by.is_some(),
        };
        if is_changed {
            let _ = system.truncate(&file, NO_RECORD);
        }
        return Err(target.system("write")(error));
    }
    if stat.mode & 0o7777 != 0o600 {
        // Only the file's owner may do this, and a lock that somebody else left behind is still ours.
        let _ = system.make_private(&file);
    }
    // 8. A legacy process may have judged the same file stale just before and be about to unlink the path.
    if target.legacy {
        system.pause(OLD_PEER_UNLINKS_WITHIN);
        match named(system, target, id) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Attempt::Again(Again::Vanished)),
            Err(error) => {
                // Our record names a live process: it would keep others out for as long as that lives.
                let _ = system.truncate(&file, NO_RECORD);
                return Err(error);
            }
        }
    }
    let (path, holder) = (target.path.clone(), record.into_holder());
    Ok(Attempt::Done(Held { file, id, path, holder, taken_over, left }))
}

/// Steps 7 and 8 for a stale file with several links: another name of it may be part of a snapshot, so it is not
/// written. Its name is removed under its kernel lock, which we have, and the file is created anew.
fn recreate<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    patience: &mut Patience,
    id: FileId,
) -> Result<Attempt<Held<S::File>>, Error> {
    let created = match system.unlink(&target.path, id).map_err(|failed| target.failed(failed))? {
        Unlinked::Removed => system.create(&target.path).map_err(target.system("open"))?,
        Unlinked::Missing | Unlinked::Another => None,
    };
    let Some(created) = created else {
        return Ok(Attempt::Again(Again::Vanished));
    };
    let entered = enter_created(system, target, thread, patience, created)?;
    if target.legacy
        && let Attempt::Done(held) = &entered
    {
        system.pause(OLD_PEER_UNLINKS_WITHIN);
        if !is_held(system, held) {
            return Ok(Attempt::Again(Again::Vanished));
        }
    }
    Ok(entered)
}

/// The record of this process, in this file.
fn our_record<S: System>(system: &S, thread: u32, file: FileId, fs: FsKind) -> Record {
    Record::of(system.here(), thread, system.wall_clock(), fs).in_file(file)
}
