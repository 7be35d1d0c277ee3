//! The events of waiting, by `kqueue(2)`: `EVFILT_VNODE` of lock files, `EVFILT_PROC` of their holders, `EVFILT_USER` to
//! be woken.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::kqueue::{Event, Queue};
use crate::platform::events::HolderEvents;
use crate::pool;

/// The longest sleep if no event can end it: descriptors have run out.
const WITHOUT_QUEUE: Duration = Duration::from_millis(10);

/// How long to sleep after an error of `kevent(2)`.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// The queue that one thread sleeps on; `None`: descriptors have run out.
#[derive(Debug)]
pub(in crate::platform) struct Source(Option<Arc<Queue>>);

/// A file that is open for its events. They end when this is dropped.
#[derive(Debug)]
pub(in crate::platform) struct FileSource {
    queue: Arc<Queue>,
    /// `None` after the drop has begun.
    file: Option<OwnedFd>,
}

impl Drop for FileSource {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        self.queue.remove_file(&file);
        // The caller may have a mutex. A close can free the blocks of a removed file, and a disk can hang.
        pool::submit_detached(Box::new(move || drop(file)));
    }
}

/// A process whose end is an event until this is dropped.
#[derive(Debug)]
pub(in crate::platform) struct ProcessSource {
    queue: Arc<Queue>,
    pid: u32,
}

impl Drop for ProcessSource {
    fn drop(&mut self) {
        self.queue.remove_process(self.pid);
    }
}

impl Source {
    pub(in crate::platform) fn new() -> Self {
        Self(Queue::new().ok().map(Arc::new))
    }

    /// Ends the sleep of [`Source::wait`], now or the next one.
    pub(in crate::platform) fn wake(&self) {
        if let Some(queue) = &self.0 {
            queue.wake();
        }
    }

    /// Reports changes of the file by this number. `None`: the system refuses.
    pub(in crate::platform) fn file(&self, path: &Path, number: u64) -> Option<FileSource> {
        // `O_EVTONLY` of `open(2)`: the volume can be unmounted meanwhile.
        let only_events = OFlags::from_bits_retain(libc::O_EVTONLY.cast_unsigned());
        let flags = only_events | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let queue = self.0.clone()?;
        let file = openat(CWD, path, flags, Mode::empty()).ok()?;
        queue.add_file(&file, number).ok()?;
        Some(FileSource { queue, file: Some(file) })
    }

    /// Reports the end of a process. `None`: it has ended.
    pub(in crate::platform) fn process(&self, pid: u32) -> io::Result<Option<ProcessSource>> {
        let queue = self.0.clone().ok_or(Errno::MFILE)?;
        match queue.add_process(pid) {
            Ok(()) => Ok(Some(ProcessSource { queue, pid })),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sleeps until an event has come, [`Source::wake`] was called or `until` has come.
    pub(in crate::platform) fn wait(&self, until: Option<Instant>) -> HolderEvents {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut events = HolderEvents::default();
        let Some(queue) = &self.0 else {
            thread::sleep(left.unwrap_or(WITHOUT_QUEUE).min(WITHOUT_QUEUE));
            return events;
        };
        match queue.wait(left) {
            Ok(found) => {
                for event in found {
                    match event {
                        Event::File(number) => events.changed.push(number),
                        Event::Process(pid) => events.ended.push(pid),
                        Event::Woken => {}
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                thread::sleep(AFTER_ERROR);
                events.lost_some = true;
            }
        }
        events
    }
}
