//! A process lock on a file, for tools that must not run twice at once.
//!
//! It is an *advisory* lock: it keeps out those who ask for it, it does not stop anyone from
//! touching the files that the tool works on. It is for one machine; several machines that share a
//! network directory are told to use a database instead.
//!
//! # The protocol
//! Two invariants carry everything. **I1**: a process owns the lock if and only if it holds the
//! exclusive kernel lock on the file that the path names *now*. **I2**: only the owner unlinks,
//! replaces or rewrites the file at the path. Taking over what a killed run left behind is therefore
//! no special case: the file is there, nobody holds its kernel lock, so whoever gets it owns it.
//!
//! # The map
//! - [`protocol`]: acquire, release, inspect and break, step by step, over the trait [`System`].
//! - [`judge`]: is the holder that a record names gone? A pure function.
//! - [`record`]: the one JSON object in the file.
//! - [`System`] (`platform/`): what the protocol asks of an operating system, and one folder for each family.
//! - `table.rs`: the locks that this process holds.
//! - `pool.rs`: threads for file operations, so that a slow disk holds up no event loop.
//! - `wait/`: one thread that sleeps for all waiters; `wait/path_waiters.rs` decides what each path needs.
//! - [`acquire_lock`] and its siblings (`api.rs`): the functions that a program calls.
//! - `node/`: the same functions for JavaScript, the only place that knows Node.js.

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
#[cfg_attr(not(feature = "node"), allow(dead_code, unused_imports, reason = "only JavaScript ends a wait"))]
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
