//! The operating systems: `Os`, the protocol's operations, and what waiting needs, from one file per family.

#[cfg(any(target_os = "linux", target_os = "macos", windows))]
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(not(target_os = "linux"))]
mod timer;
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

#[cfg(target_os = "linux")]
pub(crate) use self::linux::{Arrival, QueueTicket, Watch, WatchedFile, Watcher, Watching};
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use self::own::{Os, is_shortage};
#[cfg(all(feature = "node", not(test)))]
pub(crate) use self::own::{is_main_thread, keep_loaded};
#[cfg(not(target_os = "linux"))]
pub(crate) use self::timer::{Arrival, QueueTicket, Watch, WatchedFile, Watcher, Watching};
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use self::unix::{Os, is_shortage};

/// Who waits before a waiter, of those that take their turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(any(target_os = "linux", test)), expect(dead_code, reason = "only Linux has the queue"))]
pub(crate) enum Ahead {
    Nobody,
    One,
    More,
}

/// What an event says of a watched lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(any(target_os = "linux", test)), expect(dead_code, reason = "only Linux has events"))]
pub(crate) enum HolderEvent {
    /// The file was removed, replaced, moved or written to, or events were lost.
    Changed,
    /// The holder's process has ended.
    Ended,
    /// Somebody closed the file, who may have been its holder.
    Closed,
}

/// Milliseconds since the Unix epoch, as records tell them.
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
