//! `kqueue(2)`: events of open files and of processes, and a waker.
#![allow(unsafe_code, reason = "each call has its reason beside it")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::kqueue::{
    Event as Entry, EventFilter, EventFlags, ProcessEvents, UserDefinedFlags, UserFlags, VnodeEvents, kevent,
    kqueue,
};
use rustix::io::{Errno, ioctl_fioclex};
use rustix::process::Pid;

/// The most events of one [`Queue::wait`]. The others follow at the next one.
const EVENTS: usize = 32;

/// An event.
#[derive(Debug)]
pub(super) enum Event {
    /// The file of this number was removed, renamed or written.
    File(u64),
    /// This process has ended.
    Process(u32),
    Woken,
}

/// A queue of events.
#[derive(Debug)]
pub(super) struct Queue(OwnedFd);

impl Queue {
    pub(super) fn new() -> io::Result<Self> {
        let queue = Self(kqueue()?);
        ioctl_fioclex(&queue.0)?;
        queue.change(waker(UserFlags::empty()), EventFlags::ADD | EventFlags::CLEAR, 0)?;
        Ok(queue)
    }

    /// Ends a [`Queue::wait`], now or the next one.
    pub(super) fn wake(&self) {
        let _ = self.change(waker(UserFlags::TRIGGER), EventFlags::empty(), 0);
    }

    /// Reports changes of an open file until [`Queue::remove_file`], which comes before its close.
    pub(super) fn add_file(&self, file: &OwnedFd, number: u64) -> io::Result<()> {
        self.change(changes(file), EventFlags::ADD | EventFlags::CLEAR, number)
    }

    pub(super) fn remove_file(&self, file: &OwnedFd) {
        let _ = self.change(changes(file), EventFlags::DELETE, 0);
    }

    /// Reports the end of a process, once. `ESRCH`: it has ended.
    pub(super) fn add_process(&self, pid: u32) -> io::Result<()> {
        self.change(exit(pid)?, EventFlags::ADD | EventFlags::ONESHOT, 0)
    }

    pub(super) fn remove_process(&self, pid: u32) {
        if let Ok(exit) = exit(pid) {
            let _ = self.change(exit, EventFlags::DELETE, 0);
        }
    }

    fn change(&self, filter: EventFilter, flags: EventFlags, number: u64) -> io::Result<()> {
        let number = usize::try_from(number).map_err(io::Error::other)?;
        let change = Entry::new(filter, flags, ptr::without_provenance_mut(number));
        let nothing: &mut [Entry] = &mut [];
        // SAFETY: the descriptor of the change is open, and its entry is removed before it is closed.
        unsafe { kevent(&self.0, &[change], nothing, Some(Duration::ZERO)) }?;
        Ok(())
    }

    /// Sleeps until an event has come, or for `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Event>> {
        let mut entries = Vec::with_capacity(EVENTS);
        // SAFETY: the call names no descriptor.
        unsafe { kevent(&self.0, &[], spare_capacity(&mut entries), timeout) }?;
        Ok(entries.iter().map(event).collect())
    }
}

fn waker(flags: UserFlags) -> EventFilter {
    EventFilter::User { ident: 0, flags, user_flags: UserDefinedFlags::new(0) }
}

fn changes(file: &OwnedFd) -> EventFilter {
    let flags = VnodeEvents::DELETE
        | VnodeEvents::WRITE
        | VnodeEvents::EXTEND
        | VnodeEvents::ATTRIBUTES
        | VnodeEvents::LINK
        | VnodeEvents::RENAME
        | VnodeEvents::REVOKE;
    EventFilter::Vnode { vnode: file.as_raw_fd(), flags }
}

fn exit(pid: u32) -> io::Result<EventFilter> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
    Ok(EventFilter::Proc { pid, flags: ProcessEvents::EXIT })
}

fn event(entry: &Entry) -> Event {
    match entry.filter() {
        EventFilter::User { .. } => Event::Woken,
        EventFilter::Proc { pid, .. } => Event::Process(pid.as_raw_nonzero().get().unsigned_abs()),
        _ => Event::File(entry.udata().addr() as u64),
    }
}
