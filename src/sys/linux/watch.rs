//! Sleeping until something can have changed: `inotify(7)` on lock files, `pidfd_open(2)` on their holders,
//! `eventfd(2)` to be woken, all in one `poll(2)`.

use std::collections::hash_map::Entry;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::stake::Stake;
use crate::map::{Map, Set};

/// How long to sleep at most where nothing can wake us: descriptors have run out.
const DEAF: Duration = Duration::from_millis(10);

/// How long to sleep where the system cannot even tell what has happened.
const SICK: Duration = Duration::from_millis(50);

/// Wakes the thread that sleeps in [`Watcher::wait`].
#[derive(Debug, Clone)]
pub(crate) struct Bell(Option<Arc<OwnedFd>>);

impl Bell {
    pub(crate) fn ring(&self) {
        if let Some(bell) = &self.0 {
            // It fails only if 2^64 - 2 rings were not heard.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }
}

/// What one thread sleeps on.
#[derive(Debug)]
pub(crate) struct Watcher {
    bell: Bell,
    inotify: Option<OwnedFd>,
    /// How many watches share a descriptor: two paths can lead to one file.
    files: Map<i32, u32>,
    processes: Map<u32, (OwnedFd, u32)>,
}

/// A file and its holder that are watched; [`Watcher::forget`] ends that.
#[derive(Debug)]
pub(crate) struct Watch {
    file: Option<i32>,
    pid: Option<u32>,
}

impl Watch {
    /// Whether the holder's end is a signal.
    pub(crate) fn sees_its_holder(&self) -> bool {
        self.pid.is_some()
    }

    /// Whether a change of the file is a signal. Watches of files can run out, those of processes hardly.
    pub(crate) fn sees_its_file(&self) -> bool {
        self.file.is_some()
    }
}

/// How [`Watcher::watch`] went.
#[derive(Debug)]
pub(crate) enum Watched {
    Yes(Watch),
    /// The holder has ended.
    Ended,
    /// The system refuses, so that only a timer helps.
    No,
}

/// What [`Watcher::wait`] has heard.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    changed: Set<i32>,
    closed: Set<i32>,
    ended: Set<u32>,
    lost_some: bool,
}

/// What a signal means for a watched file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The file was removed, replaced, moved or written to, or events were lost.
    Changed,
    /// The holder's process has ended.
    Ended,
    /// Somebody closed the file, who may have been its holder.
    Closed,
}

impl Signals {
    pub(crate) fn of(&self, watch: &Watch) -> Option<Signal> {
        if watch.pid.is_some_and(|pid| self.ended.contains(&pid)) {
            Some(Signal::Ended)
        } else if self.lost_some || watch.file.is_some_and(|file| self.changed.contains(&file)) {
            Some(Signal::Changed)
        } else {
            watch.file.is_some_and(|file| self.closed.contains(&file)).then_some(Signal::Closed)
        }
    }
}

impl Watcher {
    pub(crate) fn new() -> Self {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok().map(Arc::new);
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Self { bell: Bell(bell), inotify, files: Map::default(), processes: Map::default() }
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Watches the file, and its holder if that `can_end`.
    pub(crate) fn watch(&mut self, path: &Path, stake: &Stake, can_end: bool) -> Watched {
        let pid = match stake.pid().filter(|_| can_end).map(|pid| (pid, self.watch_process(pid))) {
            Some((_, Err(Errno::SRCH))) => return Watched::Ended,
            Some((pid, Ok(()))) => Some(pid),
            _ => None,
        };
        let file = self.watch_file(path, stake, pid.is_some());
        if let Some(file) = file {
            *self.files.entry(file).or_default() += 1;
        }
        if file.is_none() && pid.is_none() { Watched::No } else { Watched::Yes(Watch { file, pid }) }
    }

    fn watch_process(&mut self, pid: u32) -> rustix::io::Result<()> {
        match self.processes.entry(pid) {
            Entry::Occupied(mut known) => known.get_mut().1 += 1,
            Entry::Vacant(unknown) => {
                let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
                unknown.insert((pidfd_open(id, PidfdFlags::empty())?, 1));
            }
        }
        Ok(())
    }

    fn watch_file(&self, path: &Path, stake: &Stake, sees_its_holder: bool) -> Option<i32> {
        let mut events =
            WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::MODIFY;
        if !sees_its_holder && stake.was_locked() {
            // Whoever tries to acquire closes the file too, so this is for holders that cannot be watched.
            events |= WatchFlags::CLOSE_WRITE;
        }
        // The path may name another file by now, as the look that follows each watch tells.
        let flags = events | WatchFlags::MASK_ADD | WatchFlags::DONT_FOLLOW;
        inotify::add_watch(self.inotify.as_ref()?, path, flags).ok()
    }

    pub(crate) fn forget(&mut self, watch: &Watch) {
        self.forget_process(watch.pid);
        let Some(file) = watch.file else { return };
        let Some(count) = self.files.get_mut(&file) else { return };
        *count -= 1;
        if *count == 0 {
            self.files.remove(&file);
            if let Some(inotify) = &self.inotify {
                let _ = inotify::remove_watch(inotify, file);
            }
        }
    }

    fn forget_process(&mut self, pid: Option<u32>) {
        let Some(pid) = pid else { return };
        let Some((_, count)) = self.processes.get_mut(&pid) else { return };
        *count -= 1;
        if *count == 0 {
            self.processes.remove(&pid);
        }
    }

    /// Sleeps until something has happened, the bell has rung or `until` has come.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> Signals {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Without a bell nobody can wake us.
        let left = if self.bell.0.is_some() { left } else { Some(left.unwrap_or(DEAF).min(DEAF)) };
        let own = self.bell.0.as_deref().into_iter().chain(&self.inotify);
        let mut fds: Vec<PollFd<'_>> = own.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let first = fds.len();
        let (pids, processes): (Vec<u32>, Vec<_>) = self
            .processes
            .iter()
            .map(|(pid, (process, _))| (*pid, PollFd::new(process, PollFlags::IN)))
            .unzip();
        fds.extend(processes);
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Signals::default(),
            Err(_) => {
                thread::sleep(SICK);
                return Signals { lost_some: true, ..Signals::default() };
            }
        }
        if let Some(bell) = &self.bell.0 {
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
        let ended = pids.into_iter().zip(&fds[first..]).filter(|(_, fd)| !fd.revents().is_empty());
        let ended: Vec<u32> = ended.map(|(pid, _)| pid).collect();
        self.heard(&ended)
    }

    fn heard(&mut self, ended: &[u32]) -> Signals {
        let mut signals = Signals::default();
        for pid in ended {
            // It stays readable for ever.
            self.processes.remove(pid);
            signals.ended.insert(*pid);
        }
        let Some(inotify) = &self.inotify else { return signals };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify.as_fd(), &mut buffer);
        while let Ok(event) = events.next() {
            let what = event.events();
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                signals.lost_some = true;
            } else if what.contains(ReadFlags::CLOSE_WRITE) {
                signals.closed.insert(event.wd());
            } else if !what.contains(ReadFlags::IGNORED) {
                signals.changed.insert(event.wd());
            }
        }
        signals
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn without_a_bell_the_end_of_a_holder_and_a_change_of_its_file_are_heard() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let record = |pid| format!(r#"{{"pid":{pid},"createdAt":1}}"#);
        std::fs::write(file.path(), record(child.id())).expect("written");
        let stake = Stake::open(file.path()).expect("a local file");
        let mut deaf = Watcher { bell: Bell(None), ..Watcher::new() };
        let Watched::Yes(watch) = deaf.watch(file.path(), &stake, true) else { panic!("watched") };
        let mut heard = |wanted| {
            let started = Instant::now();
            while started.elapsed() < LONG {
                let signal = deaf.wait(None).of(&watch);
                if signal.is_some() {
                    return assert_eq!(signal, Some(wanted));
                }
            }
            panic!("nothing was heard");
        };
        std::fs::write(file.path(), record(1)).expect("written");
        heard(Signal::Changed);
        child.kill().expect("killed");
        heard(Signal::Ended);
        child.wait().expect("waited for");
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_watched() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"pid":1,"createdAt":1}"#).expect("written");
        let stake = Stake::open(file.path()).expect("a local file");
        let mut watcher = Watcher::new();
        let seen = |watcher: &Watcher| {
            let inotify = watcher.inotify.as_ref().expect("there is one").as_raw_fd();
            let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{inotify}")).expect("readable");
            (about.matches("inotify wd:").count(), watcher.processes.len())
        };
        let both = [(); 2].map(|()| match watcher.watch(file.path(), &stake, true) {
            Watched::Yes(watch) => watch,
            other => panic!("{other:?}"),
        });
        assert_eq!(seen(&watcher), (1, 1), "two watches of one file are one");
        watcher.forget(&both[0]);
        assert_eq!(seen(&watcher), (1, 1), "the other one goes on");
        watcher.forget(&both[1]);
        assert_eq!(seen(&watcher), (0, 0));
    }

    #[test]
    fn lost_events_may_have_been_anybodys() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"pid":1,"createdAt":1}"#).expect("written");
        let stake = Stake::open(file.path()).expect("a local file");
        let Watched::Yes(watch) = Watcher::new().watch(file.path(), &stake, false) else { panic!("watched") };
        assert_eq!(Signals::default().of(&watch), None);
        let lost = Signals { lost_some: true, ..Signals::default() };
        assert_eq!(lost.of(&watch), Some(Signal::Changed));
    }
}
