//! Waiting on systems whose events are not used: nothing to watch, so the timer alone decides when to try.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When a waiter came. Nobody compares it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank;

impl Rank {
    pub(crate) fn now() -> Self {
        Self
    }
}

/// A lock file that somebody holds; there is nothing to look at.
#[derive(Debug)]
pub(crate) struct Stake(Infallible);

impl Stake {
    pub(crate) fn open(_: &Path) -> Option<Self> {
        None
    }
    pub(crate) fn pid(&self) -> Option<u32> {
        match self.0 {}
    }
    pub(crate) fn was_locked(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn is_current(&self, _: &Path) -> bool {
        match self.0 {}
    }
    pub(crate) fn is_locked_as_before(&self, _: &Path) -> bool {
        match self.0 {}
    }
}

/// A place in a queue; there is none.
#[derive(Debug)]
pub(crate) struct Place(Infallible);

impl Place {
    pub(crate) fn at(_: &Path) -> Option<Self> {
        None
    }
    pub(crate) fn take(&mut self, _: Rank) {
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
    pub(crate) fn has_others(&self) -> bool {
        match self.0 {}
    }
}

#[derive(Debug, Default)]
struct Rung {
    yes: Mutex<bool>,
    tell: Condvar,
}

/// Wakes the thread that sleeps in [`Watcher::wait`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<Rung>);

impl Bell {
    pub(crate) fn ring(&self) {
        *self.0.yes.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.tell.notify_one();
    }
}

/// What one thread sleeps on.
#[derive(Debug)]
pub(crate) struct Watcher {
    bell: Bell,
}

/// A file that is watched; there are none.
#[derive(Debug)]
pub(crate) struct Watch(Infallible);

impl Watch {
    pub(crate) fn sees_its_holder(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn sees_its_file(&self) -> bool {
        match self.0 {}
    }
}

/// How [`Watcher::watch`] went.
#[derive(Debug)]
#[expect(dead_code, reason = "the other systems' answers")]
pub(crate) enum Watched {
    Yes(Watch),
    Ended,
    No,
}

/// What [`Watcher::wait`] has heard: nothing.
#[derive(Debug)]
pub(crate) struct Signals;

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(dead_code, reason = "the other systems' signals")]
pub(crate) enum Signal {
    Changed,
    Ended,
    Closed,
}

impl Signals {
    #[expect(clippy::unused_self, reason = "the other systems' signals tell")]
    pub(crate) fn of(&self, watch: &Watch) -> Option<Signal> {
        match watch.0 {}
    }
}

impl Watcher {
    pub(crate) fn new() -> Self {
        Self { bell: Bell::default() }
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    #[expect(clippy::unused_self, reason = "the other systems' watchers watch")]
    pub(crate) fn watch(&mut self, _: &Path, stake: &Stake, _: bool) -> Watched {
        match stake.0 {}
    }

    #[expect(clippy::unused_self, reason = "the other systems' watchers forget")]
    pub(crate) fn forget(&mut self, watch: &Watch) {
        match watch.0 {}
    }

    /// Sleeps until the bell has rung or `until` has come.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> Signals {
        let Rung { yes, tell } = &*self.bell.0;
        let left =
            until.map_or(Duration::from_secs(3600), |until| until.saturating_duration_since(Instant::now()));
        let rung = yes.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = tell.wait_timeout_while(rung, left, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        Signals
    }
}
