//! The events that waiting depends on.
#![forbid(unsafe_code)]

/// An event of a watched lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(any(target_os = "linux", test)), expect(dead_code, reason = "only Linux has events"))]
pub(crate) enum HolderEvent {
    /// The file was removed, replaced, moved or written to, or events were lost.
    Changed,
    /// The holder's process has ended.
    Ended,
    /// A process that may be the holder closed the file.
    Closed,
}
