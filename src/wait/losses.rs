//! The held locks whose loss is reported to the program.
#![forbid(unsafe_code)]

use std::mem;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::intervals::RESCAN_INTERVAL;
use crate::map::{HASHER, Map};
use crate::platform::{FileId, HolderEvent, Os, System, Watch, Watcher, Watching};
use crate::pool;
use crate::protocol;
use crate::table::{self, LockId};

/// Gets the reason, once.
pub(super) type Report = Box<dyn FnOnce(&'static str) + Send>;

struct HeldFile {
    path: PathBuf,
    file: FileId,
    watch: Option<Watch>,
    /// `None`: a check is under way.
    due: Option<Instant>,
    /// An event came during the check.
    has_event: bool,
    reports: Vec<Report>,
}

pub(super) struct Losses {
    files: Map<LockId, HeldFile>,
}

/// A file to check.
pub(super) struct Check {
    id: LockId,
    path: PathBuf,
    file: FileId,
    is_watched: bool,
}

/// The result of a check.
pub(super) struct Checked {
    id: LockId,
    watch: Option<Watching>,
    /// `None`: the lock was released.
    is_open: Option<bool>,
    lost: Option<&'static str>,
}

/// Checks files on other threads, those of each device on one: a disk may hang.
pub(super) fn dispatch(watcher: &Watcher, mut checks: Vec<Check>, on_checked: fn(Checked)) {
    checks.sort_unstable_by_key(|check| check.file.device);
    while let Some(device) = checks.last().map(|check| check.file.device) {
        let of_device = checks.split_off(checks.partition_point(|check| check.file.device != device));
        let watcher = watcher.clone();
        pool::submit_detached(Box::new(move || {
            for check in of_device {
                on_checked(run(&watcher, check));
            }
        }));
    }
}

fn run(watcher: &Watcher, Check { id, path, file, is_watched }: Check) -> Checked {
    let checked = pool::catch_panic(|| {
        let watch = (!is_watched).then(|| watcher.watch(&path, None, false));
        // After the watch: a change before it sends no event.
        (watch, lost(&path, file))
    });
    let (watch, lost) = checked.unwrap_or((None, None));
    // A lock that is released is out of the table before its file is removed.
    let is_open = table::is_open(id);
    Checked { id, watch, is_open, lost: lost.or((is_open == Some(false)).then_some(protocol::FILE_CLOSED)) }
}

/// Why the path does not name the file of the lock. A check that fails shows nothing.
fn lost(path: &Path, file: FileId) -> Option<&'static str> {
    match Os::get().stat_path(path) {
        Ok(Some(stat)) if stat.id == file && stat.links > 0 => None,
        Ok(Some(stat)) if stat.id != file => Some(protocol::NAMES_ANOTHER),
        Ok(_) => Some(protocol::NAMES_NONE),
        Err(_) => None,
    }
}

impl Losses {
    pub(super) const fn new() -> Self {
        Self { files: Map::with_hasher(HASHER) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reports once if the path of the lock `id` names another file than this one or none, or the file was closed.
    pub(super) fn add(&mut self, id: LockId, path: PathBuf, file: FileId, report: Report, now: Instant) {
        let held =
            HeldFile { path, file, watch: None, due: Some(now), has_event: false, reports: Vec::new() };
        self.files.entry(id).or_insert(held).reports.push(report);
    }

    /// Records a check. If the lock is lost, it returns the reason and the subscribers.
    pub(super) fn on_checked(
        &mut self,
        checked: Checked,
        now: Instant,
    ) -> Option<(&'static str, Vec<Report>)> {
        let Checked { id, watch, is_open, lost } = checked;
        if is_open.is_none() || lost.is_some() {
            let held = self.files.remove(&id);
            return is_open.and(lost).zip(held.map(|held| held.reports));
        }
        if let Some(held) = self.files.get_mut(&id) {
            if let Some(Watching::Yes(watch)) = watch {
                held.has_event |= watch.missed().is_some();
                held.watch = Some(watch);
            }
            held.due = Some(if mem::take(&mut held.has_event) { now } else { now + RESCAN_INTERVAL });
        }
        None
    }

    pub(super) fn on_events(&mut self, event_of: impl Fn(&Watch) -> Option<HolderEvent>, now: Instant) {
        for held in self.files.values_mut() {
            if held.watch.as_ref().and_then(&event_of).is_some() {
                held.has_event = held.due.is_none();
                held.due = held.due.map(|_| now);
            }
        }
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<Check> {
        let is_due = |held: &HeldFile| held.due.is_some_and(|due| due <= now);
        let due = self.files.iter_mut().filter(|(_, held)| is_due(held));
        due.map(|(id, held)| {
            held.due = None;
            let is_watched = held.watch.is_some();
            Check { id: *id, path: held.path.clone(), file: held.file, is_watched }
        })
        .collect()
    }

    /// The next moment to check.
    pub(super) fn next(&self) -> Option<Instant> {
        self.files.values().filter_map(|held| held.due).min()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_check_that_fails_shows_no_loss() {
        let directory = tempfile::tempdir().expect("a directory");
        let [held, other] = ["held", "other"].map(|name| directory.path().join(name));
        for path in [&held, &other] {
            fs::write(path, "").expect("written");
        }
        let file = Os::get().stat_path(&held).expect("read").expect("a file").id;
        assert_eq!(lost(&held, file), None);
        assert_eq!(lost(&other, file), Some(protocol::NAMES_ANOTHER));
        assert_eq!(lost(&directory.path().join("none"), file), Some(protocol::NAMES_NONE));
        // ENAMETOOLONG
        assert_eq!(lost(&directory.path().join("x".repeat(256)), file), None);
    }
}
