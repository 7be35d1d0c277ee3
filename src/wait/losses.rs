//! The held locks of which a program wants to know at once if they are lost.
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::service::service;
use crate::map::{HASHER, Map};
use crate::platform::{FileId, HolderEvent, Os, System, Watch, Watcher, Watching};
use crate::pool;
use crate::protocol;
use crate::table::{self, LockId};

/// How often to check without an event: that a directory was moved, for example, is none.
const RESCAN_INTERVAL: Duration = Duration::from_millis(250);

/// Gets the reason, once.
type Report = Box<dyn FnOnce(&'static str) + Send>;

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

/// Calls `report` on another thread if the path of a held lock names another file or none before the lock is released.
pub(crate) fn report_loss(id: LockId, report: Report) -> io::Result<()> {
    let Some((path, file)) = table::location(id) else { return Ok(()) };
    let mut service = service();
    service.begin()?;
    let now = Instant::now();
    let held = HeldFile { path, file, watch: None, due: Some(now), has_event: false, reports: Vec::new() };
    service.losses.files.entry(id).or_insert(held).reports.push(report);
    service.wake_for(Some(now));
    Ok(())
}

/// Checks files on other threads, those of each device on one: a disk may hang.
pub(super) fn dispatch(watcher: &Watcher, mut checks: Vec<Check>) {
    checks.sort_unstable_by_key(|check| check.file.device);
    while let Some(device) = checks.last().map(|check| check.file.device) {
        let of_device = checks.split_off(checks.partition_point(|check| check.file.device != device));
        let watcher = watcher.clone();
        pool::submit_detached(Box::new(move || {
            for check in of_device {
                run(&watcher, check);
            }
        }));
    }
}

fn run(watcher: &Watcher, Check { id, path, file, is_watched }: Check) {
    let checked = pool::catch_panic(|| {
        let watch = (!is_watched).then(|| watcher.watch(&path, None, false));
        // After the watch: a change before it sends no event.
        (watch, lost(&path, file))
    });
    let (watch, lost) = checked.unwrap_or((None, None));
    // A lock that is released is out of the table before its file is removed.
    let is_open = table::is_open(id);
    let lost = lost.or((is_open == Some(false)).then_some(protocol::FILE_CLOSED));
    let mut service = service();
    if is_open.is_none() || lost.is_some() {
        let held = service.losses.files.remove(&id);
        drop(service);
        if let (Some(_), Some(reason), Some(held)) = (is_open, lost, held) {
            for report in held.reports {
                // That of a program may panic.
                let _ = pool::catch_panic(|| report(reason));
            }
        }
        return;
    }
    let due = Instant::now() + RESCAN_INTERVAL;
    if let Some(held) = service.losses.files.get_mut(&id) {
        if let Some(Watching::Yes(watch)) = watch {
            held.has_event |= watch.missed().is_some();
            held.watch = Some(watch);
        }
        held.due = Some(if std::mem::take(&mut held.has_event) { Instant::now() } else { due });
        let due = held.due;
        service.wake_for(due);
    }
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
