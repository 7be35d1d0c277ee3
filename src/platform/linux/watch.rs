//! Sleeping until something can have changed: `inotify(7)` on lock files, `pidfd_open(2)` on their holders,
//! `eventfd(2)` to be woken, all in one `poll(2)`.

use std::collections::hash_map::Entry;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::map::Map;
use crate::platform::events::HolderEvent;

/// The longest sleep if no event can end it: descriptors have run out.
const WITHOUT_EVENTFD: Duration = Duration::from_millis(10);

/// How long to sleep after an error of `poll(2)`.
const AFTER_POLL_ERROR: Duration = Duration::from_millis(50);

/// The descriptors that one thread sleeps on, and others add to.
#[derive(Debug, Clone)]
pub(crate) struct Watcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Ends the sleep.
    waker: Option<OwnedFd>,
    inotify: Option<OwnedFd>,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// By descriptor of `inotify(7)`.
    files: Map<i32, SharedFile>,
    processes: Map<u32, SharedProcess>,
    /// Of processes without a watch. The next sleep closes them: that takes 20 us, and an attempt would have to wait for it.
    closing: Vec<Arc<OwnedFd>>,
    /// How many descriptors of `inotify(7)` were removed.
    removed: u64,
}

/// A watched file. Two paths can lead to it.
#[derive(Debug, Default)]
struct SharedFile {
    watches: u32,
    changes: u64,
}

#[derive(Debug)]
struct SharedProcess {
    watches: u32,
    /// `None`: it has ended. The entry stays, so that a watch that is not in use yet gets the event.
    pidfd: Option<Arc<OwnedFd>>,
}

/// A file, or its holder, that is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Watcher,
    file: Option<i32>,
    /// How many changes the file had before.
    changes: u64,
    pid: Option<u32>,
}

impl Watch {
    /// The process whose end is an event.
    pub(crate) fn process(&self) -> Option<u32> {
        self.pid
    }

    /// Whether a change of the file is an event. Watches of files can run out, those of processes rarely do.
    pub(crate) fn watches_file(&self) -> bool {
        self.file.is_some()
    }

    /// An event that [`Watcher::wait`] may have returned before this watch was in use.
    pub(crate) fn missed(&self) -> Option<HolderEvent> {
        let watched = self.watcher.watched();
        let has_ended = |pid| watched.processes.get(&pid).is_none_or(|process| process.pidfd.is_none());
        let has_changed = |file| watched.files.get(&file).is_none_or(|file| file.changes != self.changes);
        if self.pid.is_some_and(has_ended) {
            Some(HolderEvent::Ended)
        } else {
            self.file.is_some_and(has_changed).then_some(HolderEvent::Changed)
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watcher.forget(self.file, self.pid);
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

/// The events of one [`Watcher::wait`].
#[derive(Debug, Default)]
pub(crate) struct HolderEvents {
    changed: Vec<i32>,
    closed: Vec<i32>,
    ended: Vec<u32>,
    lost_some: bool,
}

impl HolderEvents {
    pub(crate) fn of(&self, watch: &Watch) -> Option<HolderEvent> {
        if watch.pid.is_some_and(|pid| self.ended.contains(&pid)) {
            Some(HolderEvent::Ended)
        } else if self.lost_some || watch.file.is_some_and(|file| self.changed.contains(&file)) {
            Some(HolderEvent::Changed)
        } else {
            watch.file.is_some_and(|file| self.closed.contains(&file)).then_some(HolderEvent::Closed)
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.lost_some && self.changed.is_empty() && self.closed.is_empty() && self.ended.is_empty()
    }
}

impl Watcher {
    pub(crate) fn new() -> Self {
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Self(Arc::new(Shared { waker, inotify, watched: Mutex::default() }))
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the sleep of [`Watcher::wait`], now or the next one.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.0.waker {
            // It fails only if 2^64 - 2 wakes were not noticed.
            let _ = rustix::io::write(waker, &1_u64.to_ne_bytes());
        }
    }

    /// Watches the file, and the process `pid`, its holder. Compare the file after that: the path may
    /// name another one.
    pub(crate) fn watch(&self, path: &Path, pid: Option<u32>, reports_close: bool) -> Watching {
        let pid = match pid.map(|pid| (pid, self.watch_process(pid))) {
            Some((_, Err(Errno::SRCH))) => return Watching::Ended,
            Some((pid, Ok(()))) => Some(pid),
            _ => None,
        };
        // Every attempt to acquire closes the file too, so this is for holders that cannot be watched.
        let file = self.watch_file(path, reports_close && pid.is_none());
        if file.is_none() && pid.is_none() {
            return Watching::No;
        }
        let (file, changes) = file.unzip();
        Watching::Yes(Watch { watcher: self.clone(), file, changes: changes.unwrap_or(0), pid })
    }

    fn watch_process(&self, pid: u32) -> rustix::io::Result<()> {
        let mut watched = self.watched();
        match watched.processes.entry(pid) {
            Entry::Occupied(known) if known.get().pidfd.is_none() => return Err(Errno::SRCH),
            Entry::Occupied(mut known) => known.get_mut().watches += 1,
            Entry::Vacant(unknown) => {
                let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
                let pidfd = Some(Arc::new(pidfd_open(id, PidfdFlags::empty())?));
                unknown.insert(SharedProcess { watches: 1, pidfd });
                drop(watched);
                // The sleep has begun without it.
                self.wake();
            }
        }
        Ok(())
    }

    /// The descriptor, and how many changes the file had.
    fn watch_file(&self, path: &Path, reports_close: bool) -> Option<(i32, u64)> {
        let inotify = self.0.inotify.as_ref()?;
        let events =
            WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::MODIFY;
        let close = if reports_close { WatchFlags::CLOSE_WRITE } else { WatchFlags::empty() };
        let flags = events | close | WatchFlags::MASK_ADD | WatchFlags::DONT_FOLLOW;
        loop {
            let removed = self.watched().removed;
            // Not under the mutex: a disk can hang.
            let file = inotify::add_watch(inotify, path, flags).ok()?;
            let mut watched = self.watched();
            // Another path's watch of the same file may have been removed meanwhile, and this one with it.
            if watched.removed == removed {
                let shared = watched.files.entry(file).or_default();
                shared.watches += 1;
                return Some((file, shared.changes));
            }
        }
    }

    fn forget(&self, file: Option<i32>, pid: Option<u32>) {
        let mut watched = self.watched();
        if let Some(pid) = pid
            && let Some(process) = watched.processes.get_mut(&pid)
        {
            process.watches -= 1;
            if process.watches == 0 {
                let process = watched.processes.remove(&pid);
                watched.closing.extend(process.and_then(|process| process.pidfd));
            }
        }
        if let Some(file) = file
            && let Some(shared) = watched.files.get_mut(&file)
        {
            shared.watches -= 1;
            if shared.watches == 0 {
                watched.files.remove(&file);
                watched.removed += 1;
                if let Some(inotify) = &self.0.inotify {
                    let _ = inotify::remove_watch(inotify, file);
                }
            }
        }
    }

    /// Sleeps until something has happened, [`Watcher::wake`] was called or `until` has come.
    pub(crate) fn wait(&self, until: Option<Instant>) -> HolderEvents {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = if self.0.waker.is_some() {
            left
        } else {
            Some(left.unwrap_or(WITHOUT_EVENTFD).min(WITHOUT_EVENTFD))
        };
        // Held, so that no number can be that of another file before the sleep is over.
        let pidfd_of = |(pid, process): (&u32, &SharedProcess)| Some((*pid, process.pidfd.clone()?));
        let (closing, processes): (_, Vec<(u32, Arc<OwnedFd>)>) = {
            let mut watched = self.watched();
            (mem::take(&mut watched.closing), watched.processes.iter().filter_map(pidfd_of).collect())
        };
        drop(closing);
        let own = self.0.waker.iter().chain(&self.0.inotify);
        let mut fds: Vec<PollFd<'_>> = own.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let first = fds.len();
        fds.extend(processes.iter().map(|(_, process)| PollFd::new(process, PollFlags::IN)));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return HolderEvents::default(),
            Err(_) => {
                thread::sleep(AFTER_POLL_ERROR);
                return HolderEvents { lost_some: true, ..HolderEvents::default() };
            }
        }
        let is_ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        if let Some(waker) = self.0.waker.as_ref().filter(|_| is_ready(0)) {
            let _ = rustix::io::read(waker, &mut [0; 8]);
        }
        let mut events = HolderEvents::default();
        for (index, (pid, _)) in processes.iter().enumerate() {
            if is_ready(first + index) {
                if let Some(process) = self.watched().processes.get_mut(pid) {
                    // It would stay readable.
                    process.pidfd = None;
                }
                events.ended.push(*pid);
            }
        }
        if let Some(inotify) = self.0.inotify.as_ref().filter(|_| is_ready(first - 1)) {
            events.read(inotify, &mut self.watched());
        }
        events
    }
}

impl HolderEvents {
    fn read(&mut self, inotify: &OwnedFd, watched: &mut Watched) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify.as_fd(), &mut buffer);
        while let Ok(event) = events.next() {
            let what = event.events();
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.lost_some = true;
            } else if what.contains(ReadFlags::CLOSE_WRITE) {
                self.closed.push(event.wd());
            } else if what.contains(ReadFlags::IGNORED) {
                // The file is gone, and the kernel has removed the watch.
                watched.files.remove(&event.wd());
                watched.removed += 1;
            } else {
                if let Some(file) = watched.files.get_mut(&event.wd()) {
                    file.changes += 1;
                }
                self.changed.push(event.wd());
            }
            // Another read would mostly find nothing. Further events end the next sleep.
            if events.is_buffer_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn watched(watcher: &Watcher, path: &Path) -> Watch {
        match watcher.watch(path, None, false) {
            Watching::Yes(watch) => watch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_arrive_without_a_waker() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let record = |pid| format!(r#"{{"pid":{pid},"createdAt":1}}"#);
        std::fs::write(file.path(), record(child.id())).expect("written");
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let deaf = Watcher(Arc::new(Shared { waker: None, inotify, watched: Mutex::default() }));
        let Watching::Yes(watch) = deaf.watch(file.path(), Some(child.id()), false) else {
            panic!("watched")
        };
        let expect_event = |expected| {
            let started = Instant::now();
            while started.elapsed() < LONG {
                let signal = deaf.wait(None).of(&watch);
                if signal.is_some() {
                    return assert_eq!(signal, Some(expected));
                }
            }
            panic!("no event");
        };
        std::fs::write(file.path(), record(1)).expect("written");
        expect_event(HolderEvent::Changed);
        child.kill().expect("killed");
        expect_event(HolderEvent::Ended);
        child.wait().expect("waited for");
    }

    #[test]
    fn dropping_the_last_watch_removes_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"pid":1,"createdAt":1}"#).expect("written");
        let watcher = Watcher::new();
        let seen = |watcher: &Watcher| {
            let inotify = watcher.0.inotify.as_ref().expect("there is one").as_raw_fd();
            let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{inotify}")).expect("readable");
            (about.matches("inotify wd:").count(), watcher.watched().processes.len())
        };
        let [one, other] = [(); 2].map(|()| match watcher.watch(file.path(), Some(1), false) {
            Watching::Yes(watch) => watch,
            other => panic!("{other:?}"),
        });
        assert_eq!(seen(&watcher), (1, 1), "two watches of one file are one");
        drop(one);
        assert_eq!(seen(&watcher), (1, 1), "the other watch is not affected");
        drop(other);
        assert_eq!(seen(&watcher), (0, 0));
        let process = Arc::downgrade(&watcher.watched().closing[0]);
        watcher.wake();
        watcher.wait(None);
        assert!(watcher.watched().closing.is_empty());
        assert!(process.upgrade().is_none(), "the next sleep closes the descriptor of the process");
    }

    #[test]
    fn a_watch_returns_events_from_before_its_use() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let watcher = Watcher::new();
        let watch = |pid| watcher.watch(file.path(), pid, false);
        let [Watching::Yes(of_process), Watching::Yes(of_file)] = [watch(Some(child.id())), watch(None)]
        else {
            panic!("watched")
        };
        assert_eq!([of_process.missed(), of_file.missed()], [None, None]);
        std::fs::write(file.path(), "changed").expect("written");
        while watcher.wait(None).changed.is_empty() {}
        assert_eq!(of_file.missed(), Some(HolderEvent::Changed));
        let Watching::Yes(later) = watch(None) else { panic!("watched") };
        assert_eq!(later.missed(), None, "the change was before");
        child.kill().expect("killed");
        while watcher.wait(None).ended.is_empty() {}
        assert_eq!(of_process.missed(), Some(HolderEvent::Ended));
        assert!(
            matches!(watch(Some(child.id())), Watching::Ended),
            "one watch is left, which sends no event"
        );
        drop(of_process);
        assert!(matches!(watch(Some(child.id())), Watching::Yes(_)), "a zombie");
        child.wait().expect("waited for");
        assert!(matches!(watch(Some(child.id())), Watching::Ended), "no process has the number");
    }

    #[test]
    fn an_overflow_of_events_counts_as_a_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let [one, two, last] = ["one", "two", "last"].map(|name| directory.path().join(name));
        let watcher = Watcher::new();
        let [_one, _two, of_last] = [&one, &two, &last].map(|path| {
            std::fs::write(path, "").expect("written");
            watched(&watcher, path)
        });
        let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("read");
        let limit = limit.trim().parse::<u64>().expect("a number");
        // The kernel merges equal events in succession, so the two files take turns.
        let files = [&one, &two].map(|path| std::fs::File::create(path).expect("opened"));
        for number in 0..=limit {
            for file in &files {
                rustix::io::pwrite(file, b"x", number).expect("written");
            }
        }
        std::fs::write(&last, "its event is lost").expect("written");
        let started = Instant::now();
        let is_reported = || watcher.wait(Some(started + LONG)).of(&of_last) == Some(HolderEvent::Changed);
        while !is_reported() {
            assert!(started.elapsed() < LONG, "no event");
        }
    }

    #[test]
    fn a_watch_without_close_keeps_that_of_another() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let watcher = Watcher::new();
        let both = [true, false].map(|reports_close| watcher.watch(file.path(), None, reports_close));
        let [Watching::Yes(of_close), Watching::Yes(_other)] = both else { panic!("watched") };
        drop(std::fs::OpenOptions::new().append(true).open(file.path()).expect("opened"));
        assert_eq!(watcher.wait(Some(Instant::now() + LONG)).of(&of_close), Some(HolderEvent::Closed));
    }

    #[test]
    fn a_close_is_no_event_if_the_holder_is_watched() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let watcher = Watcher::new();
        let Watching::Yes(_watch) = watcher.watch(file.path(), Some(1), true) else { panic!("watched") };
        assert!(watcher.wait(Some(Instant::now() + LONG)).is_empty(), "the new process");
        drop(std::fs::OpenOptions::new().append(true).open(file.path()).expect("opened"));
        assert!(watcher.wait(Some(Instant::now() + Duration::from_millis(50))).is_empty());
    }

    #[test]
    fn a_watch_survives_the_end_of_another() {
        const ROUNDS: usize = 20_000;
        let file = tempfile::NamedTempFile::new().expect("a file");
        let watcher = Watcher::new();
        let inotify = watcher.0.inotify.as_ref().expect("there is one").as_raw_fd();
        let about = format!("/proc/self/fdinfo/{inotify}");
        // The threads have the same watch of the kernel, which one removes while the other adds it.
        thread::scope(|scope| {
            scope.spawn(|| (0..ROUNDS).for_each(|_| drop(watched(&watcher, file.path()))));
            for round in 0..ROUNDS {
                let _watch = watched(&watcher, file.path());
                let about = std::fs::read_to_string(&about).expect("readable");
                assert!(about.contains("inotify wd:"), "round {round}");
            }
        });
    }

    #[test]
    fn a_process_is_watched_by_the_sleep_under_way() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let watcher = Watcher::new();
        let started = Instant::now();
        // It is kept, because the end of a watch is an event too.
        let _watch = thread::scope(|scope| {
            scope.spawn(|| watcher.wait(Some(started + LONG)));
            watcher.watch(file.path(), Some(1), false)
        });
        assert!(started.elapsed() < LONG, "the end of the process would not end that sleep");
    }

    #[test]
    fn each_change_of_a_file_is_an_event() {
        type Change = fn(&Path) -> std::io::Result<()>;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("l");
        let changes: [(&str, Change); 3] = [
            ("written", |path| std::fs::write(path, "other")),
            ("moved", |path| std::fs::rename(path, path.with_extension("moved"))),
            ("removed", |path| std::fs::remove_file(path)),
        ];
        // A removed file and its watch stay until each process has closed it.
        for (is_open, (what, change)) in
            [false, true].into_iter().flat_map(|open| changes.map(|it| (open, it)))
        {
            std::fs::write(&path, "a record").expect("written");
            let _open = is_open.then(|| std::fs::File::open(&path).expect("opened"));
            let watcher = Watcher::new();
            let watch = watched(&watcher, &path);
            change(&path).expect(what);
            let event = watcher.wait(Some(Instant::now() + LONG)).of(&watch);
            assert_eq!(event, Some(HolderEvent::Changed), "{what}");
            assert_eq!(watch.missed(), Some(HolderEvent::Changed), "{what}");
        }
    }

    #[test]
    fn lost_events_count_as_a_change_of_every_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"pid":1,"createdAt":1}"#).expect("written");
        let Watching::Yes(watch) = Watcher::new().watch(file.path(), None, false) else { panic!("watched") };
        assert_eq!(HolderEvents::default().of(&watch), None);
        let lost = HolderEvents { lost_some: true, ..HolderEvents::default() };
        assert_eq!(lost.of(&watch), Some(HolderEvent::Changed));
    }
}
