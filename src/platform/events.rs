//! The events that waiting depends on.
#![forbid(unsafe_code)]

/// An event of a watched lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HolderEvent {
    /// The file was removed, replaced, moved or written to, or events were lost.
    Changed,
    /// The holder's process has ended.
    Ended,
    /// A process that may be the holder closed the file.
    Closed,
}

/// The events of one sleep.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
pub(crate) struct HolderEvents {
    /// The numbers of the files that have changed.
    pub(super) changed: Vec<u64>,
    pub(super) ended: Vec<u32>,
    pub(super) lost_some: bool,
}

#[cfg(not(target_os = "linux"))]
impl HolderEvents {
    pub(crate) fn is_empty(&self) -> bool {
        !self.lost_some && self.changed.is_empty() && self.ended.is_empty()
    }
}
