//! Shared mode: any number of readers, or one owner. The numbers are the steps of `docs/design/protocol.md`.
//!
//! The readers of a lock hold the shared kernel lock of an empty file beside it. An owner holds the path, and then waits
//! until no process holds that kernel lock. A reader takes that kernel lock, and then checks the path. So of a reader
//! and an owner that acquire at the same time, at least one finds the other.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::mem;

use super::error::Error;
use super::file::{not_a_file, stat_if_current, stays};
use super::held::{Held, TakenOver};
use super::inspect::{LockState, inspect_path};
use super::record::Record;
use super::release::{FILE_CLOSED, NAMES_ANOTHER, NAMES_NONE};
use super::retry::{Attempt, Patience, Refusal, Retry, RetryBudget};
use super::target::{Target, readers_of, system_error};
use crate::platform::{Access, FileId, FileKind, FsKind, LockMode, Opened, Stat, System, TryLock};

/// One attempt to acquire in shared mode.
pub(super) fn acquire_shared<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    budget: &mut RetryBudget,
) -> Result<Attempt<Held<S::File>>, Error> {
    // S1. First the path: the kernel lock of the readers would delay an owner that waits for it.
    match check_path(system, target, budget)? {
        Attempt::Done(_) => {}
        Attempt::Refused(refusal) => return Ok(Attempt::Refused(refusal)),
        Attempt::Retry(retry) => return Ok(Attempt::Retry(retry)),
    }
    // S2. The file of the readers.
    let readers = target.of_readers();
    let (file, stat) = match open_or_create(system, &readers, budget)? {
        Attempt::Done(opened) => opened,
        Attempt::Refused(refusal) => return Ok(Attempt::Refused(refusal)),
        Attempt::Retry(retry) => return Ok(Attempt::Retry(retry)),
    };
    // S3. Its kernel lock. A process that checks for readers, or removes the file, holds it exclusively for a moment.
    let unsupported = match system.try_lock(&file, LockMode::Shared).map_err(readers.system("flock"))? {
        TryLock::Acquired if system.fs_kind(&file) == FsKind::Local => None,
        TryLock::Acquired => Some("shared mode needs a filesystem of this machine"),
        TryLock::WouldBlock => return Ok(Attempt::Retry(Retry::ReadersChecked)),
        TryLock::Unsupported => Some("shared mode needs a filesystem with kernel locks"),
    };
    // S4. Check that the path of the readers still names the locked file.
    if stat_if_current(system, &readers, stat.id)?.is_none() {
        return Ok(Attempt::Retry(Retry::Vanished));
    }
    let record = Record::of(system.identity(), thread, system.wall_clock(), FsKind::Local);
    let held = Held {
        file,
        id: stat.id,
        path: target.path.clone(),
        holder: record.into_holder(),
        taken_over: None,
        previous_record: Vec::new(),
        shared: true,
        has_readers: false,
    };
    if let Some(reason) = unsupported {
        let _ = release_shared(system, held);
        return Err(Error::Unsupported { path: target.path.clone(), reason });
    }
    // S5. Check the path again: an owner that acquired since S1 may have found no reader.
    let checked = check_path(system, target, budget);
    if let Ok(Attempt::Done(taken_over)) = checked {
        return Ok(Attempt::Done(Held { taken_over, ..held }));
    }
    let _ = release_shared(system, held);
    Ok(match checked? {
        Attempt::Done(_) => Attempt::Retry(Retry::Vanished),
        Attempt::Refused(refusal) => Attempt::Refused(refusal),
        Attempt::Retry(retry) => Attempt::Retry(retry),
    })
}

/// Checks that the path has no owner. Returns the previous owner if it did not release.
fn check_path<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
) -> Result<Attempt<Option<TakenOver>>, Error> {
    let status = match inspect_path(system, target, budget)? {
        Attempt::Done(status) => status,
        // Its creator is about to write its record.
        Attempt::Refused(Refusal { holder: None, .. }) => return Ok(Attempt::Retry(Retry::BeingCreated)),
        Attempt::Refused(refusal) => return Ok(Attempt::Refused(refusal)),
        Attempt::Retry(retry) => return Ok(Attempt::Retry(retry)),
    };
    Ok(match status.state {
        LockState::Free => Attempt::Done(None),
        LockState::Stale => Attempt::Done(Some(TakenOver { holder: status.holder, reason: status.reason })),
        LockState::Held => Attempt::Refused(Refusal { holder: status.holder, reason: Some(status.reason) }),
    })
}

fn open_or_create<S: System>(
    system: &S,
    readers: &Target,
    budget: &mut RetryBudget,
) -> Result<Attempt<(S::File, Stat)>, Error> {
    if let Some(file) = system.create(&readers.path).map_err(readers.system("open"))? {
        let stat = system.stat(&file).map_err(readers.system("fstat"))?;
        if stat.mode & readers.mode != readers.mode {
            system.set_mode(&file, readers.mode).map_err(readers.system("fchmod"))?;
        }
        return Ok(Attempt::Done((file, stat)));
    }
    let file = match system.open(&readers.path, Access::ReadWrite) {
        Ok(Opened::File(file)) => file,
        Ok(Opened::Missing) => return Ok(Attempt::Retry(Retry::Missing)),
        Ok(Opened::Leased) => return Ok(Attempt::Retry(Retry::Leased)),
        Ok(Opened::NotAFile(FileKind::Symlink)) => return Err(Error::Symlink { path: readers.path.clone() }),
        Ok(Opened::NotAFile(kind)) => return Err(not_a_file(readers, kind)),
        Err(error) if budget.repeats_denied(system, readers, &error) => {
            return Ok(Attempt::Retry(Retry::BeingCreated));
        }
        Err(error) => return Err(readers.system("open")(error)),
    };
    let stat = system.stat(&file).map_err(readers.system("fstat"))?;
    match stat.kind {
        FileKind::File if stat.links == 0 => Ok(Attempt::Retry(Retry::Vanished)),
        FileKind::File if stat.size > 0 => Err(not_a_file(readers, FileKind::NotALock)),
        FileKind::File if !is_trusted(system, readers, &stat) => Err(not_a_file(readers, FileKind::Planted)),
        FileKind::File => Ok(Attempt::Done((file, stat))),
        kind => Err(not_a_file(readers, kind)),
    }
}

fn is_trusted<S: System>(system: &S, readers: &Target, stat: &Stat) -> bool {
    readers.trusts_others() || !system.is_planted(&readers.path, stat.owner)
}

/// Checks that no reader holds the lock, whose path this process holds.
///
/// # Errors
/// [`Error::Contention`] if a reader holds it; [`Error::System`] as it says.
pub fn await_readers<S: System>(system: &S, target: &Target, patience: Patience) -> Result<(), Error> {
    RetryBudget::new(patience, None)
        .repeated(system, target, |budget| check_readers(system, target, budget, Access::ReadWrite))
}

/// Checks that no process has the kernel lock of the readers. With [`Access::ReadWrite`] it removes their file then.
pub(super) fn check_readers<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    access: Access,
) -> Result<Attempt<()>, Error> {
    match find_readers(system, target)? {
        Some(_) => check_file(system, target, budget, access),
        None => Ok(Attempt::Done(())),
    }
}

/// As [`check_readers`], of a file that exists.
pub(super) fn check_file<S: System>(
    system: &S,
    target: &Target,
    budget: &mut RetryBudget,
    access: Access,
) -> Result<Attempt<()>, Error> {
    let readers = target.of_readers();
    let file = match system.open(&readers.path, access) {
        Ok(Opened::File(file)) => file,
        Ok(Opened::Leased) => return Ok(Attempt::Retry(Retry::Leased)),
        Ok(Opened::Missing | Opened::NotAFile(_)) => return Ok(Attempt::Retry(Retry::Vanished)),
        Err(error) if budget.repeats_denied(system, &readers, &error) => {
            return Ok(Attempt::Retry(Retry::BeingCreated));
        }
        Err(error) => return Err(readers.system("open")(error)),
    };
    let id = system.stat(&file).map_err(readers.system("fstat"))?.id;
    if system.fs_kind(&file) == FsKind::Shared {
        // Readers refuse it, and a network filesystem may need a writable descriptor for the exclusive kernel lock.
        return Ok(Attempt::Done(()));
    }
    match system.try_lock(&file, LockMode::Exclusive).map_err(readers.system("flock"))? {
        TryLock::Acquired if access == Access::Read => system.unlock(&file),
        TryLock::Acquired => {}
        TryLock::WouldBlock => {
            let shared = system.try_lock(&file, LockMode::Shared).map_err(readers.system("flock"))?;
            let is_checked = shared == TryLock::WouldBlock;
            return Ok(Attempt::Retry(if is_checked { Retry::ReadersChecked } else { Retry::HeldByReaders }));
        }
        TryLock::Unsupported => return Ok(Attempt::Done(())),
    }
    if stat_if_current(system, &readers, id)?.is_none() {
        return Ok(Attempt::Retry(Retry::Vanished));
    }
    if access == Access::ReadWrite
        && let Err(failed) = system.unlink(&readers.path, id)
        && !stays(&failed)
    {
        return Err(readers.failed(failed));
    }
    Ok(Attempt::Done(()))
}

/// The file of the readers, if it exists. Readers refuse another kind of file, so an owner ignores it.
pub(super) fn find_readers<S: System>(system: &S, target: &Target) -> Result<Option<FileId>, Error> {
    let path = readers_of(&target.path);
    let stat = match system.stat_path(&path) {
        // The name of the lock file has less than nine bytes left, so no reader can create this one.
        Err(error) if error.kind() == ErrorKind::InvalidFilename => return Ok(None),
        stat => stat.map_err(system_error("lstat", &path))?,
    };
    let Some(stat) = stat else { return Ok(None) };
    let is_theirs = stat.kind == FileKind::File
        && stat.size == 0
        && (target.trusts_others() || !system.is_planted(&path, stat.owner));
    Ok(is_theirs.then_some(stat.id))
}

/// The processes that hold the lock in shared mode, as far as the system lists them.
pub(super) fn readers<S: System>(system: &S, target: &Target) -> Vec<u32> {
    let Ok(Some(id)) = find_readers(system, target) else { return Vec::new() };
    let mut pids = system.shared_lock_owners(id);
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The reason to refuse a lock that is held in shared mode.
pub(super) fn held_by_readers<S: System>(system: &S, target: &Target) -> String {
    if let Ok(Some(id)) = find_readers(system, target)
        && system.holds(id)
    {
        return "this process holds it in shared mode. Release it first: an upgrade in place is refused, because two of \
                them would wait for each other"
            .to_owned();
    }
    describe_readers(&readers(system, target))
}

/// Names the processes that hold a lock in shared mode: a sentence without its full stop.
pub(super) fn describe_readers(readers: &[u32]) -> String {
    match readers {
        [] => "another process holds it in shared mode".to_owned(),
        [pid] => format!("process {pid} holds it in shared mode"),
        pids => {
            let named: Vec<_> = pids.iter().take(MAX_NAMED).map(u32::to_string).collect();
            let more = if pids.len() > MAX_NAMED { ", …" } else { "" };
            format!("{} processes hold it in shared mode: {}{more}", pids.len(), named.join(", "))
        }
    }
}

/// How many readers a reason names.
const MAX_NAMED: usize = 8;

/// Releases a lock in shared mode. The last reader removes the file.
pub(super) fn release_shared<S: System>(system: &S, held: Held<S::File>) -> Result<(), Error> {
    let Held { file, id, path, .. } = held;
    if !system.is_open(&file, id) {
        // Closing the descriptor would close a file that another part of the program has opened since.
        mem::forget(file);
        return Err(Error::Lost { path, reason: FILE_CLOSED });
    }
    let readers = readers_of(&path);
    match system.stat_path(&readers).map_err(system_error("lstat", &readers))? {
        Some(stat) if stat.id == id => {}
        Some(_) => return Err(Error::Lost { path, reason: NAMES_ANOTHER }),
        None => return Err(Error::Lost { path, reason: NAMES_NONE }),
    }
    // Also for children that have inherited it. Windows does not convert a shared lock into an exclusive one.
    system.unlock(&file);
    if matches!(system.try_lock(&file, LockMode::Exclusive), Ok(TryLock::Acquired)) {
        // An empty file that stays refuses no process.
        let _ = system.unlink(&readers, id);
        system.unlock(&file);
    }
    Ok(())
}
