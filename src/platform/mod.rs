//! The operating systems: the trait [`System`], its implementation `Os`, and events and queues for waiting.

#[cfg(any(target_os = "linux", target_os = "macos", windows))]
mod clock;
mod events;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod system;
#[cfg(not(target_os = "linux"))]
mod timer;
mod types;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod unix;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod unsupported;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as own;
#[cfg(target_os = "macos")]
use macos as own;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
use unsupported as own;
#[cfg(windows)]
use windows as own;

pub(crate) use self::events::HolderEvent;
#[cfg(target_os = "linux")]
pub(crate) use self::linux::{Arrival, QueueTicket, Watch, Watcher, Watching};
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use self::own::{Os, is_shortage};
#[cfg(all(feature = "node", not(test)))]
pub(crate) use self::own::{is_main_thread, keep_loaded};
pub use self::system::{HeldFiles, System};
#[cfg(not(target_os = "linux"))]
pub(crate) use self::timer::{Arrival, QueueTicket, Watch, Watcher, Watching};
pub use self::types::{
    Access, Failed, FileId, FileKind, FsKind, LockMode, Opened, ProcessIdentity, ProcessState, Stat, TryLock,
    Unlinked,
};
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use self::unix::{Os, is_shortage};
