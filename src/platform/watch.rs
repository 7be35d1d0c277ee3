//! Sleeping until something can have changed, by the events of a [`Source`].
#![forbid(unsafe_code)]

use std::collections::hash_map::Entry;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::events::{HolderEvent, HolderEvents};
use super::source::{FileSource, ProcessSource, Source};
use crate::map::Map;

/// The events that one thread sleeps on, and others add to.
#[derive(Debug, Clone)]
pub(crate) struct Watcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// Whether each file has changed.
    files: Map<u64, bool>,
    processes: Map<u32, SharedProcess>,
    /// How many watches of files there were.
    count: u64,
}

#[derive(Debug)]
struct SharedProcess {
    watches: u32,
    /// The entry stays, so that a watch that is not in use yet gets the event.
    has_ended: bool,
    _source: ProcessSource,
}

/// A file, or its holder, that is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Watcher,
    file: Option<(u64, FileSource)>,
    pid: Option<u32>,
    /// The holder may release by a close, which is not an event here.
    needs_close: bool,
}

impl Watch {
    /// The process whose end is an event.
    pub(crate) fn process(&self) -> Option<u32> {
        self.pid
    }

    /// Whether each release by the holder is an event.
    pub(crate) fn watches_file(&self) -> bool {
        self.file.is_some() && !self.needs_close
    }

    /// An event that [`Watcher::wait`] may have returned before this watch was in use.
    pub(crate) fn missed(&self) -> Option<HolderEvent> {
        let watched = self.watcher.watched();
        let has_ended = |pid| watched.processes.get(&pid).is_some_and(|process| process.has_ended);
        if self.pid.is_some_and(has_ended) {
            return Some(HolderEvent::Ended);
        }
        let (file, _) = self.file.as_ref()?;
        watched.files.get(file).is_some_and(|has_changed| *has_changed).then_some(HolderEvent::Changed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.watcher.watched();
        if let Some((file, _)) = &self.file {
            watched.files.remove(file);
        }
        if let Some(pid) = self.pid
            && let Entry::Occupied(mut process) = watched.processes.entry(pid)
        {
            process.get_mut().watches -= 1;
            if process.get().watches == 0 {
                process.remove();
            }
        }
    }
}

/// The result of [`Watcher::watch`].
#[derive(Debug)]
pub(crate) enum Watching {
    Yes(Watch),
    /// The holder has ended.
    Ended,
    /// The system refuses, so that only a timer helps.
    No,
}

impl HolderEvents {
    pub(crate) fn of(&self, watch: &Watch) -> Option<HolderEvent> {
        if watch.pid.is_some_and(|pid| self.ended.contains(&pid)) {
            return Some(HolderEvent::Ended);
        }
        let has_changed = watch.file.as_ref().is_some_and(|(file, _)| self.changed.contains(file));
        (self.lost_some || has_changed).then_some(HolderEvent::Changed)
    }
}

impl Watcher {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { source: Source::new(), watched: Mutex::default() }))
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the sleep of [`Watcher::wait`], now or the next one.
    pub(crate) fn wake(&self) {
        self.0.source.wake();
    }

    /// Watches the file, and the process `pid`, its holder. Compare the file after that: the path may
    /// name another one.
    pub(crate) fn watch(&self, path: &Path, pid: Option<u32>, reports_close: bool) -> Watching {
        let pid = match pid.map(|pid| (pid, self.watch_process(pid))) {
            Some((_, Ok(false))) => return Watching::Ended,
            Some((pid, Ok(true))) => Some(pid),
            _ => None,
        };
        let file = self.watch_file(path);
        if file.is_none() && pid.is_none() {
            return Watching::No;
        }
        Watching::Yes(Watch { watcher: self.clone(), file, pid, needs_close: reports_close && pid.is_none() })
    }

    /// `false`: it has ended.
    fn watch_process(&self, pid: u32) -> io::Result<bool> {
        // The mutex is kept, so that `wait` finds the entry when it has the event.
        match self.watched().processes.entry(pid) {
            Entry::Occupied(known) if known.get().has_ended => return Ok(false),
            Entry::Occupied(mut known) => known.get_mut().watches += 1,
            Entry::Vacant(unknown) => {
                let Some(source) = self.0.source.process(pid)? else { return Ok(false) };
                unknown.insert(SharedProcess { watches: 1, has_ended: false, _source: source });
            }
        }
        Ok(true)
    }

    fn watch_file(&self, path: &Path) -> Option<(u64, FileSource)> {
        let file = {
            let mut watched = self.watched();
            watched.count += 1;
            let file = watched.count;
            watched.files.insert(file, false);
            file
        };
        // Not under the mutex: a disk can hang.
        let source = self.0.source.file(path, file);
        if source.is_none() {
            self.watched().files.remove(&file);
        }
        Some((file, source?))
    }

    /// Sleeps until something has happened, [`Watcher::wake`] was called or `until` has come.
    pub(crate) fn wait(&self, until: Option<Instant>) -> HolderEvents {
        let events = self.0.source.wait(until);
        if !events.is_empty() {
            let mut watched = self.watched();
            for file in &events.changed {
                watched.files.entry(*file).and_modify(|has_changed| *has_changed = true);
            }
            for pid in &events.ended {
                watched.processes.entry(*pid).and_modify(|process| process.has_ended = true);
            }
        }
        events
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, File};
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const LONG: Duration = Duration::from_secs(60);

    fn watched(watcher: &Watcher, path: &Path, pid: Option<u32>) -> Watch {
        match watcher.watch(path, pid, false) {
            Watching::Yes(watch) => watch,
            other => panic!("{other:?}"),
        }
    }

    /// The next event of a watch.
    fn event(watcher: &Watcher, watch: &Watch) -> HolderEvent {
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            if let Some(event) = watcher.wait(Some(end)).of(watch) {
                return event;
            }
        }
        panic!("no event")
    }

    /// A process that runs until it is killed.
    pub(crate) fn child() -> Child {
        let (program, arguments) =
            if cfg!(windows) { ("cmd", ["/c", "pause"]) } else { ("sleep", ["60", "60"]) };
        let (input, output) = (Stdio::piped(), Stdio::null());
        Command::new(program).args(arguments).stdin(input).stdout(output).spawn().expect("a process")
    }

    #[test]
    fn changes_of_the_file_are_events() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        for change in [
            (|path| fs::write(path, "other").expect("written")) as fn(&Path),
            |path| fs::remove_file(path).expect("removed"),
            |path| {
                fs::write(path.with_extension("new"), "new").expect("written");
                fs::rename(path.with_extension("new"), path).expect("replaced");
            },
        ] {
            fs::write(&path, "a record").expect("written");
            let watcher = Watcher::new();
            let watch = watched(&watcher, &path, None);
            assert_eq!(watch.missed(), None);
            change(&path);
            assert_eq!(event(&watcher, &watch), HolderEvent::Changed);
            assert_eq!(watch.missed(), Some(HolderEvent::Changed));
        }
    }

    #[test]
    fn changes_of_other_files_are_no_events() {
        let directory = tempfile::tempdir().expect("a directory");
        let [one, other] = ["one", "other"].map(|name| directory.path().join(name));
        for path in [&one, &other] {
            fs::write(path, "a record").expect("written");
        }
        let watcher = Watcher::new();
        let watches = [&one, &other].map(|path| watched(&watcher, path, None));
        fs::write(directory.path().join("third"), "3").expect("written");
        fs::write(&other, "2").expect("written");
        assert_eq!(event(&watcher, &watches[1]), HolderEvent::Changed);
        assert_eq!(watches[0].missed(), None);
        fs::write(&one, "1").expect("written");
        assert_eq!(event(&watcher, &watches[0]), HolderEvent::Changed);
    }

    #[test]
    fn the_end_of_the_holder_is_an_event() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, watcher) = (directory.path().join("l"), Watcher::new());
        fs::write(&path, "a record").expect("written");
        let mut child = child();
        let pid = child.id();
        let watch = watched(&watcher, &path, Some(pid));
        assert_eq!((watch.process(), watch.missed()), (Some(pid), None));
        child.kill().expect("killed");
        assert_eq!(event(&watcher, &watch), HolderEvent::Ended);
        assert_eq!(watch.missed(), Some(HolderEvent::Ended));
        assert!(matches!(watcher.watch(&path, Some(pid), false), Watching::Ended), "one watch is left");
        child.wait().expect("waited for");
        drop((watch, child));
        assert!(matches!(watcher.watch(&path, Some(pid), false), Watching::Ended));
    }

    #[test]
    fn a_closed_file_is_checked_by_the_clock() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, watcher) = (directory.path().join("l"), Watcher::new());
        fs::write(&path, "a record").expect("written");
        let watches_file = |pid, reports_close| match watcher.watch(&path, pid, reports_close) {
            Watching::Yes(watch) => watch.watches_file(),
            other => panic!("{other:?}"),
        };
        assert!(watches_file(None, false) && !watches_file(None, true));
        assert!(watches_file(Some(std::process::id()), true));
    }

    #[test]
    fn a_file_without_a_watch_is_left_to_the_clock() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, watcher) = (directory.path().join("none").join("l"), Watcher::new());
        assert!(matches!(watcher.watch(&path, None, false), Watching::No));
        let watch = watched(&watcher, &path, Some(std::process::id()));
        assert!(!watch.watches_file() && watch.process().is_some());
    }

    #[test]
    fn a_hundred_watches_leave_no_handle() {
        // A drop waits for a report that is under way.
        let (sender, receiver) = mpsc::channel::<()>();
        let test = thread::spawn(move || {
            watch_and_drop(100);
            drop(sender);
        });
        assert!(receiver.recv_timeout(LONG) != Err(RecvTimeoutError::Timeout), "a deadlock");
        test.join().expect("passed");
    }

    fn watch_and_drop(times: usize) {
        #[cfg(unix)]
        use std::os::fd::AsRawFd as Raw;
        #[cfg(windows)]
        use std::os::windows::io::AsRawHandle as Raw;
        let directory = tempfile::tempdir().expect("a directory");
        let (path, mut child) = (directory.path().join("l"), child());
        fs::write(&path, "a record").expect("written");
        // The system gives the numbers of closed handles again.
        #[cfg(unix)]
        let number = || Raw::as_raw_fd(&File::open(&path).expect("opened")).unsigned_abs() as usize;
        #[cfg(windows)]
        let number = || Raw::as_raw_handle(&File::open(&path).expect("opened")).addr() / 4;
        let watcher = Watcher::new();
        let before = number();
        for _ in 0..times {
            drop([(); 2].map(|()| watched(&watcher, &path, Some(child.id()))));
        }
        assert!(watcher.watched().files.is_empty() && watcher.watched().processes.is_empty());
        // Threads of the system may close the last ones a moment later, and other tests have some.
        assert!(number() < before + times / 2, "{} after {before}", number());
        child.kill().expect("killed");
        child.wait().expect("waited for");
    }

    #[test]
    fn a_wake_ends_one_sleep() {
        let watcher = Watcher::new();
        watcher.wake();
        assert!(watcher.wait(None).is_empty());
        let started = Instant::now();
        assert!(watcher.wait(Some(started + Duration::from_millis(30))).is_empty());
        assert!(started.elapsed() >= Duration::from_millis(30));
    }
}
