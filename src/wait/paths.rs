//! All paths with waiters, and the work that is due. It uses no file and no clock.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::job::{Done, Job, Now, Platform, Waiter};
use super::path_waiters::PathWaiters;
use super::request::{LastRefusal, WaiterId};
use crate::map::PathHasher;
use crate::platform::HolderEvent;

pub(super) struct Paths<P: Platform> {
    paths: HashMap<PathBuf, PathWaiters<P>, PathHasher>,
    epoch: Option<Instant>,
}

/// The work that is due, and how long to sleep after that.
pub(super) struct Tick<P: Platform> {
    /// The waiters whose deadline has come, with the last refusal.
    pub(super) late: Vec<(Waiter<P>, LastRefusal)>,
    pub(super) jobs: Vec<(PathBuf, Job<P>)>,
    pub(super) until: Option<Instant>,
}

impl<P: Platform> Paths<P> {
    pub(super) const fn new() -> Self {
        Self { paths: HashMap::with_hasher(PathHasher::new()), epoch: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Adds a waiter. The returned job has to run immediately.
    pub(super) fn start(
        &mut self,
        path: PathBuf,
        waiter: Waiter<P>,
        now: Instant,
        seed: u64,
    ) -> Option<Job<P>> {
        self.epoch.get_or_insert(now);
        // After a cancel it may still sleep, without a ticket. A new waiter takes one when it attempts.
        if self.paths.get(&path).is_some_and(PathWaiters::is_over) {
            self.paths.remove(&path);
        }
        let path = self.paths.entry(path).or_insert_with(|| PathWaiters::new(now, seed));
        path.add(waiter);
        path.next_job(now)
    }

    /// Whether this path has waiters.
    pub(super) fn has_waiters(&self, path: &Path) -> bool {
        self.paths.get(path).is_some_and(PathWaiters::has_waiters)
    }

    pub(super) fn cancel(&mut self, id: WaiterId, now: Instant) -> Option<Waiter<P>> {
        self.paths.values_mut().find(|path| path.waiter(id).is_some())?.cancel(id, now)
    }

    /// Removes the waiters that match, also during their attempts.
    pub(super) fn take(&mut self, is_meant: &dyn Fn(&Waiter<P>) -> bool) -> Vec<Waiter<P>> {
        let mut taken = Vec::new();
        for path in self.paths.values_mut() {
            taken.append(&mut path.take_all(is_meant));
        }
        taken
    }

    pub(super) fn take_all(&mut self) -> Vec<Waiter<P>> {
        let taken = self.take(&|_| true);
        self.paths.clear();
        taken
    }

    /// The last refusal of a waiter; `None`: it does not wait.
    pub(super) fn last_refusal(&self, id: WaiterId) -> Option<&LastRefusal> {
        self.paths.values().find(|path| path.waiter(id).is_some()).map(|path| &path.last_refusal)
    }

    pub(super) fn at(&mut self, path: &Path) -> Option<&mut PathWaiters<P>> {
        self.paths.get_mut(path)
    }

    pub(super) fn on_events(&mut self, event_of: impl Fn(&P::Watch) -> Option<HolderEvent>, now: Instant) {
        for path in self.paths.values_mut() {
            if let Some(event) = path.watch().and_then(&event_of) {
                path.on_event(event, now);
            }
        }
    }

    /// Processes the result of a job. Returns the next job of the path, if one is due.
    pub(super) fn on_done(&mut self, path: &Path, done: Done<P>, now: Instant) -> Option<Job<P>> {
        let now = self.now(now);
        let waiters = self.paths.get_mut(path)?;
        waiters.on_done(done, now);
        waiters.next_job(now.time)
    }

    fn now(&self, time: Instant) -> Now {
        Now { time, epoch: self.epoch.unwrap_or(time), paths: self.paths.len() }
    }

    /// The next moment at which a path has work.
    pub(super) fn next(&self, path: &Path) -> Option<Instant> {
        self.paths.get(path).and_then(PathWaiters::next)
    }

    pub(super) fn tick(&mut self, now: Instant) -> Tick<P> {
        let mut tick = Tick { late: Vec::new(), jobs: Vec::new(), until: None };
        self.paths.retain(|path, waiters| {
            let late = waiters.take_late(now);
            tick.late.extend(late.into_iter().map(|waiter| (waiter, waiters.last_refusal.clone())));
            if waiters.is_over() {
                return false;
            }
            if let Some(job) = waiters.next_job(now) {
                tick.jobs.push((path.clone(), job));
            }
            tick.until = [tick.until, waiters.next()].into_iter().flatten().min();
            true
        });
        tick
    }
}
