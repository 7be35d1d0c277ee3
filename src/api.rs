//! The functions that a Rust program calls; JavaScript has the same ones.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::platform::{Access, Opened, Os, ProcessDetails, ProcessState, System, describe_process};
use crate::protocol::error::Error;
use crate::protocol::holder::is_foreign;
use crate::protocol::options::LockOptions;
use crate::protocol::record::{Holder, RECORD_LEN, Record};
use crate::protocol::target::{Target, system_error};
use crate::protocol::{self, LockState, LockStatus, TakenOver};
use crate::table::{self, LockId, Owner};
use crate::wait;

/// The options of [`acquire_lock`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AcquireOptions {
    /// The lock.
    pub lock: LockOptions,
    /// The time to wait for a holder to release; zero does not wait, [`Duration::MAX`] waits forever.
    pub timeout: Duration,
}

impl From<LockOptions> for AcquireOptions {
    fn from(lock: LockOptions) -> Self {
        Self { lock, timeout: Duration::ZERO }
    }
}

/// The options of [`break_lock`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BreakOptions {
    /// The lock.
    pub lock: LockOptions,
    /// Remove the lock even if it is held; its holder then gets [`Error::Lost`].
    pub force: bool,
}

/// A lock that this process holds. Dropping it releases the lock; [`Lock::release`] also reports errors.
#[derive(Debug)]
pub struct Lock {
    id: LockId,
    path: PathBuf,
    holder: Holder,
    taken_over: Option<TakenOver>,
}

impl Lock {
    fn delivered(self) -> Self {
        table::set_delivered(self.id, true);
        self
    }

    /// The lock file, or that of the slot.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This process, as the record names it.
    #[must_use]
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Set if the lock was taken over: its previous holder did not release it, and may have ended half-way.
    #[must_use]
    pub fn taken_over(&self) -> Option<&TakenOver> {
        self.taken_over.as_ref()
    }

    /// Whether the lock is held, the path still names its file, and the file is open.
    #[must_use]
    pub fn is_held(&self) -> bool {
        table::is_held(self.id)
    }

    /// Calls `report` on another thread with [`Error::Lost`] if the lock is lost before it is released: its path names
    /// another file or none, or its descriptor was closed. On a local filesystem of Linux a change of the file takes a few
    /// milliseconds. A directory that was moved, a closed descriptor and other systems take up to 250 ms. The lock is
    /// watched from the first call on. After a release `report` is dropped, so the receiver of a channel gets the loss or
    /// the end of the channel.
    ///
    /// # Errors
    /// [`Error::System`] if no thread can be started.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// use std::sync::mpsc;
    /// use reconcile_lock::{LockOptions, acquire_lock};
    ///
    /// let lock = acquire_lock(&LockOptions::in_directory(directory.path()).into())?;
    /// let (report, loss) = mpsc::channel();
    /// lock.on_loss(move |error| drop(report.send(error)))?;
    /// # let mut payments = 0..3;
    /// while let Some(payment) = payments.next() {
    ///     if let Ok(error) = loss.try_recv() {
    ///         return Err(error.into());
    ///     }
    ///     // Post the payment.
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_loss(&self, report: impl FnOnce(Error) + Send + 'static) -> Result<(), Error> {
        let path = self.path.clone();
        let report = move |reason| report(Error::Lost { path, reason });
        wait::report_loss(self.id, Box::new(report)).map_err(system_error("pthread_create", &self.path))
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// [`Error::Lost`] as documented there; [`Error::System`] if the file can be neither removed nor marked as released.
    pub fn release(self) -> Result<(), Error> {
        table::release(self.id).unwrap_or(Ok(()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = table::release(self.id);
    }
}

/// Acquires the lock, or reports its holder. Not reentrant: a second call of the same process is refused too.
///
/// # Errors
/// [`Error::Contention`] if the lock is held for the whole `timeout`; [`Error::Deadlock`] if a call with a `timeout` would
/// wait for a lock that its own thread has acquired, also if another thread has that [`Lock`] now; [`Error::Symlink`],
/// [`Error::NotAFile`], [`Error::Stale`], [`Error::Unsupported`], [`Error::InvalidArgument`] and [`Error::System`] as
/// documented there.
///
/// # Examples
/// ```
/// # let directory = tempfile::tempdir()?;
/// use reconcile_lock::{Error, LockOptions, acquire_lock};
///
/// let options = LockOptions::in_directory(directory.path());
/// let lock = acquire_lock(&options.clone().into())?;
/// assert!(matches!(acquire_lock(&options.into()), Err(Error::Contention { .. })));
/// lock.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn acquire_lock(options: &AcquireOptions) -> Result<Lock, Error> {
    acquire(&options.lock.resolve_slots()?, options.timeout).map(Lock::delivered)
}

/// Acquires several locks within one `timeout`, or none. They are in the order of `locks`.
///
/// Two programs that acquire two locks one after the other, each in its own order, can wait for each other. This call
/// acquires in the order of the paths, as `withLock` of JavaScript does, so it waits for no call that waits for it. If a
/// lock is refused, the others are rolled back.
///
/// # Errors
/// As [`acquire_lock`], and [`Error::InvalidArgument`] if two of them have the same path.
///
/// # Examples
/// ```
/// # let directory = tempfile::tempdir()?;
/// use std::time::Duration;
/// use reconcile_lock::{LockOptions, acquire_locks};
///
/// let file = |name: &str| LockOptions { file: name.into(), ..LockOptions::in_directory(directory.path()) };
/// let locks = acquire_locks(&[file("ledger.lock"), file("bank.lock")], Duration::from_secs(10))?;
/// assert!(locks[0].path().ends_with("ledger.lock"));
/// drop(locks); // releases both
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn acquire_locks(locks: &[LockOptions], timeout: Duration) -> Result<Vec<Lock>, Error> {
    let started = Instant::now();
    let mut wanted = Vec::with_capacity(locks.len());
    for (index, options) in locks.iter().enumerate() {
        let slots = options.resolve_slots()?;
        wanted.push((real_path(&slots[0].path), index, slots));
    }
    wanted.sort_by_cached_key(|(path, ..)| (order_of(path), path.clone()));
    if let Some(twice) = wanted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let path = twice[0].2[0].path.display();
        return Err(Error::InvalidArgument(format!("The \"locks\" argument names one lock twice: {path}")));
    }
    let mut acquired = Vec::with_capacity(locks.len());
    for (_, index, slots) in wanted {
        // A call without any timeout would wait for the creator of an empty file.
        let least = timeout.min(Duration::from_millis(1));
        let left = timeout.saturating_sub(started.elapsed()).max(least);
        acquired.push((index, acquire(&slots, left)?));
    }
    acquired.sort_unstable_by_key(|(index, _)| *index);
    Ok(acquired.into_iter().map(|(_, lock)| lock.delivered()).collect())
}

/// The path in the real directory.
pub(crate) fn real_path(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(|directory| fs::canonicalize(directory).ok());
    directory
        .map_or_else(|| path.to_owned(), |directory| directory.join(path.file_name().unwrap_or_default()))
}

/// The key by which all programs sort locks, in the units by which JavaScript compares.
fn order_of(path: &Path) -> Vec<u16> {
    path.to_string_lossy().encode_utf16().collect()
}

/// Acquires one of the slots. Dropping the lock before it is delivered rolls it back.
fn acquire(slots: &[Target], timeout: Duration) -> Result<Lock, Error> {
    let held = wait::acquire(Owner::PROGRAM, slots, 0, timeout)?;
    let (path, holder, taken_over) = (held.path.clone(), held.holder.clone(), held.taken_over.clone());
    match table::add(Owner::PROGRAM, held, false) {
        Some(id) => Ok(Lock { id, path, holder, taken_over }),
        None => Err(Error::Lost { path, reason: "its owner has ended" }),
    }
}

/// Releases the lock if this program holds it, and does nothing otherwise.
///
/// # Errors
/// As [`Lock::release`], and those of [`LockOptions::resolve`].
pub fn release_lock(options: &LockOptions) -> Result<(), Error> {
    let target = options.resolve_any()?;
    table::find(Owner::PROGRAM, &target.path).and_then(table::release).unwrap_or(Ok(()))
}

/// Runs `work` while holding the lock.
///
/// # Errors
/// As [`acquire_lock`], before `work` has run, and as [`Lock::release`], after it.
pub fn with_lock<T>(options: &AcquireOptions, work: impl FnOnce(&Lock) -> T) -> Result<T, Error> {
    let lock = acquire_lock(options)?;
    let result = work(&lock);
    lock.release()?;
    Ok(result)
}

/// Reports whether the lock is held, and by which process. Changes nothing.
///
/// # Errors
/// [`Error::Symlink`], [`Error::NotAFile`] and [`Error::System`] as documented there, and those of
/// [`LockOptions::resolve`].
pub fn inspect_lock(options: &LockOptions) -> Result<LockStatus, Error> {
    inspect(&options.resolve_any()?)
}

/// As [`inspect_lock`], of a target.
pub(crate) fn inspect(target: &Target) -> Result<LockStatus, Error> {
    let mut status = protocol::inspect(Os::get(), target)?;
    let directory = target.path.parent().unwrap_or(&target.path);
    // A mistyped path would be reported as free without a hint.
    if status.state == LockState::Free && !directory.is_dir() {
        status.reason =
            format!("no lock file can be there: the directory {} does not exist", directory.display());
    }
    if status.state == LockState::Held
        && let Some(holder) = &status.holder
    {
        status.process = process_of(&target.path, holder).unwrap_or_default();
    }
    Ok(status)
}

/// The process of a holder. `None` unless the record of the lock file proves that the process with its pid is the holder:
/// same kernel, same pid namespace, same start time.
fn process_of(path: &Path, holder: &Holder) -> Option<ProcessDetails> {
    let os = Os::get();
    let Ok(Opened::File(file)) = os.open(path, Access::Read) else { return None };
    let mut buffer = [0; RECORD_LEN];
    let length = os.read(&file, &mut buffer).ok()?;
    let record = Record::parse(&buffer[..length])?;
    let is_proven = record.boot_id.is_some() && !is_foreign(os, &record) && record.start_time.is_some();
    if !is_proven || record.pid != holder.pid || record.created_at != Some(holder.created_at) {
        return None;
    }
    let process = describe_process(record.pid);
    // Read last: another process may have got the pid in the meantime.
    (os.process(record.pid) == ProcessState::Alive { start: record.start_time }).then_some(process)
}

/// Removes a stale lock, or with `force` any. `false`: there was none.
///
/// # Errors
/// [`Error::Contention`] if the lock is held and `force` is off; otherwise as [`acquire_lock`], except
/// [`Error::Stale`].
pub fn break_lock(options: &BreakOptions) -> Result<bool, Error> {
    protocol::break_lock(Os::get(), &options.lock.resolve_any()?, options.force)
}

/// The absolute path of the lock file. Touches nothing.
///
/// # Errors
/// As [`LockOptions::resolve`], except those of `shared`.
pub fn resolve_lock_path(options: &LockOptions) -> Result<PathBuf, Error> {
    options.resolve_any().map(|target| target.path)
}
