//! A process lock on a file, for tools that must not run twice at once.
//!
//! The lock is *advisory*: it excludes processes that acquire it, and does not protect the files that the tool works
//! on. It is for one machine. For locks across machines use a database.
//!
//! # Use
//! [`acquire_lock`] returns a [`Lock`], which releases when it is dropped. [`LockOptions`] has the modes: `shared` for
//! readers, `slots` for at most n holders at once, `durable`, and `mode` for several users. [`acquire_locks`] acquires
//! several locks without a deadlock, and [`Lock::on_loss`] reports a loss. [`Error::code`] is the code of
//! `docs/errors.md`.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! use std::time::Duration;
//! use reconcile_lock::{AcquireOptions, Error, LockOptions, acquire_lock};
//!
//! // Up to three uploads at once. A fourth one waits for 10 ms.
//! let lock = LockOptions { slots: 3, ..LockOptions::in_directory(directory.path()) };
//! let options = AcquireOptions { lock, timeout: Duration::from_millis(10) };
//! let mut uploads = [(); 3].map(|()| acquire_lock(&options)).into_iter().collect::<Result<Vec<_>, _>>()?;
//! # let options = options.clone();
//! # std::thread::spawn(move || {
//! match acquire_lock(&options) {
//!     Err(Error::Contention { message, reason, .. }) => eprintln!("{message}: {reason:?}"),
//!     other => panic!("{other:?}"),
//! }
//! # }).join().unwrap();
//! uploads.remove(0).release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The protocol
//! Two invariants carry everything. **I1**: a process owns the lock if and only if it holds the
//! exclusive kernel lock on the file that the path names *now*. **I2**: only the owner unlinks,
//! replaces or rewrites the file at the path. Taking over a stale lock is therefore no special case: the file
//! exists, its kernel lock is free, and the process that gets it owns the lock.
//!
//! # The map
//! - [`protocol`]: acquire, release, inspect and break, step by step, over the trait [`System`].
//! - [`judge`]: whether the holder that a record names is gone, as a pure function.
//! - [`record`]: the JSON object in the file.
//! - [`System`] (`platform/`): the operations that the protocol needs of an operating system, and one folder for each.
//! - `table.rs`: the locks that this process holds.
//! - `refusals.rs`: the paths at which this process was refused.
//! - `pool.rs`: threads for file operations, so that a slow disk does not block an event loop.
//! - `wait/`: one thread that sleeps for all waiters; `wait/path_waiters.rs` decides the next step of each path.
//! - [`acquire_lock`] and its siblings (`api.rs`): the functions that a program calls.
//! - `node/`: the same functions for JavaScript, the only part that depends on Node.js.

mod api;
mod map;
// napi registers nothing in a test executable, which no Node.js loads.
#[cfg(all(feature = "node", not(test)))]
mod node;
mod platform;
#[cfg_attr(not(feature = "node"), allow(dead_code, reason = "only JavaScript polls for an answer"))]
mod pool;
pub mod protocol;
mod refusals;
mod table;
#[cfg_attr(
    any(not(feature = "node"), test),
    allow(dead_code, unused_imports, reason = "only JavaScript ends a wait")
)]
mod wait;

pub use api::{
    AcquireOptions, BreakOptions, Lock, acquire_lock, acquire_locks, break_lock, inspect_lock, release_lock,
    resolve_lock_path, with_lock,
};
pub use platform::{
    Access, Failed, FileId, FileKind, FsKind, HeldFiles, LockMode, Opened, ProcessDetails, ProcessIdentity,
    ProcessState, Stat, System, TryLock, Unlinked,
};
pub use protocol::error::Error;
pub use protocol::options::{DEFAULT_MESSAGE, LockOptions};
pub use protocol::record::Holder;
pub use protocol::target::{DEFAULT_FILE, Target};
pub use protocol::{LockState, LockStatus, TakenOver, judge, record};
