//! Waiting on systems whose events are not used: nothing to watch, so the timer alone decides when to try.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::events::HolderEvent;

/// The arrival of a waiter, which is not compared here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival;

impl Arrival {
    pub(crate) fn now() -> Self {
        Self
    }
}

/// A place in the queue of all processes; there is none.
#[derive(Debug)]
pub(crate) struct QueueTicket(Infallible);

impl QueueTicket {
    pub(crate) fn at(_: &Path) -> Option<Self> {
        None
    }
    pub(crate) fn take(&mut self, _: Arrival) {
        match self.0 {}
    }
    pub(crate) fn leave(&mut self) {
        match self.0 {}
    }
    pub(crate) fn move_on(&mut self) {
        match self.0 {}
    }
    pub(crate) fn pass_over(&mut self) {
        match self.0 {}
    }
    pub(crate) fn is_first(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn ahead(&self, _: u32) -> u32 {
        match self.0 {}
    }
    pub(crate) fn has_others(&self) -> bool {
        match self.0 {}
    }
}

/// The condition that one thread sleeps on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watcher(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_woken: Mutex<bool>,
    waker: Condvar,
}

/// A file that is watched; there are none.
#[derive(Debug)]
pub(crate) struct Watch(Infallible);

impl Watch {
    pub(crate) fn process(&self) -> Option<u32> {
        match self.0 {}
    }
    pub(crate) fn watches_file(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn missed(&self) -> Option<HolderEvent> {
        match self.0 {}
    }
}

/// The result of [`Watcher::watch`].
#[derive(Debug)]
#[expect(dead_code, reason = "the other systems' answers")]
pub(crate) enum Watching {
    Yes(Watch),
    Ended,
    No,
}

/// The events of one [`Watcher::wait`]: none.
#[derive(Debug)]
pub(crate) struct HolderEvents;

impl HolderEvents {
    #[expect(clippy::unused_self, reason = "the other systems have events")]
    pub(crate) fn of(&self, watch: &Watch) -> Option<HolderEvent> {
        match watch.0 {}
    }

    #[expect(clippy::unused_self, reason = "the other systems have events")]
    pub(crate) fn is_empty(&self) -> bool {
        true
    }
}

impl Watcher {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Ends the sleep of [`Watcher::wait`], now or the next one.
    pub(crate) fn wake(&self) {
        *self.0.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.waker.notify_one();
    }

    #[expect(clippy::unused_self, reason = "the other systems' watchers watch")]
    pub(crate) fn watch(&self, _: &Path, _: Option<u32>, _: bool) -> Watching {
        Watching::No
    }

    /// Sleeps until [`Watcher::wake`] was called or `until` has come.
    pub(crate) fn wait(&self, until: Option<Instant>) -> HolderEvents {
        let Shared { is_woken, waker } = &*self.0;
        let left =
            until.map_or(Duration::from_secs(3600), |until| until.saturating_duration_since(Instant::now()));
        let woken = is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = waker.wait_timeout_while(woken, left, |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        HolderEvents
    }
}
