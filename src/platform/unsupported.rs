//! Operating systems without an implementation: every call returns that error.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::platform::system::System;
use crate::platform::types::{
    Access, Failed, FileId, FsKind, LockMode, Opened, ProcessDetails, ProcessIdentity, ProcessState, Stat,
    TryLock, Unlinked,
};

/// Nothing to keep: there are no threads.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn keep_loaded() {}

/// `false`: it is unknown, so JavaScript reports the id of the thread.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn is_main_thread() -> bool {
    false
}

/// A system whose calls fail.
pub(crate) struct Os {
    identity: ProcessIdentity,
}

impl Os {
    pub(crate) fn get() -> &'static Self {
        static OS: Os = Os {
            identity: ProcessIdentity { pid: 0, start: None, boot: None, pid_namespace: None, host: None },
        };
        &OS
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing is opened, so nothing is short.
pub(crate) fn is_shortage(_: &io::Error) -> bool {
    false
}

impl System for Os {
    type File = Infallible;

    fn create(&self, _: &Path) -> io::Result<Option<Self::File>> {
        unsupported()
    }
    fn open(&self, _: &Path, _: Access) -> io::Result<Opened<Self::File>> {
        unsupported()
    }
    fn try_lock(&self, file: &Self::File, _: LockMode) -> io::Result<TryLock> {
        match *file {}
    }
    fn stat(&self, file: &Self::File) -> io::Result<Stat> {
        match *file {}
    }
    fn stat_path(&self, _: &Path) -> io::Result<Option<Stat>> {
        unsupported()
    }
    fn read(&self, file: &Self::File, _: &mut [u8]) -> io::Result<usize> {
        match *file {}
    }
    fn write(&self, file: &Self::File, _: &[u8]) -> io::Result<()> {
        match *file {}
    }
    fn truncate(&self, file: &Self::File, _: u64) -> io::Result<()> {
        match *file {}
    }
    fn set_mode(&self, file: &Self::File, _: u32) -> io::Result<()> {
        match *file {}
    }
    fn sync(&self, file: &Self::File, _: &Path) -> Result<(), Failed> {
        match *file {}
    }
    fn unlink(&self, _: &Path, _: FileId) -> Result<Unlinked, Failed> {
        Err(Failed { syscall: "unlink", source: io::ErrorKind::Unsupported.into() })
    }
    fn is_planted(&self, _: &Path, _: u32) -> bool {
        false
    }
    fn fs_kind(&self, file: &Self::File) -> FsKind {
        match *file {}
    }
    fn wall_clock(&self) -> u64 {
        0
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
    fn process_exists(&self, _: u32) -> bool {
        true
    }
    fn process(&self, _: u32) -> ProcessState {
        ProcessState::Alive { start: None }
    }
    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }
}

pub(crate) fn describe_process(_: u32) -> ProcessDetails {
    ProcessDetails::default()
}
