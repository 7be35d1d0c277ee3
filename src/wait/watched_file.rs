//! The lock file that a waiter watches, as it was when it was found held. It is not kept open: a process may wait for
//! many locks, and descriptors are few.

use std::path::Path;

use crate::platform::{
    Access, FileId, FileKind, FsKind, HeldFiles, LockMode, Opened, Os, ProcessState, Stat, System, TryLock,
};
use crate::protocol::holder;
use crate::protocol::record::{Holder, RECORD_LEN, Record};

type OpenFile = <Os as System>::File;

/// A lock file that a process holds.
#[derive(Debug, Clone)]
pub(crate) struct WatchedFile {
    state: FileState,
    /// The pid that its record names, and when that process acquired the lock.
    holder: (u32, u64),
    pid: Option<u32>,
    /// When the holder's process started, by its record.
    start: Option<u64>,
    /// Whether the holder is this process, of which no event reports that other code has closed the file.
    is_own: bool,
    was_locked: bool,
    /// The mode in which the kernel lock is tried: readers share it.
    mode: LockMode,
}

/// The properties that change when the lock changes hands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FileState {
    id: Option<FileId>,
    /// `unlink(2)` drops the link and sends its event before it removes the name: for a moment the path still names
    /// a file without links (`vfs_unlink` in `fs/namei.c`).
    links: u64,
    size: u64,
    modified: u64,
}

impl From<Stat> for FileState {
    fn from(Stat { id, links, size, modified, .. }: Stat) -> Self {
        Self { id: Some(id), links, size, modified }
    }
}

impl WatchedFile {
    /// `None` if there is nothing to watch: no file, no record in it yet, or no events, as on a network filesystem.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let os = Os::get();
        let (file, stat) = open_file(os, path)?;
        if os.fs_kind(&file) != FsKind::Local {
            return None;
        }
        let mut buffer = [0; RECORD_LEN];
        let length = os.read(&file, &mut buffer).ok()?;
        let record = Record::parse(&buffer[..length.min(RECORD_LEN)])?;
        // Another process may have the pid of the holder now. The lock does not end with it.
        let is_seen =
            !holder::is_foreign(os, &record) && holder::is_running(os, record.pid, record.start_time);
        // A legacy record has no start time: its lock is not in the table of this process.
        let is_own = is_seen && record.pid == os.identity().pid && record.start_time.is_some();
        let pid = (is_seen && (!is_own || os.holds(stat.id))).then_some(record.pid);
        let holder = (record.pid, record.created_at.unwrap_or(stat.modified));
        let mode = LockMode::Shared;
        let was_locked = is_locked(os, &file, mode);
        Some(Self { state: stat.into(), holder, pid, start: record.start_time, is_own, was_locked, mode })
    }

    /// As `open`, for the file whose kernel lock readers hold.
    pub(crate) fn open_readers(path: &Path) -> Option<Self> {
        let os = Os::get();
        let (file, stat) = open_file(os, path)?;
        let mode = LockMode::Exclusive;
        let is_held = stat.size == 0 && os.fs_kind(&file) == FsKind::Local && is_locked(os, &file, mode);
        is_held.then(|| Self::locked(stat, mode))
    }

    /// As `open`, for a file whose kernel lock is held by any process.
    pub(crate) fn open_locked(path: &Path) -> Option<Self> {
        let os = Os::get();
        // A queue with other waiters exists on a local filesystem only.
        let (file, stat) = open_file(os, path)?;
        // The creator of an empty file is about to lock it, and would find it locked by this check.
        let is_recorded = stat.size > 0;
        let mode = LockMode::Shared;
        let is_held = is_recorded && is_locked(os, &file, mode);
        is_held.then(|| Self::locked(stat, mode))
    }

    fn locked(stat: Stat, mode: LockMode) -> Self {
        Self {
            state: stat.into(),
            holder: (0, 0),
            pid: None,
            start: None,
            is_own: false,
            was_locked: true,
            mode,
        }
    }

    /// Whether its record is that of this holder.
    pub(crate) fn names(&self, holder: &Holder) -> bool {
        self.holder == (holder.pid, holder.created_at)
    }

    /// The holder's process, if it runs, in this kernel and pid namespace.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether `pid` is still the holder's process. Another process may have got that pid since.
    pub(crate) fn has_process(&self) -> bool {
        self.pid.is_none_or(|pid| holder::is_running(Os::get(), pid, self.start))
    }

    /// Whether the holder's process, whose end is an event, still holds the lock. Only a pidfd is known to lose no event.
    pub(crate) fn has_holder(&self, path: &Path) -> bool {
        let os = Os::get();
        if self.is_own && !self.state.id.is_some_and(|id| os.holds(id)) {
            return false;
        }
        let is_alive = |pid| matches!(os.process(pid), ProcessState::Alive { .. });
        cfg!(target_os = "linux") || self.pid.is_none_or(is_alive) && self.is_locked_as_before(path)
    }

    /// Whether the kernel lock was held. A holder on another host, or a legacy process, can hold the lock without one.
    pub(crate) fn was_locked(&self) -> bool {
        self.was_locked
    }

    /// The device of the file.
    pub(crate) fn device(&self) -> u64 {
        self.state.id.map_or(0, |id| id.device)
    }

    /// Whether the path names this file, unchanged.
    pub(crate) fn is_current(&self, path: &Path) -> bool {
        Os::get()
            .stat_path(path)
            .is_ok_and(|stat| stat.is_some_and(|stat| FileState::from(stat) == self.state))
    }

    /// Whether the kernel lock is still held, or still free. The file is opened for reading only, so closing it sends
    /// no event to other waiters.
    pub(crate) fn is_locked_as_before(&self, path: &Path) -> bool {
        let os = Os::get();
        matches!(os.open(path, Access::Read), Ok(Opened::File(file)) if is_locked(os, &file, self.mode) == self.was_locked)
    }
}

fn open_file(os: &Os, path: &Path) -> Option<(OpenFile, Stat)> {
    let Ok(Opened::File(file)) = os.open(path, Access::Read) else { return None };
    let stat = os.stat(&file).ok()?;
    (stat.kind == FileKind::File && stat.links == 1).then_some((file, stat))
}

#[cfg_attr(
    not(any(target_os = "linux", target_os = "macos", windows)),
    allow(clippy::trivially_copy_pass_by_ref, reason = "an unsupported system has no files")
)]
fn is_locked(os: &Os, file: &OpenFile, mode: LockMode) -> bool {
    match os.try_lock(file, mode) {
        Ok(TryLock::Acquired) => {
            os.unlock(file);
            false
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"pid":1,"createdAt":1}"#;

    fn record(pid: u32) -> String {
        format!(r#"{{"pid":{pid},"createdAt":1}}"#)
    }

    #[test]
    fn a_written_replaced_or_removed_file_is_not_current() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        for change in [
            (|path| std::fs::write(path, "other").expect("written")) as fn(&Path),
            |path| std::fs::remove_file(path).expect("removed"),
            |path| {
                std::fs::write(path.with_extension("new"), RECORD).expect("written");
                std::fs::rename(path.with_extension("new"), path).expect("replaced");
            },
        ] {
            std::fs::write(&path, record(std::process::id())).expect("written");
            let watched = WatchedFile::open(&path).expect("a local file");
            assert!(watched.is_current(&path) && watched.pid() == Some(std::process::id()));
            change(&path);
            assert!(!watched.is_current(&path));
        }
    }

    #[test]
    #[cfg(not(target_os = "linux"))]
    fn a_lost_event_of_the_holder_is_detected() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let mut child = crate::platform::child();
        std::fs::write(&path, record(child.id())).expect("written");
        let Ok(Opened::File(held)) = Os::get().open(&path, Access::ReadWrite) else { panic!("opened") };
        assert_eq!(Os::get().try_lock(&held, LockMode::Exclusive).ok(), Some(TryLock::Acquired));
        let [locked, legacy] = [(); 2].map(|()| {
            let watched = WatchedFile::open(&path).expect("a local file");
            assert!(watched.pid() == Some(child.id()) && watched.has_holder(&path));
            Os::get().unlock(&held);
            watched
        });
        assert!(!locked.has_holder(&path) && legacy.has_holder(&path), "the kernel lock is free");
        child.kill().expect("killed");
        child.wait().expect("waited for");
        assert!(!legacy.has_holder(&path), "the process has ended");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_without_links_is_not_current() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        for round in 0..500 {
            std::fs::write(&path, RECORD).expect("written");
            let watched = WatchedFile::open(&path).expect("a local file");
            let Ok(Opened::File(file)) = Os::get().open(&path, Access::Read) else { panic!("opened") };
            let doomed = path.clone();
            let remover = std::thread::spawn(move || std::fs::remove_file(doomed).expect("removed"));
            while Os::get().stat(&file).expect("described").links == 1 {}
            // The name is removed a moment later.
            assert!(!watched.is_current(&path), "round {round}");
            remover.join().expect("ended");
        }
    }

    #[test]
    fn checking_the_kernel_lock_does_not_block_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), RECORD).expect("written");
        let Ok(Opened::File(held)) = Os::get().open(file.path(), Access::ReadWrite) else { panic!("opened") };
        let watched = WatchedFile::open(file.path()).expect("a local file");
        assert!(watched.is_locked_as_before(file.path()));
        assert_eq!(Os::get().try_lock(&held, LockMode::Exclusive).ok(), Some(TryLock::Acquired));
        assert!(!watched.is_locked_as_before(file.path()));
    }

    #[test]
    fn a_file_in_creation_is_not_watched() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(WatchedFile::open(file.path()).is_none());
        let Ok(Opened::File(held)) = Os::get().open(file.path(), Access::ReadWrite) else { panic!("opened") };
        assert_eq!(Os::get().try_lock(&held, LockMode::Exclusive).ok(), Some(TryLock::Acquired));
        assert!(WatchedFile::open_locked(file.path()).is_none(), "its creator is not done");
        std::fs::write(file.path(), RECORD).expect("written");
        assert!(WatchedFile::open_locked(file.path()).is_some());
        drop(held);
        assert!(WatchedFile::open_locked(file.path()).is_none(), "no process holds it");
    }
}
