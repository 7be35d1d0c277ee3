//! The interface between the protocol and a system, from `src/platform/`, without the systems themselves.

#[path = "../../src/platform/system.rs"]
mod system;
#[path = "../../src/platform/types.rs"]
mod types;

pub use system::{HeldFiles, System};
pub use types::{
    Access, Failed, FileId, FileKind, FsKind, LockMode, Opened, ProcessDetails, ProcessIdentity,
    ProcessState, Stat, TryLock, Unlinked,
};
