//! Acquire, release, inspect and break, over the operations of [`System`].
//!
//! **I1**: a process owns the lock if and only if it holds the exclusive kernel lock on the file that
//! the path names now. **I2**: only the owner unlinks, replaces or rewrites the file at the path.
#![forbid(unsafe_code)]

use std::io;
use std::mem;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::error::{Error, FileKind};
use crate::judge::{Evidence, Verdict, judge};
use crate::record::{Content, Holder, RECORD_LEN, RELEASED, Record};
use crate::system::{
    Access, Failed, FileId, FsKind, LockMode, Locking, Opened, ProcessState, Stat, System, Unlinked,
};
use crate::target::{Target, system_error};

/// How long an empty file is left to its creator, who stands between creating it and locking it.
pub const BIRTH: Duration = Duration::from_secs(2);

/// How long an acquirer needs at most from its kernel lock to its record, unless it is stopped. Kernel locks without
/// a record that are older are reported.
const SIGNS_WITHIN: Duration = Duration::from_millis(20);

/// How long a call is held up at most by processes that only look.
const LOOKS_WITHIN: Duration = Duration::from_millis(100);

const SHARED_LOCK: &str = "another process holds the kernel lock in shared mode: an inspector, or a program other \
                           than reconcile-lock";

const BEING_BORN: &str = "a process is creating it right now";

/// What is left of a record that nobody stands behind any more. Not nothing: that looks like a birth, and
/// holds up the next run.
const NO_RECORD: u64 = 1;

/// How long an old TypeScript peer that has read a stale record may take to unlink the path.
pub const OLD_PEER_UNLINKS_WITHIN: Duration = Duration::from_millis(5);

/// A lock that this process owns. Dropping it closes the file, which ends ownership and leaves a stale
/// file behind; [`release`] is the way to end it.
#[derive(Debug)]
pub struct Held<F> {
    file: F,
    id: FileId,
    /// The lock file.
    pub path: PathBuf,
    /// We, as the record says.
    pub holder: Holder,
    /// Set if a run before this one never released the lock.
    pub taken_over: Option<TakenOver>,
    /// What that run had written.
    left: Vec<u8>,
}

impl<F> Held<F> {
    /// Whether this is the lock's file.
    pub(crate) fn is_file(&self, id: FileId) -> bool {
        self.id == id
    }

    /// The number by which a child can inherit the file. The kernel lock lives as long as the last that has it.
    pub fn descriptor<S: System<File = F>>(&self, system: &S) -> Option<i32> {
        system.descriptor(&self.file).filter(|_| system.is_open(&self.file, self.id))
    }
}

/// Whom a lock was taken over from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// Who left the lock behind, if the file said.
    pub holder: Option<Holder>,
    /// Why it was judged gone, as a sentence without its end.
    pub reason: String,
}

/// Whether a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// There is no lock file, or one that the last holder has marked as released.
    Free,
    /// Somebody holds the lock, or that cannot be ruled out.
    Held,
    /// There is a lock file, and its holder is gone.
    Stale,
}

/// What [`inspect`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockStatus {
    /// The lock file.
    pub path: PathBuf,
    /// Whether the lock is held.
    pub state: LockState,
    /// Who holds it or left it behind, if the file says.
    pub holder: Option<Holder>,
    /// One sentence for a person.
    pub reason: String,
}

/// How one attempt ended.
enum Attempt<T> {
    Done(T),
    Refused(Refusal),
    Again(Again),
}

struct Refusal {
    holder: Option<Holder>,
    /// What the holder alone does not tell.
    reason: Option<String>,
}

/// Why an attempt proved nothing and is to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// The path named the file no more: its owner let go in between.
    Vanished,
    /// The file is empty and young: its creator is about to lock it.
    BeingBorn,
    /// The kernel lock was held in shared mode, by somebody who only looked.
    LookedAt,
    /// The kernel lock is held, and the record does not yet say by whom: a take-over in its middle.
    Unsigned,
    /// The kernel lock is held, and the record names a process that cannot be asked for from here.
    OutOfSight,
    /// Another process has a lease on the file.
    Leased,
}

/// Bounds every repetition, so that each loop ends, and in the contention error.
#[derive(Default)]
struct Patience {
    vanished: u32,
    looked_at: u32,
    unsigned: u32,
    out_of_sight: u32,
    leased: u32,
    /// When the call first met a file in the moment of its creation, a shared kernel lock, and a lease.
    first_newborn: Option<Duration>,
    first_looked_at: Option<Duration>,
    newborn: EmptyFile,
    /// The file whose kernel lock was last found held without a record.
    locked: Option<FileId>,
    /// Whom the record named when the kernel lock was last found held.
    named: Option<Holder>,
    /// The same, if that process has ended.
    ended: Option<Holder>,
    /// When to pause no more, by the system's monotonic clock; `None`: each repetition has its own bound.
    until: Option<Duration>,
}

impl Patience {
    /// How long to wait before the next attempt; `None`: no more. The bounds are those of the whole call: whoever may
    /// create files in the directory can put one after the other at the path.
    fn next(&mut self, again: Again, now: Duration) -> Option<Duration> {
        let since = |first: &mut Option<Duration>| now.saturating_sub(*first.get_or_insert(now));
        let (count, limit, pause) = match again {
            Again::BeingBorn => {
                // The first such file has its own bound.
                let first = *self.first_newborn.get_or_insert(self.newborn.map_or(now, |(_, at)| at));
                let is_first = self.newborn.is_some_and(|(_, at)| at == first);
                let goes_on = is_first || now.saturating_sub(first) < BIRTH;
                return goes_on.then_some(Duration::from_millis(5));
            }
            Again::LookedAt if since(&mut self.first_looked_at) >= LOOKS_WITHIN => return None,
            Again::LookedAt => (&mut self.looked_at, 1000, 1),
            Again::Vanished => (&mut self.vanished, 200, 0),
            Again::Leased => (&mut self.leased, 20, 5),
            Again::Unsigned => (&mut self.unsigned, 20, 1),
            Again::OutOfSight => (&mut self.out_of_sight, 3, 1),
        };
        *count += 1;
        // Many in a row: somebody else's turns, so let them go on.
        let crowded = u64::from(*count / 20);
        (*count <= limit).then(|| Duration::from_millis(pause + crowded))
    }

    /// Whether the file may belong to a creator that has not locked it yet. Two clocks must agree that it is old: the
    /// file's, which a network's server may be ahead with a little, or ours since we first saw this file. One that is of
    /// a later time is not young: the clock was set back since.
    fn is_being_born<S: System>(&mut self, system: &S, stat: &Stat) -> bool {
        let age = system.wall_clock().abs_diff(stat.modified);
        if stat.size != 0 || u128::from(age) >= BIRTH.as_millis() {
            return false;
        }
        let now = system.monotonic();
        let first_seen = match self.newborn {
            Some((id, at)) if id == stat.id => at,
            _ => self.newborn.insert((stat.id, now)).1,
        };
        now.saturating_sub(first_seen) < BIRTH
    }

    /// Why a file that stays empty is not left to its creator until the end of [`BIRTH`]: its kernel lock is held.
    fn unsigned_newborn<S: System>(&self, system: &S, target: &Target) -> Option<String> {
        let (id, first_seen) = self.newborn?;
        let is_late = system.monotonic().saturating_sub(first_seen) >= SIGNS_WITHIN;
        is_late.then(|| lock_owner(system, target, id)).flatten().map(|owner| without_record(Some(owner)))
    }

    /// Why a kernel lock that no live process has signed for keeps us out.
    fn unsigned<S: System>(&mut self, system: &S, target: &Target) -> Error {
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
    fn give_up<S: System>(&mut self, system: &S, target: &Target, again: Again) -> Error {
        let reason = match again {
            Again::OutOfSight => return target.contention(self.named.take(), None),
            Again::Unsigned => return self.unsigned(system, target),
            Again::BeingBorn => BEING_BORN,
            Again::LookedAt => SHARED_LOCK,
            Again::Leased => "another process has a lease on the file",
            Again::Vanished => "another process is acquiring it",
        };
        target.contention(None, Some(reason.to_owned()))
    }

    /// Repeats `attempt` until it is done or refused.
    fn repeat<S: System, T>(
        system: &S,
        target: &Target,
        attempt: impl FnMut(&mut Self) -> Result<Attempt<T>, Error>,
    ) -> Result<T, Error> {
        Self::default().repeated(system, target, attempt)
    }

    fn repeated<S: System, T>(
        &mut self,
        system: &S,
        target: &Target,
        mut attempt: impl FnMut(&mut Self) -> Result<Attempt<T>, Error>,
    ) -> Result<T, Error> {
        let patience = self;
        loop {
            let again = match attempt(patience)? {
                Attempt::Done(done) => return Ok(done),
                Attempt::Refused(Refusal { holder, reason }) => return Err(target.contention(holder, reason)),
                Attempt::Again(again) => again,
            };
            if again == Again::BeingBorn
                && let Some(reason) = patience.unsigned_newborn(system, target)
            {
                return Err(target.contention(None, Some(reason)));
            }
            let pause = patience.next(again, system.monotonic());
            if pause == Some(Duration::ZERO) {
                continue;
            }
            let has_time = patience.until.is_none_or(|until| system.monotonic() < until);
            match pause.filter(|_| has_time) {
                Some(pause) => system.pause(pause),
                None => return Err(patience.give_up(system, target, again)),
            }
        }
    }
}

/// Whether an attempt was refused because the creator of the file may be about to lock it.
pub(crate) fn is_creation_grace(error: &Error) -> bool {
    matches!(error, Error::Contention { reason: Some(reason), .. } if reason == BEING_BORN)
}

/// Acquires the lock for `thread` of this process, or says who has it. Never waits for a holder.
///
/// # Errors
/// [`Error::Contention`] if it is held; [`Error::Symlink`], [`Error::NotAFile`], [`Error::Stale`] and
/// [`Error::System`] as they say.
pub fn acquire<S: System>(system: &S, target: &Target, thread: u32) -> Result<Held<S::File>, Error> {
    acquire_until(system, target, thread, None, &mut None)
}

/// An empty file, and when it was first seen by [`System::monotonic`].
pub type EmptyFile = Option<(FileId, Duration)>;

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
    let mut patience = Patience { until, newborn: *empty_file, ..Patience::default() };
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

/// The kernel lock is busy: is that an owner?
fn contended<S: System, T>(
    system: &S,
    target: &Target,
    patience: &mut Patience,
    file: &S::File,
    stat: &Stat,
) -> Result<Attempt<T>, Error> {
    // An inspector holds the lock in shared mode, for microseconds; beside it a shared lock succeeds.
    if system.try_lock(file, LockMode::Shared).map_err(target.system("flock"))? == Locking::Taken {
        return Ok(Attempt::Again(Again::LookedAt));
    }
    owned(system, target, patience, file, stat, |record| system.process_exists(record.pid))
}

/// Somebody has the exclusive kernel lock: an owner, one that is about to sign, or one that breaks the lock.
fn owned<S: System, T>(
    system: &S,
    target: &Target,
    patience: &mut Patience,
    file: &S::File,
    stat: &Stat,
    runs: impl FnOnce(&Record) -> bool,
) -> Result<Attempt<T>, Error> {
    (patience.locked, patience.ended) = (Some(stat.id), None);
    let Content::Record(record) = read(system, target, file, stat)? else {
        return Ok(Attempt::Again(Again::Unsigned));
    };
    // Whoever takes over a copy has not signed it yet: the record speaks of the original.
    if record.is_copy(stat.id) && system.fs_kind(file) == FsKind::Local {
        return Ok(Attempt::Again(Again::Unsigned));
    }
    let holder = Some(record.holder(stat.modified));
    if is_elsewhere(system, &record) {
        patience.named = holder;
        return Ok(Attempt::Again(Again::OutOfSight));
    }
    Ok(if runs(&record) {
        Attempt::Refused(Refusal { holder, reason: None })
    } else {
        // Windows has no such inheritance, and the older lock no kernel lock.
        patience.ended = holder.filter(|_| cfg!(not(windows)) && record.v.is_some());
        Attempt::Again(Again::Unsigned)
    })
}

/// Whether a record's process runs, and is not a zombie or another that has its pid.
pub(crate) fn is_running<S: System>(system: &S, record: &Record) -> bool {
    let ProcessState::Alive { start } = system.process(record.pid) else { return false };
    start.is_none() || record.start_time.is_none_or(|recorded| Some(recorded) == start)
}

/// Whether the record's pid means nothing here: it is of another pid namespace, or of another kernel.
pub(crate) fn is_elsewhere<S: System>(system: &S, record: &Record) -> bool {
    let here = system.here();
    record.boot_id.is_some() && (record.boot_id != here.boot || record.pid_ns != here.pid_namespace)
}

/// What is known of a kernel lock whose owner has ended: as with every lock of `flock(2)`, children inherit it.
fn inherited(pid: u32) -> String {
    format!("process {pid} ended, but its command, or another process that inherited its lock, still runs")
}

/// The process that holds the kernel lock of a file that we have closed. If the path names the file no more, its number may
/// be that of another file by now.
fn lock_owner<S: System>(system: &S, target: &Target, id: FileId) -> Option<u32> {
    let owner = system.lock_owner(id)?;
    matches!(named(system, target, id), Ok(Some(_))).then_some(owner)
}

/// What is known of a kernel lock whose owner no record names.
fn without_record(owner: Option<u32>) -> String {
    let owner = owner.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    format!(
        "{owner} holds the kernel lock without a record: a program other than reconcile-lock, \
         or an acquire that has just begun"
    )
}

/// Who holds the lock, since when and where, as a sentence without its end.
fn describe(holder: &Holder) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(holder.created_at.min(MAX_TIME)));
    let since = at.map(|at| format!(" since {}", humantime::format_rfc3339_millis(at)));
    let host = holder.host.as_ref().map(|host| format!(" on {host}"));
    format!("process {}{} holds it{}", holder.pid, host.unwrap_or_default(), since.unwrap_or_default())
}

/// The end of the year 9999, the last that RFC 3339 can write.
const MAX_TIME: u64 = 253_402_300_799_999;

/// Opens what exists, and makes sure that it is a file that a lock may use.
fn open<S: System>(
    system: &S,
    target: &Target,
    access: Access,
    patience: &mut Patience,
) -> Result<Attempt<(S::File, Stat)>, Error> {
    let path = &target.path;
    let file = match system.open(path, access) {
        Ok(Opened::File(file)) => file,
        Ok(Opened::Missing) => return Ok(Attempt::Again(Again::Vanished)),
        Ok(Opened::Leased) => return Ok(Attempt::Again(Again::Leased)),
        Ok(Opened::NotAFile(FileKind::Symlink)) => return Err(Error::Symlink { path: path.clone() }),
        Ok(Opened::NotAFile(kind)) => return Err(not_a_file(target, kind)),
        Err(error) => {
            // A umask can make a newborn file unreadable until its creator has mended that.
            return match system.stat_path(path) {
                Ok(Some(stat)) if stat.kind == FileKind::File && patience.is_being_born(system, &stat) => {
                    Ok(Attempt::Again(Again::BeingBorn))
                }
                _ => Err(target.system("open")(error)),
            };
        }
    };
    let stat = system.stat(&file).map_err(target.system("fstat"))?;
    match (stat.kind, stat.links) {
        (FileKind::File, 0) => {
            // `unlink(2)` takes the link away a moment before the name; a mount point keeps its name.
            if system.is_mount_point(path) {
                return Err(not_a_file(target, FileKind::Unlinked));
            }
            return Ok(Attempt::Again(Again::Vanished));
        }
        (FileKind::File, 1) => {}
        (FileKind::File, _) => {
            let content = read(system, target, &file, &stat)?;
            if !matches!(content, Content::Record(_) | Content::Released) {
                return Err(not_a_file(target, FileKind::HardLink));
            }
        }
        (kind, _) => return Err(not_a_file(target, kind)),
    }
    if system.is_planted(path, stat.owner) {
        return Err(not_a_file(target, FileKind::Planted));
    }
    Ok(Attempt::Done((file, stat)))
}

fn not_a_file(target: &Target, kind: FileKind) -> Error {
    Error::NotAFile { path: target.path.clone(), kind }
}

/// What the path names, if that is the file `id`.
fn named<S: System>(system: &S, target: &Target, id: FileId) -> Result<Option<Stat>, Error> {
    let stat = system.stat_path(&target.path).map_err(target.system("lstat"))?;
    Ok(stat.filter(|stat| stat.id == id))
}

/// Reads the file. Content that no lock leaves behind is refused, except under the name of the legacy lock, which took
/// any file for its own.
fn read<S: System>(system: &S, target: &Target, file: &S::File, stat: &Stat) -> Result<Content, Error> {
    read_bytes(system, target, file, stat).map(|(content, _)| content)
}

fn read_bytes<S: System>(
    system: &S,
    target: &Target,
    file: &S::File,
    stat: &Stat,
) -> Result<(Content, Vec<u8>), Error> {
    let mut buffer = vec![0; RECORD_LEN];
    let length = system.read(file, &mut buffer).map_err(target.system("read"))?;
    buffer.truncate(length);
    let content = Content::of(&buffer);
    let is_foreign = content == Content::Foreign || stat.size > RECORD_LEN as u64;
    if is_foreign && !target.has_default_name() {
        return Err(not_a_file(target, FileKind::NotALock));
    }
    Ok((content, buffer))
}

/// What a file says, and what that comes to.
struct Examined {
    verdict: Verdict,
    record: Option<Record>,
    bytes: Vec<u8>,
}

/// Reads and judges a file whose kernel lock we hold, or whose filesystem has none. `None`: it vanished.
fn examine<S: System>(
    system: &S,
    target: &Target,
    patience: &mut Patience,
    file: &S::File,
    stat: &Stat,
    (fs, kernel_locks): (FsKind, bool),
) -> Result<Option<Examined>, Error> {
    let (content, bytes) = read_bytes(system, target, file, stat)?;
    let released = content == Content::Released;
    let record = if let Content::Record(record) = content { Some(record) } else { None };
    let verdict = judge(&Evidence {
        record: record.as_ref(),
        file: stat.id,
        released,
        empty: stat.size == 0,
        young: patience.is_being_born(system, stat),
        process: record.as_ref().map_or(ProcessState::Dead, |record| author(system, record, stat.id)),
        here: system.here(),
        fs,
        kernel_locks,
    });
    // Without its kernel lock, its holder may have released it, and ended, since we opened it.
    if !kernel_locks && matches!(verdict, Verdict::Stale(_)) && named(system, target, stat.id)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Examined { verdict, record, bytes }))
}

/// What has become of the process that wrote a record.
fn author<S: System>(system: &S, record: &Record, file: FileId) -> ProcessState {
    let (state, here) = (system.process(record.pid), system.here());
    let is_this_process =
        record.pid == here.pid && record.start_time.is_some() && record.start_time == here.start;
    if is_this_process && !system.holds(file) { ProcessState::Replaced } else { state }
}

/// Releases a lock. Whatever happens, this process owns it no more afterwards. Where the system does not let us remove
/// the file, its content says that the lock is free.
///
/// # Errors
/// [`Error::Lost`] if the path names our file no more: it is left alone. [`Error::System`] if the file
/// can be neither removed nor written: its record is cut away, so that the next run takes it over.
pub fn release<S: System>(system: &S, held: Held<S::File>) -> Result<(), Error> {
    let Held { file, id, path, .. } = held;
    if !system.is_open(&file, id) {
        // Closing it would close what somebody else has opened since.
        mem::forget(file);
        return Err(Error::Lost { path, reason: "because another part of this program closed its file" });
    }
    let failed = match system.unlink(&path, id) {
        Ok(Unlinked::Removed) => return Ok(()),
        Ok(Unlinked::Missing) => {
            return Err(Error::Lost { path, reason: "because the path names no file now" });
        }
        Ok(Unlinked::Another) => {
            return Err(Error::Lost { path, reason: "because the path names another file now" });
        }
        Err(failed) => failed,
    };
    if stays(&failed) && overwrite(system, &file, &RELEASED) {
        system.unlock(&file);
        return Ok(());
    }
    let _ = cut(system, &file);
    system.unlock(&file);
    Err(system_error(failed.syscall, &path)(failed.source))
}

/// Whether the system does not let us remove the file at all: it is a mount point (`EBUSY`), somebody else's in a
/// directory with the sticky bit (`EPERM`), or in a directory that we may not write (`EACCES`).
fn stays(failed: &Failed) -> bool {
    failed.syscall == "unlink"
        && matches!(failed.source.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::PermissionDenied)
}

/// Replaces the content of our file, unless it has got another name: that may be part of a snapshot.
fn overwrite<S: System>(system: &S, file: &S::File, content: &[u8]) -> bool {
    let is_ours_alone = system.stat(file).is_ok_and(|stat| stat.links <= 1);
    // First cut, so that what a crash leaves in between is the beginning of one record.
    let is_cut = || content.len() >= RECORD_LEN || system.truncate(file, content.len() as u64).is_ok();
    is_ours_alone && is_cut() && system.write(file, content).is_ok()
}

/// Cuts the record of our file away, unless it has got another name.
fn cut<S: System>(system: &S, file: &S::File) -> io::Result<()> {
    if system.stat(file)?.links > 1 {
        return Ok(());
    }
    system.truncate(file, NO_RECORD)
}

/// Gives back a lock that nobody has used. What a dead run had left is put back: the next one is to learn of it.
///
/// # Errors
/// As [`release`], of a lock that was not taken over.
pub fn abandon<S: System>(system: &S, held: Held<S::File>) -> Result<(), Error> {
    if held.taken_over.is_none() {
        return release(system, held);
    }
    if !system.is_open(&held.file, held.id) {
        mem::forget(held.file);
        return Ok(());
    }
    // An empty file looks like a birth.
    let put_back = !held.left.is_empty() && overwrite(system, &held.file, &held.left);
    if !put_back {
        let _ = cut(system, &held.file);
    }
    Ok(())
}

/// Whether the file of a lock that this process owns is open, and named by the path.
pub fn is_held<S: System>(system: &S, held: &Held<S::File>) -> bool {
    system.is_open(&held.file, held.id)
        && system.stat_path(&held.path).is_ok_and(|named| named.is_some_and(|named| named.id == held.id))
}

/// Says whether the lock is held, and by whom, without disturbing anybody or changing a byte.
///
/// # Errors
/// [`Error::Symlink`], [`Error::NotAFile`] and [`Error::System`] as they say.
pub fn inspect<S: System>(system: &S, target: &Target) -> Result<LockStatus, Error> {
    let status = |state, holder, reason| LockStatus { path: target.path.clone(), state, holder, reason };
    let nobody = || status(LockState::Free, None, "no lock file is there: nobody holds the lock".to_owned());
    let looked = Patience::repeat(system, target, |patience| {
        let (file, stat) = match open(system, target, Access::Read, patience)? {
            Attempt::Done(opened) => opened,
            Attempt::Again(Again::Vanished) => return Ok(Attempt::Done(nobody())),
            Attempt::Again(again) => return Ok(Attempt::Again(again)),
            Attempt::Refused(refusal) => return Ok(Attempt::Refused(refusal)),
        };
        look(system, target, patience, &file, &stat)
    });
    match looked {
        Err(Error::Contention { holder, reason, .. }) => {
            let reason = reason.or_else(|| holder.as_ref().map(describe));
            Ok(status(LockState::Held, holder, reason.unwrap_or_else(|| "somebody holds it".to_owned())))
        }
        Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(nobody()),
        other => other,
    }
}

fn look<S: System>(
    system: &S,
    target: &Target,
    patience: &mut Patience,
    file: &S::File,
    stat: &Stat,
) -> Result<Attempt<LockStatus>, Error> {
    if patience.is_being_born(system, stat) {
        let owner = system.lock_owner(stat.id);
        let reason = Some(owner.map_or_else(|| BEING_BORN.to_owned(), |pid| without_record(Some(pid))));
        return Ok(Attempt::Refused(Refusal { holder: None, reason }));
    }
    let fs = system.fs_kind(file);
    // A record that names a live process settles it without the kernel lock, which an acquirer may want.
    let examined = examine(system, target, patience, file, stat, (fs, true))?;
    if let Some(Examined { verdict: Verdict::Held(_), record: Some(found), .. }) = examined {
        let holder = found.holder(stat.modified);
        let again = read(system, target, file, stat)?;
        if let Content::Record(record) = again
            && !is_elsewhere(system, &record)
            && system.process_exists(record.pid)
        {
            return Ok(Attempt::Refused(Refusal { holder: Some(holder), reason: None }));
        }
    }
    let kernel_locks = match system.try_lock(file, LockMode::Shared).map_err(target.system("flock"))? {
        Locking::Taken => true,
        Locking::Busy => {
            return owned(system, target, patience, file, stat, |record| is_running(system, record));
        }
        Locking::Unsupported => false,
    };
    let Some(named) = named(system, target, stat.id)? else {
        return Ok(Attempt::Again(Again::Vanished));
    };
    let examined = examine(system, target, patience, file, &named, (fs, kernel_locks))?;
    let Some(Examined { verdict, record, .. }) = examined else {
        return Ok(Attempt::Again(Again::Vanished));
    };
    let holder = record.map(|record| record.holder(named.modified));
    let (state, reason) = match verdict {
        Verdict::BeingBorn => (LockState::Held, BEING_BORN.to_owned()),
        Verdict::Free => {
            let reason =
                "the last holder released the lock, and could not remove its file: nobody holds the lock";
            (LockState::Free, reason.to_owned())
        }
        Verdict::Held(reason) => (LockState::Held, reason),
        Verdict::Stale(reason) => (LockState::Stale, reason),
    };
    Ok(Attempt::Done(LockStatus { path: target.path.clone(), state, holder, reason }))
}

/// Removes a stale lock; with `force` a held one too, whose holder then learns that it lost the lock.
/// `false`: nothing was there.
///
/// With `force` there is no protection against a lock that changes hands between the look and the removal.
///
/// # Errors
/// [`Error::Contention`] if it is held and not forced; otherwise as [`acquire`].
pub fn break_lock<S: System>(system: &S, target: &Target, force: bool) -> Result<bool, Error> {
    Patience::repeat(system, target, |patience| {
        if force { remove(system, target) } else { break_stale(system, target, patience) }
    })
}

fn break_stale<S: System>(
    system: &S,
    target: &Target,
    patience: &mut Patience,
) -> Result<Attempt<bool>, Error> {
    let (file, stat) = match open(system, target, Access::ReadWrite, patience)? {
        Attempt::Done(opened) => opened,
        Attempt::Again(Again::Vanished) => return Ok(Attempt::Done(false)),
        Attempt::Again(again) => return Ok(Attempt::Again(again)),
        Attempt::Refused(refusal) => return Ok(Attempt::Refused(refusal)),
    };
    if patience.is_being_born(system, &stat) {
        return Ok(Attempt::Again(Again::BeingBorn));
    }
    let kernel_locks = match system.try_lock(&file, LockMode::Exclusive).map_err(target.system("flock"))? {
        Locking::Taken => true,
        Locking::Busy => return contended(system, target, patience, &file, &stat),
        Locking::Unsupported => false,
    };
    let Some(named) = named(system, target, stat.id)? else {
        return Ok(Attempt::Again(Again::Vanished));
    };
    let fs = system.fs_kind(&file);
    let examined = examine(system, target, patience, &file, &named, (fs, kernel_locks))?;
    let Some(Examined { verdict, record, .. }) = examined else {
        return Ok(Attempt::Again(Again::Vanished));
    };
    let refused = match verdict {
        Verdict::BeingBorn => return Ok(Attempt::Again(Again::BeingBorn)),
        Verdict::Held(reason) => {
            let holder = record.map(|record| record.holder(named.modified));
            Some(Refusal { holder, reason: Some(reason) })
        }
        Verdict::Free => return Ok(Attempt::Done(false)),
        Verdict::Stale(_) => None,
    };
    if let Some(refusal) = refused {
        return Ok(Attempt::Refused(refusal));
    }
    match system.unlink(&target.path, stat.id) {
        Ok(unlinked) => Ok(after(unlinked)),
        Err(failed) if stays(&failed) && overwrite(system, &file, &RELEASED) => Ok(Attempt::Done(true)),
        Err(failed) => Err(target.failed(failed)),
    }
}

fn after(unlinked: Unlinked) -> Attempt<bool> {
    match unlinked {
        Unlinked::Removed => Attempt::Done(true),
        Unlinked::Missing => Attempt::Done(false),
        Unlinked::Another => Attempt::Again(Again::Vanished),
    }
}

/// Removes the file whatever holds it. It needs no more permission than `unlink(2)`.
fn remove<S: System>(system: &S, target: &Target) -> Result<Attempt<bool>, Error> {
    let path = &target.path;
    let Some(stat) = system.stat_path(path).map_err(target.system("lstat"))? else {
        return Ok(Attempt::Done(false));
    };
    match stat.kind {
        FileKind::File => {}
        FileKind::Symlink => return Err(Error::Symlink { path: path.clone() }),
        kind => return Err(not_a_file(target, kind)),
    }
    if stat.links > 1
        && let Ok(Opened::File(file)) = system.open(path, Access::Read)
        && !matches!(read(system, target, &file, &stat)?, Content::Record(_) | Content::Released)
    {
        return Err(not_a_file(target, FileKind::HardLink));
    }
    system.unlink(path, stat.id).map(after).map_err(|failed| target.failed(failed))
}
