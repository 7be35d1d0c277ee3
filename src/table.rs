//! The locks that this process holds. The table owns them, not the handles that programs have:
//! a lost handle must not release.
#![forbid(unsafe_code)]

#[cfg(any(feature = "node", test))]
mod release_all;

use std::hash::BuildHasher;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
#[cfg(any(feature = "node", test))]
use std::time::{Duration, Instant};

#[cfg(any(feature = "node", test))]
pub(crate) use self::release_all::release_all;
use crate::map::{HASHER, Map, PathHasher};
use crate::platform::{FileId, HeldFiles, Os, System};
#[cfg(any(feature = "node", test))]
use crate::protocol::TakenOver;
use crate::protocol::error::Error;
use crate::protocol::target::readers_of;
use crate::protocol::{self, Held};

/// The id of one held lock in this process. Ids are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LockId(u64);

#[cfg(any(feature = "node", test))]
impl LockId {
    /// For JavaScript, whose numbers are exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "at a million locks a second, 285 years")]
    pub(crate) fn to_number(self) -> f64 {
        self.0 as f64
    }

    /// The id of a number from [`LockId::to_number`]; another number names no lock.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "only our own numbers come back"
    )]
    pub(crate) fn from_number(number: f64) -> Self {
        Self(number as u64)
    }
}

/// The owner of a lock in this process: one Node.js environment, or the Rust program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(u64);

impl Owner {
    /// The Rust program itself, which is there as long as the process.
    pub(crate) const PROGRAM: Self = Self(0);
}

struct Entry {
    owner: Owner,
    held: Held<<Os as System>::File>,
    /// Whether the program has got the lock.
    delivered: bool,
    /// Whether a synchronous call of the owner may take it, before it is delivered: an asynchronous call acquired it.
    #[cfg_attr(
        not(any(feature = "node", test)),
        expect(dead_code, reason = "only JavaScript has such calls")
    )]
    claimable: bool,
    /// The thread that acquired it, for [`Owner::PROGRAM`].
    thread: ThreadId,
    /// The next lock in the list of [`Table::by_path`].
    next: Option<LockId>,
}

impl Entry {
    /// Whether a synchronous call of the owner may take it.
    #[cfg(any(feature = "node", test))]
    fn is_claimable(&self, owner: Owner) -> bool {
        self.owner == owner && !self.delivered && self.claimable
    }

    fn end(self) -> Result<(), Error> {
        let end = if self.delivered { protocol::release } else { protocol::rollback };
        end(Os::get(), self.held)
    }
}

#[derive(Default)]
struct Table {
    last: u64,
    /// The owner of each environment that has not ended.
    open: Vec<Owner>,
    /// Boxed, because a map has room for up to twice as many.
    entries: Map<LockId, Box<Entry>>,
    /// The first lock of the list for each hash of a path: readers of one lock have one path.
    by_path: Map<u64, LockId>,
    /// How many locks hold each file: the readers of one lock share theirs.
    by_file: Map<FileId, usize>,
    /// The owner of each pending attempt and each pending release.
    pending: Vec<Owner>,
    /// How many exits wait for those.
    exits: usize,
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    last: 0,
    open: Vec::new(),
    entries: Map::with_hasher(HASHER),
    by_path: Map::with_hasher(HASHER),
    by_file: Map::with_hasher(HASHER),
    pending: Vec::new(),
    exits: 0,
});

/// An attempt or a release is over.
static SETTLED: Condvar = Condvar::new();

/// How long an exit waits for pending attempts and releases: a disk may hang.
#[cfg(any(feature = "node", test))]
const EXIT_GRACE: Duration = Duration::from_millis(25);

fn table() -> MutexGuard<'static, Table> {
    // No code that runs under this mutex can panic half-way through a change.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn insert(&mut self, mut entry: Entry) -> LockId {
        let id = LockId(self.next());
        entry.next = self.by_path.insert(hash_of(&entry.held.path), id);
        *self.by_file.entry(entry.held.file_id()).or_default() += 1;
        self.entries.insert(id, Box::new(entry));
        id
    }

    fn remove(&mut self, id: LockId) -> Option<Entry> {
        let entry = *self.entries.remove(&id)?;
        self.forget_file(entry.held.file_id());
        let hash = hash_of(&entry.held.path);
        let mut before = self.by_path.get(&hash).copied();
        if before == Some(id) {
            match entry.next {
                Some(next) => self.by_path.insert(hash, next),
                None => self.by_path.remove(&hash),
            };
            return Some(entry);
        }
        while let Some(other) = before.and_then(|id| self.entries.get_mut(&id)) {
            if other.next == Some(id) {
                other.next = entry.next;
                break;
            }
            before = other.next;
        }
        Some(entry)
    }

    fn forget_file(&mut self, file: FileId) {
        if let Some(count) = self.by_file.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                self.by_file.remove(&file);
            }
        }
    }

    /// The locks at this path, the last one first.
    fn at(&self, path: &Path) -> impl Iterator<Item = (LockId, &Entry)> {
        let first = self.by_path.get(&hash_of(path)).copied();
        let named = move |id: Option<LockId>| id.and_then(|id| Some((id, &**self.entries.get(&id)?)));
        iter::successors(named(first), move |(_, entry)| named(entry.next))
            .filter(move |(_, entry)| entry.held.path == path)
    }
}

fn hash_of(path: &Path) -> u64 {
    PathHasher::new().hash_one(path.as_os_str())
}

/// A new owner, for one Node.js environment.
#[cfg(any(feature = "node", test))]
pub(crate) fn open_owner() -> Owner {
    let mut table = table();
    let owner = Owner(table.next());
    table.open.push(owner);
    owner
}

/// The owner, for one environment more.
#[cfg(any(feature = "node", test))]
pub(crate) fn share_owner(owner: Owner) -> Owner {
    table().open.push(owner);
    owner
}

/// Removes an environment of an owner. Returns whether others remain.
#[cfg(any(feature = "node", test))]
pub(crate) fn unshare_owner(owner: Owner) -> bool {
    let open = &mut table().open;
    if let Some(index) = open.iter().position(|other| *other == owner) {
        open.swap_remove(index);
    }
    open.contains(&owner)
}

/// Adds a lock that is not delivered yet. If its owner has ended, the lock is rolled back.
pub(crate) fn add(owner: Owner, held: Held<<Os as System>::File>, claimable: bool) -> Option<LockId> {
    let mut table = table();
    if owner != Owner::PROGRAM && !table.open.contains(&owner) {
        drop(table);
        let _ = protocol::rollback(Os::get(), held);
        return None;
    }
    let thread = thread::current().id();
    Some(table.insert(Entry { owner, held, delivered: false, claimable, thread, next: None }))
}

/// Sets whether the program has got the lock: otherwise the lock is rolled back instead of released. `false`: there is
/// no such lock.
pub(crate) fn set_delivered(id: LockId, delivered: bool) -> bool {
    table().entries.get_mut(&id).map(|entry| entry.delivered = delivered).is_some()
}

/// Gives a new id to a lock that was acquired for `owner` and not delivered yet. The call that acquired it does not
/// find it any more. `other` is one that [`find_claimable`] has found.
#[cfg(any(feature = "node", test))]
pub(crate) fn claim(
    owner: Owner,
    path: &Path,
    other: Option<LockId>,
) -> Option<(LockId, u64, Option<TakenOver>, bool)> {
    let mut table = table();
    // By name alone: a disk that hangs would delay the caller.
    let named = table.at(path).find(|(_, entry)| entry.is_claimable(owner)).map(|(id, _)| id);
    let is_it = |id: &LockId| table.entries.get(id).is_some_and(|entry| entry.is_claimable(owner));
    let id = named.or(other.filter(is_it))?;
    let mut entry = table.remove(id)?;
    // From now on it is held under the name that its new call has given.
    path.clone_into(&mut entry.held.path);
    let (created_at, taken_over) = (entry.held.holder.created_at, entry.held.taken_over.clone());
    let shared = entry.held.is_shared();
    Some((table.insert(entry), created_at, taken_over, shared))
}

/// Whether `owner` has a lock to claim under any name.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn has_claimable(owner: Owner) -> bool {
    table().entries.values().any(|entry| entry.is_claimable(owner))
}

/// The lock to [`claim`] at this path, under this name or under another name of the same file.
#[cfg(any(feature = "node", test))]
pub(crate) fn find_claimable(owner: Owner, path: &Path) -> Option<LockId> {
    find_where(path, &|entry| entry.is_claimable(owner))
}

/// Whether the caller, if it waits for the lock of this path on this thread, waits for itself. It does not if its lock is
/// lost: then another process holds the one at the path.
pub(crate) fn is_deadlock(owner: Owner, path: &Path) -> bool {
    let thread = thread::current().id();
    let is_own = |entry: &Entry| {
        entry.owner == owner && entry.delivered && (owner != Owner::PROGRAM || entry.thread == thread)
    };
    find_by_file(path, &is_own).is_some()
}

/// An attempt to acquire, from its start until its lock is in the table or rolled back; or a release.
pub(crate) struct PendingWork(Owner);

impl PendingWork {
    pub(crate) fn begin(owner: Owner) -> Self {
        table().pending.push(owner);
        Self(owner)
    }
}

impl Drop for PendingWork {
    fn drop(&mut self) {
        let mut table = table();
        if let Some(index) = table.pending.iter().position(|owner| *owner == self.0) {
            table.pending.swap_remove(index);
        }
        // To notify is a system call, even if no thread waits.
        if table.exits > 0 {
            SETTLED.notify_all();
        }
    }
}

/// Waits until no attempt and no release of an owner is pending, but not for long: an attempt that is cut off by the
/// end of the process leaves an empty file, which delays the next process by two seconds, and a release leaves a lock
/// to take over.
#[cfg(any(feature = "node", test))]
pub(crate) fn await_pending(owner: Owner) {
    let end = Instant::now() + EXIT_GRACE;
    let mut table = table();
    table.exits += 1;
    while table.pending.contains(&owner) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        table = SETTLED.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    table.exits -= 1;
}

/// Releases a lock. `None`: it was released before.
pub(crate) fn release(id: LockId) -> Option<Result<(), Error>> {
    let mut table = table();
    let entry = table.remove(id)?;
    table.pending.push(entry.owner);
    drop(table);
    let _pending = PendingWork(entry.owner);
    Some(entry.end())
}

/// The lock that `owner` holds at this path, under this name or under another name of the same file. It is not one that
/// a call has acquired and not returned yet.
pub(crate) fn find(owner: Owner, path: &Path) -> Option<LockId> {
    find_where(path, &|entry| entry.owner == owner && entry.delivered)
}

fn find_where(path: &Path, is_it: &dyn Fn(&Entry) -> bool) -> Option<LockId> {
    find_named(path, is_it).or_else(|| find_by_file(path, is_it))
}

/// The lock whose file this path names, under any name.
fn find_by_file(path: &Path, is_it: &dyn Fn(&Entry) -> bool) -> Option<LockId> {
    // The disk, which may hang, is read only if there is such a lock.
    let last = {
        let table = table();
        table.entries.values().any(|entry| is_it(entry)).then_some(table.last)?
    };
    let named = |path: &Path| Os::get().stat_path(path).ok().flatten().map(|stat| stat.id);
    // A reader holds the file beside the path.
    let (file, readers) = (named(path), named(&readers_of(path)));
    let table = table();
    let is_named = |held: &Held<_>| Some(held.file_id()) == if held.is_shared() { readers } else { file };
    // The file of a later lock may have the number of one that was removed meanwhile.
    let is_same = |id: LockId, entry: &Entry| id.0 <= last && is_it(entry) && is_named(&entry.held);
    table.entries.iter().find(|(id, entry)| is_same(**id, entry)).map(|(id, _)| *id)
}

/// As [`find`], but only under this name: it reads no disk, which may hang.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn find_at(owner: Owner, path: &Path) -> Option<LockId> {
    find_named(path, |entry| entry.owner == owner && entry.delivered)
}

fn find_named(path: &Path, is_it: impl Fn(&Entry) -> bool) -> Option<LockId> {
    table().at(path).find(|(_, entry)| is_it(entry)).map(|(id, _)| id)
}

impl HeldFiles for Os {
    fn holds(&self, id: FileId) -> bool {
        table().by_file.contains_key(&id)
    }
}

/// Whether the lock is held, the path still names its file, and the file is open.
pub(crate) fn is_held(id: LockId) -> bool {
    // Not under the mutex: the disk may hang.
    location(id).is_some_and(|(path, file)| {
        Os::get().stat_path(&path).is_ok_and(|named| named.is_some_and(|named| named.id == file))
    }) && is_open(id) == Some(true)
}

/// The path of a held lock, and the file that it should name.
pub(crate) fn location(id: LockId) -> Option<(PathBuf, FileId)> {
    table().entries.get(&id).map(|entry| (entry.held.file_path().into_owned(), entry.held.file_id()))
}

/// Whether the descriptor of a held lock is still that of its file. `None`: the lock was released.
pub(crate) fn is_open(id: LockId) -> Option<bool> {
    let (number, file) = descriptor_and_file(id)?;
    // Not under the mutex: a network filesystem may hang.
    let is_open = number.is_none_or(|number| Os::get().is_open_number(number, file));
    // A lock that is released leaves the table before its descriptor is closed.
    table().entries.contains_key(&id).then_some(is_open)
}

/// The number by which a child can inherit a lock's file. `None`: the lock was released, or the system has none.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn descriptor(id: LockId) -> Option<i32> {
    descriptor_and_file(id)?.0.filter(|_| is_open(id) == Some(true))
}

fn descriptor_and_file(id: LockId) -> Option<(Option<i32>, FileId)> {
    table().entries.get(&id).map(|entry| (entry.held.descriptor(Os::get()), entry.held.file_id()))
}

/// Removes all locks of an owner, and returns them.
#[cfg(any(feature = "node", test))]
fn remove_all(owner: Owner) -> Vec<(LockId, Entry)> {
    let mut table = table();
    let ids: Vec<LockId> =
        table.entries.iter().filter(|(_, entry)| entry.owner == owner).map(|(id, _)| *id).collect();
    ids.iter().filter_map(|id| Some((*id, table.remove(*id)?))).collect()
}

/// Ends an owner: releases its locks, calls `cancel` to end its waits, and waits for its pending work.
#[cfg(any(feature = "node", test))]
pub(crate) fn close_owner(owner: Owner, cancel: impl FnOnce()) {
    table().open.retain(|open| *open != owner);
    release_all(owner);
    cancel();
    await_pending(owner);
}

#[cfg(test)]
mod tests;
