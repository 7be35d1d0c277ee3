//! The operating systems: the trait [`System`], its implementation `Os`, and events and queues for waiting.

#[cfg(any(target_os = "linux", target_os = "macos", windows))]
mod clock;
mod events;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(not(target_os = "linux"))]
mod no_queue;
mod system;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod timer;
mod types;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod unix;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
mod watch;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as own;
#[cfg(target_os = "macos")]
use macos::{self as own, source};
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
use timer as source;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
use unsupported as own;
#[cfg(windows)]
use windows::{self as own, source};

pub(crate) use self::events::HolderEvent;
#[cfg(target_os = "linux")]
pub(crate) use self::linux::{Arrival, QueueTicket, Watch, Watcher, Watching};
#[cfg(not(target_os = "linux"))]
pub(crate) use self::no_queue::{Arrival, QueueTicket};
pub(crate) use self::own::describe_process;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use self::own::{Os, is_shortage};
#[cfg(all(feature = "node", not(test)))]
pub(crate) use self::own::{is_main_thread, keep_loaded};
pub use self::system::{HeldFiles, System};
pub use self::types::{
    Access, Failed, FileId, FileKind, FsKind, LockMode, Opened, ProcessDetails, ProcessIdentity,
    ProcessState, Stat, TryLock, Unlinked,
};
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use self::unix::{Os, is_shortage};
#[cfg(all(test, not(target_os = "linux")))]
pub(crate) use self::watch::tests::child;
#[cfg(not(target_os = "linux"))]
pub(crate) use self::watch::{Watch, Watcher, Watching};
