//! What the protocol asks of a system, from the files of `src/platform/`; the systems themselves stay out.

#[path = "../../src/platform/system.rs"]
mod system;
#[path = "../../src/platform/types.rs"]
mod types;

pub use system::{HeldFiles, System};
pub use types::{
    Access, Failed, FileId, FileKind, FsKind, LockMode, Opened, ProcessDetails, ProcessIdentity,
    ProcessState, Stat, TryLock, Unlinked,
};
