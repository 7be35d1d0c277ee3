//! A process lock on a file, for tools that must not run twice at once.
//!
//! The lock is *advisory*: it excludes processes that acquire it, and does not protect the files that the tool works
//! on. It is for one machine. For locks across machines use a database.
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
#[cfg_attr(not(feature = "node"), allow(dead_code, reason = "only JavaScript looks for an answer"))]
mod pool;
pub mod protocol;
mod table;
#[cfg_attr(
    any(not(feature = "node"), test),
    allow(dead_code, unused_imports, reason = "only JavaScript ends a wait")
)]
mod wait;

pub use api::{
    AcquireOptions, BreakOptions, Lock, acquire_lock, break_lock, inspect_lock, release_lock,
    resolve_lock_path, with_lock,
};
pub use platform::{
    Access, Failed, FileId, FileKind, FsKind, HeldFiles, LockMode, Opened, ProcessIdentity, ProcessState,
    Stat, System, TryLock, Unlinked,
};
pub use protocol::error::Error;
pub use protocol::record::Holder;
pub use protocol::target::{DEFAULT_FILE, DEFAULT_MESSAGE, LockOptions, Target};
pub use protocol::{LockState, LockStatus, TakenOver, judge, record};
