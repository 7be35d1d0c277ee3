//! Acquire, release, inspect and break, over the operations of [`System`](crate::System).
//!
//! **I1**: a process owns the lock if and only if it holds the exclusive kernel lock on the file that
//! the path names now. **I2**: only the owner unlinks, replaces or rewrites the file at the path.
#![forbid(unsafe_code)]

mod acquire;
mod await_readers;
mod break_lock;
pub(crate) mod error;
mod existing;
mod file;
mod held;
pub(crate) mod holder;
mod inspect;
pub mod judge;
pub(crate) mod options;
mod readers;
pub mod record;
mod release;
mod retry;
mod shared;
mod still_refused;
pub(crate) mod target;

pub use self::acquire::{LEGACY_UNLINK_WINDOW, acquire, acquire_path, acquire_with};
pub use self::await_readers::await_readers;
pub use self::break_lock::break_lock;
pub(crate) use self::held::{FILE_CLOSED, NAMES_ANOTHER, NAMES_NONE};
pub use self::held::{Held, TakenOver, is_held};
pub use self::inspect::{LockState, LockStatus, inspect};
pub use self::release::{release, rollback};
pub(crate) use self::retry::is_creation_grace;
pub use self::retry::{CREATION_GRACE, EmptyFile, PauseLimit};
pub use self::still_refused::still_refused;
