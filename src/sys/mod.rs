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
pub(crate) use self::linux::{Bell, Place, Rank, Signal, Signals, Stake, Watch, Watched, Watcher};
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use self::own::{Os, is_shortage};
#[cfg(all(feature = "node", not(test)))]
pub(crate) use self::own::{is_main_thread, keep_loaded};
#[cfg(not(target_os = "linux"))]
pub(crate) use self::timer::{Bell, Place, Rank, Signal, Signals, Stake, Watch, Watched, Watcher};
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use self::unix::{Os, is_shortage};

/// Milliseconds since the Unix epoch, as records tell them.
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
