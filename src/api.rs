//! The functions that a Rust program calls; JavaScript has the same ones.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::platform::Os;
use crate::protocol::error::Error;
use crate::protocol::record::Holder;
use crate::protocol::target::{LockOptions, Target};
use crate::protocol::{self, LockState, LockStatus, TakenOver};
use crate::table::{self, LockId, Owner};
use crate::wait;

/// The options of [`acquire_lock`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AcquireOptions {
    /// Which lock.
    pub lock: LockOptions,
    /// How long to wait for a holder to release; zero does not wait, [`Duration::MAX`] waits forever.
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
    /// Which lock.
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
    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This process, as the record says.
    #[must_use]
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Set if the lock was taken over: its previous holder did not release it, and may have died half-way.
    #[must_use]
    pub fn taken_over(&self) -> Option<&TakenOver> {
        self.taken_over.as_ref()
    }

    /// Whether the lock is still held and its file in its place.
    #[must_use]
    pub fn is_held(&self) -> bool {
        table::is_held(self.id)
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// [`Error::Lost`] if the file was removed or replaced; [`Error::System`] if it cannot be removed.
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
/// [`Error::Contention`] if the lock is held for the whole `timeout`; [`Error::Symlink`],
/// [`Error::NotAFile`], [`Error::Stale`], [`Error::Unsupported`], [`Error::InvalidArgument`] and
/// [`Error::System`] as they say.
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
    let target = options.lock.resolve()?;
    let held = wait::acquire(Owner::PROGRAM, &target, 0, options.timeout)?;
    let (path, holder, taken_over) = (held.path.clone(), held.holder.clone(), held.taken_over.clone());
    match table::enter(Owner::PROGRAM, held, false) {
        Some(id) => {
            table::set_delivered(id, true);
            Ok(Lock { id, path, holder, taken_over })
        }
        None => Err(Error::Lost { path, reason: "its owner has ended" }),
    }
}

/// Releases the lock if this program holds it, and does nothing otherwise.
///
/// # Errors
/// As [`Lock::release`], and [`Error::InvalidArgument`].
pub fn release_lock(options: &LockOptions) -> Result<(), Error> {
    let target = options.resolve()?;
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
/// [`Error::Symlink`], [`Error::NotAFile`], [`Error::InvalidArgument`] and [`Error::System`] as they say.
pub fn inspect_lock(options: &LockOptions) -> Result<LockStatus, Error> {
    inspect(&options.resolve()?)
}

/// As [`inspect_lock`], of a target.
pub(crate) fn inspect(target: &Target) -> Result<LockStatus, Error> {
    let mut status = protocol::inspect(Os::get(), target)?;
    let directory = target.path.parent().unwrap_or(&target.path);
    // A path that was mistyped looks fine otherwise.
    if status.state == LockState::Free && !directory.is_dir() {
        status.reason =
            format!("no lock file can be there: the directory {} does not exist", directory.display());
    }
    Ok(status)
}

/// Removes a stale lock, or with `force` any. `false`: there was none.
///
/// # Errors
/// [`Error::Contention`] if the lock is held and `force` is off; otherwise as [`acquire_lock`].
pub fn break_lock(options: &BreakOptions) -> Result<bool, Error> {
    protocol::break_lock(Os::get(), &options.lock.resolve()?, options.force)
}

/// The absolute path of the lock file. Touches nothing.
///
/// # Errors
/// [`Error::InvalidArgument`] and [`Error::System`] as [`LockOptions::resolve`].
pub fn resolve_lock_path(options: &LockOptions) -> Result<PathBuf, Error> {
    options.resolve().map(|target| target.path)
}
