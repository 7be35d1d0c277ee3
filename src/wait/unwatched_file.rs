//! A watched file on systems whose events are not used: there is none.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::path::Path;

/// A lock file that a process holds; it cannot be watched.
#[derive(Debug, Clone)]
pub(crate) struct WatchedFile(Infallible);

impl WatchedFile {
    pub(crate) fn open(_: &Path) -> Option<Self> {
        None
    }
    pub(crate) fn open_locked(_: &Path) -> Option<Self> {
        None
    }
    pub(crate) fn open_readers(_: &Path) -> Option<Self> {
        None
    }
    pub(crate) fn pid(&self) -> Option<u32> {
        match self.0 {}
    }
    pub(crate) fn was_locked(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn device(&self) -> u64 {
        match self.0 {}
    }
    pub(crate) fn is_current(&self, _: &Path) -> bool {
        match self.0 {}
    }
    pub(crate) fn is_locked_as_before(&self, _: &Path) -> bool {
        match self.0 {}
    }
}
