//! The operating systems: one file per family, each with the same `Os`, and what waiting needs of it.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{Bell, Os, Place, Rank, Signal, Signals, Stake, Watch, Watched, Watcher};

#[cfg(not(target_os = "linux"))]
mod timer;
#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
pub(crate) use timer::{Bell, Place, Rank, Signal, Signals, Stake, Watch, Watched, Watcher};
#[cfg(not(target_os = "linux"))]
pub(crate) use unsupported::Os;
