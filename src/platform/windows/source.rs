//! The events of waiting: `ReadDirectoryChangesW` of the directory of a lock file, and `RegisterWaitForSingleObject` of
//! its holder. Threads of the system report both, so the thread that sleeps uses no handle that a disk can block.
#![forbid(unsafe_code)]

use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OVERLAPPED, FILE_LIST_DIRECTORY,
};

use super::notify::{Change, DirectoryChanges, ProcessEnd, can_be};
use super::{SHARED, calls, file};
use crate::map::Map;
use crate::platform::events::HolderEvents;
use crate::platform::types::FileId;

/// How long to sleep without an end.
const LONG: Duration = Duration::from_secs(3600);

/// The condition that one thread sleeps on.
#[derive(Debug)]
pub(in crate::platform) struct Source(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    waker: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_woken: bool,
    /// The events since the last [`Source::wait`].
    events: HolderEvents,
    directories: Map<FileId, Directory>,
}

#[derive(Debug)]
struct Directory {
    _changes: DirectoryChanges,
    files: Map<u64, Vec<u16>>,
}

/// A file whose changes are reported until this is dropped.
#[derive(Debug)]
pub(in crate::platform) struct FileSource {
    shared: Arc<Shared>,
    directory: FileId,
    number: u64,
}

pub(in crate::platform) type ProcessSource = ProcessEnd;

impl Drop for FileSource {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Entry::Occupied(mut directory) = state.directories.entry(self.directory) else { return };
        directory.get_mut().files.remove(&self.number);
        let unused = directory.get().files.is_empty().then(|| directory.remove());
        drop(state);
        // Not under the mutex: a disk can hang.
        drop(unused);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_change(&self, directory: FileId, change: &Change) {
        let mut state = self.state();
        let State { directories, events, .. } = &mut *state;
        let Entry::Occupied(directory) = directories.entry(directory) else { return };
        for (number, name) in &directory.get().files {
            let is_meant = match change {
                Change::Of(names) => names.iter().any(|changed| can_be(changed, name)),
                Change::Unknown | Change::Over => true,
            };
            if is_meant {
                events.changed.push(*number);
            }
        }
        if matches!(change, Change::Over) {
            directory.remove();
        }
        if !events.is_empty() {
            self.waker.notify_one();
        }
    }

    fn on_end(&self, pid: u32) {
        self.state().events.ended.push(pid);
        self.waker.notify_one();
    }
}

impl Source {
    pub(in crate::platform) fn new() -> Self {
        Self(Arc::default())
    }

    /// Ends the sleep of [`Source::wait`], now or the next one.
    pub(in crate::platform) fn wake(&self) {
        self.0.state().is_woken = true;
        self.0.waker.notify_one();
    }

    /// Reports changes of the file by this number. `None`: the system refuses.
    pub(in crate::platform) fn file(&self, path: &Path, number: u64) -> Option<FileSource> {
        let name = path.file_name()?.encode_wide().collect();
        let opened = open_directory(path.parent()?).ok()?;
        let directory = calls::id(&opened).ok().filter(|_| file::is_local(&opened))?;
        let mut state = self.0.state();
        if !state.directories.contains_key(&directory) {
            drop(state);
            let shared = Arc::downgrade(&self.0);
            let report = move |change: &Change| {
                if let Some(shared) = shared.upgrade() {
                    shared.on_change(directory, change);
                }
            };
            // Not under the mutex: a disk can hang.
            let changes = DirectoryChanges::begin(opened, Box::new(report)).ok()?;
            state = self.0.state();
            // Another thread may have begun to read, too.
            let known = state.directories.entry(directory);
            known.or_insert_with(|| Directory { _changes: changes, files: Map::default() });
        }
        state.directories.get_mut(&directory)?.files.insert(number, name);
        Some(FileSource { shared: self.0.clone(), directory, number })
    }

    /// Reports the end of a process. `None`: it has ended.
    pub(in crate::platform) fn process(&self, pid: u32) -> io::Result<Option<ProcessSource>> {
        let Some(process) = calls::open_process(pid)? else { return Ok(None) };
        let shared = self.0.clone();
        ProcessEnd::begin(process, Box::new(move || shared.on_end(pid))).map(Some)
    }

    /// Sleeps until an event has come, [`Source::wake`] was called or `until` has come.
    pub(in crate::platform) fn wait(&self, until: Option<Instant>) -> HolderEvents {
        let left = until.map_or(LONG, |until| until.saturating_duration_since(Instant::now()));
        let is_quiet = |state: &mut State| !state.is_woken && state.events.is_empty();
        let waited = self.0.waker.wait_timeout_while(self.0.state(), left, is_quiet);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.is_woken = false;
        mem::take(&mut state.events)
    }
}

/// Opens a directory to read its changes. Others may rename and remove it meanwhile.
fn open_directory(path: &Path) -> io::Result<File> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OVERLAPPED;
    OpenOptions::new().access_mode(FILE_LIST_DIRECTORY).share_mode(SHARED).custom_flags(flags).open(path)
}
