//! What a system tells those who wait.
#![forbid(unsafe_code)]

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
