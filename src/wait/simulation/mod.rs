//! All waiters of one process, run with a seed on simulated files, disks, processes and clocks.
//!
//! At every step a disk may stall, a holder may release, end or be replaced, a waiter may be cancelled, and a deadline
//! may come. The simulation checks that each call is answered once, a moment after its deadline or its cancel; that
//! waiters of a path are served in arrival order; and that a lock on a healthy disk does not stay free while it has
//! waiters.

mod deadlines;
mod world;
mod yielding;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::world::{File, Holder, Random, Shared, Simulated, SimulatedTicket, Watch, World};
use crate::platform::HolderEvent;
use crate::wait::intervals::{CANCEL_GRACE, MAX_BACKOFF, QUEUE_YIELD};
use crate::wait::job::{Done, Job, Observation, Observed, Outcome, Queue, Waiter};
use crate::wait::paths::Paths;
use crate::wait::request::{FIRST_ID, LastRefusal, WaiterId};

const PATHS: usize = 4;
const DISKS: usize = 2;
const STEPS: usize = 400;
const SEEDS: u32 = 1000;

/// How long a lock may stay free while a waiter exists, without a stall: some changes send no event.
const VACANT: Duration = Duration::from_millis(250 + 2 * 250 / 4 + 20);

/// The same, if an event reports it: earlier waiters attempt first, once more after a cancelled attempt.
const SOON: Duration = Duration::from_millis(2 * 5 + 3);

/// How much longer, if several waiters of other processes were ahead: those that are not next sleep for a while.
const CROWDED: Duration = MAX_BACKOFF;

struct Call {
    path: usize,
    deadline: Option<Instant>,
    cancelled: Option<Instant>,
}

struct Run {
    random: Random,
    now: Instant,
    world: Shared,
    paths: Paths<Simulated>,
    /// Jobs under way, when each is over, and whether the file was in the expected state when it began.
    jobs: Vec<(usize, Job<Simulated>, Instant, bool)>,
    stalled: [bool; DISKS],
    stalled_before: [bool; DISKS],
    calls: BTreeMap<WaiterId, Call>,
    acquired: BTreeSet<WaiterId>,
    until: Option<Instant>,
    next: u64,
    /// A call whose first attempt takes longer than those of later calls.
    slow: Option<WaiterId>,
}

const fn disk_of(path: usize) -> usize {
    path % DISKS
}

fn name_of(path: usize) -> PathBuf {
    PathBuf::from(path.to_string())
}

impl Run {
    fn new(seed: u64) -> Self {
        let file = || File {
            holder: None,
            version: 0,
            vacant_since: None,
            is_reported: false,
            others_ahead: 0,
            was_crowded: false,
        };
        let world = World {
            files: (0..PATHS).map(|_| file()).collect(),
            watches: BTreeMap::new(),
            pending: BTreeMap::new(),
            missed: BTreeMap::new(),
            next: 0,
        };
        Self {
            random: Random(seed),
            now: Instant::now(),
            world: Rc::new(RefCell::new(world)),
            paths: Paths::new(),
            jobs: Vec::new(),
            stalled: [false; DISKS],
            stalled_before: [false; DISKS],
            calls: BTreeMap::new(),
            acquired: BTreeSet::new(),
            until: None,
            next: 0,
            slow: None,
        }
    }

    fn submit(&mut self, path: usize, job: Job<Simulated>) {
        assert!(self.jobs.iter().all(|(other, ..)| *other != path), "a path has two jobs at once");
        let takes = Duration::from_micros(20) + self.random.micros(400);
        let is_same = matches!(job, Job::Recheck { file, watches_process } if self.is_same(path, file, watches_process));
        self.jobs.push((path, job, self.now + takes, is_same));
    }

    fn is_same(&self, path: usize, version: u64, watches_process: bool) -> bool {
        let world = self.world.borrow();
        world.files[path].version == version && (watches_process || world.files[path].holder.is_some())
    }

    fn call(&mut self) {
        self.next += 1;
        let path = self.random.index(PATHS);
        let mut id = WaiterId(FIRST_ID + self.next);
        if self.random.one_in(4) {
            let Some(slow) = self.slow.replace(id) else { return };
            id = slow;
        }
        let timeout = match self.random.below(3) {
            0 => None,
            1 => Some(self.random.millis(30)),
            _ => Some(self.random.millis(2000)),
        };
        let deadline = timeout.map(|timeout| self.now + timeout);
        if !self.calls.values().any(|call| call.path == path) {
            let file = &mut self.world.borrow_mut().files[path];
            file.vacant_since = file.vacant_since.map(|_| self.now);
        }
        self.calls.insert(id, Call { path, deadline, cancelled: None });
        let waiter =
            Waiter { id, call: path, arrival: self.next, deadline, is_cancelled: false, is_last: false };
        let job = self.paths.start(name_of(path), waiter, self.now, self.next);
        if let Some(job) = job {
            self.submit(path, job);
        }
    }

    fn cancel(&mut self) {
        let waiting: Vec<WaiterId> = self.calls.keys().copied().collect();
        let Some(id) = waiting.get(self.random.index(waiting.len().max(1))) else { return };
        if let Some(waiter) = self.paths.cancel(*id, self.now) {
            self.answered(waiter.id, false);
        } else if let Some(call) = self.calls.get_mut(id) {
            call.cancelled.get_or_insert(self.now);
        }
    }

    /// Another process changes a lock file.
    fn meddle(&mut self) {
        let path = self.random.index(PATHS);
        let stalled = self.stalled[disk_of(path)];
        let holder = self.world.borrow().files[path].holder;
        let sends_event = !self.random.one_in(8);
        let event = |event| sends_event.then_some(event);
        let (now, pid) = (self.now, 1000 + self.random.below(50));
        let mut world = self.world.borrow_mut();
        match (holder, self.random.below(4)) {
            (Some(Holder::Process(_)), 0) => world.change(path, None, Some(HolderEvent::Ended), now),
            (Some(_), 1 | 2) if !stalled => world.change(path, None, event(HolderEvent::Changed), now),
            (None, 3) if !stalled => {
                world.change(path, Some(Holder::Process(pid)), event(HolderEvent::Changed), now);
            }
            _ => world.files[path].others_ahead = self.random.below(3),
        }
    }

    fn observe(&mut self, path: usize, watches_process: bool) -> Observed<Simulated> {
        let (holder, version) = {
            let world = self.world.borrow();
            (world.files[path].holder, world.files[path].version)
        };
        let process = match holder {
            Some(Holder::Process(pid)) if watches_process => Some(pid),
            Some(_) => None,
            None => return Observed::Nothing,
        };
        match self.random.below(12) {
            0 => return Observed::Nothing,
            1 => return Observed::Changed,
            _ => {}
        }
        let mut world = self.world.borrow_mut();
        world.next += 1;
        let id = world.next;
        world.watches.insert(id, (path, process));
        // The sleeping thread may get an event before the result of this job.
        if self.random.one_in(12) {
            let event = if process.is_some() { HolderEvent::Ended } else { HolderEvent::Changed };
            world.change(path, None, Some(event), self.now);
            world.pending.remove(&id);
            world.missed.insert(id, event);
        }
        drop(world);
        let watch = Watch { id, world: Rc::clone(&self.world) };
        let watches_file = !self.random.one_in(6);
        Observed::Held(Observation { file: version, watch, process, watches_file, was_locked: true })
    }

    fn finish(&mut self, (path, job, _, was_same): (usize, Job<Simulated>, Instant, bool)) {
        let done = match job {
            // It may have checked at any moment.
            Job::Recheck { file, watches_process } => {
                let is_same =
                    if self.random.one_in(2) { was_same } else { self.is_same(path, file, watches_process) };
                Done::Rechecked { is_same }
            }
            Job::Observe => Done::Observed(self.observe(path, false)),
            Job::Attempt(attempt) => {
                let is_unknown = matches!(attempt.queue, Queue::Unknown);
                let queue = Queue::Ticket(SimulatedTicket { path, world: Rc::clone(&self.world) });
                let (holder, ahead) = {
                    let world = self.world.borrow();
                    (world.files[path].holder, world.files[path].others_ahead)
                };
                let outcome = if is_unknown && attempt.has_time && ahead > 0 {
                    Outcome::Queued
                } else if holder.is_some() {
                    Outcome::Refused(LastRefusal::default(), self.observe(path, true))
                } else {
                    self.acquire(path, attempt.id);
                    Outcome::Over
                };
                Done::Attempted { queue, outcome }
            }
        };
        if let Some(job) = self.paths.on_done(&name_of(path), done, self.now) {
            self.submit(path, job);
        }
    }

    /// The lock is free: the waiter acquires it, unless it does not wait any more.
    fn acquire(&mut self, path: usize, id: WaiterId) {
        let Some(waiters) = self.paths.at(&name_of(path)) else { return };
        if waiters.is_overtaking(id) {
            return;
        }
        let Some(waiter) = waiters.take(id) else { return };
        if waiter.is_cancelled {
            return self.answered(id, false);
        }
        let before = self.calls.iter().find(|(other, call)| **other < id && call.path == path);
        assert!(before.is_none(), "{id:?} overtakes {:?}", before.map(|(id, _)| id));
        self.world.borrow_mut().change(path, Some(Holder::Ours(id)), Some(HolderEvent::Changed), self.now);
        assert!(self.acquired.insert(id));
        self.answered(id, true);
    }

    fn answered(&mut self, id: WaiterId, has_lock: bool) {
        let call = self.calls.remove(&id).unwrap_or_else(|| panic!("{id:?} is answered twice"));
        assert!(!(has_lock && call.cancelled.is_some()), "{id:?} has the lock although it was cancelled");
        let last_attempt = call.deadline.map(|deadline| deadline + QUEUE_YIELD);
        let moments = [last_attempt, call.cancelled.map(|at| at + CANCEL_GRACE)];
        let is_late = moments.into_iter().flatten().any(|moment| moment < self.now);
        assert!(!is_late, "{id:?} is answered late");
    }

    /// The thread that sleeps wakes up.
    fn wake(&mut self) {
        let pending = std::mem::take(&mut self.world.borrow_mut().pending);
        self.paths.on_events(|watch| pending.get(&watch.id).copied(), self.now);
        let tick = self.paths.tick(self.now);
        for (waiter, _) in tick.late {
            self.answered(waiter.id, false);
        }
        for (path, job) in tick.jobs {
            let path = path.to_string_lossy().parse().expect("a number");
            self.submit(path, job);
        }
        self.until = tick.until;
    }

    fn check(&mut self) {
        for path in 0..PATHS {
            let sleeps_without_ticket =
                self.paths.at(&name_of(path)).is_some_and(|waiters| waiters.sleeps_without_ticket());
            assert!(!sleeps_without_ticket, "the waiters of {path} sleep without a ticket");
        }
        let mut world = self.world.borrow_mut();
        for (path, file) in world.files.iter_mut().enumerate() {
            let is_wanted = self.calls.values().any(|call| call.path == path);
            if !is_wanted || self.stalled[disk_of(path)] || self.stalled_before[disk_of(path)] {
                file.vacant_since = file.vacant_since.map(|_| self.now);
            }
            let vacant = file.vacant_since.map_or(Duration::ZERO, |since| self.now - since);
            file.was_crowded |= file.others_ahead > 1;
            let bound = if file.is_reported { SOON } else { VACANT };
            let bound = if file.was_crowded { bound + CROWDED } else { bound };
            assert!(vacant <= bound, "the lock {path} is free for {vacant:?}, and no waiter has acquired it");
        }
    }

    /// The next step: the end of a job, a moment that the state machine has requested, or an action from outside.
    fn step(&mut self) {
        self.stalled_before = self.stalled;
        let outside = self.now + self.random.micros(20_000);
        let next_job = self.jobs.iter().filter(|job| !self.stalled[disk_of(job.0)]).map(|job| job.2).min();
        let until = self.until;
        let next = [Some(outside), next_job, until].into_iter().flatten().min().unwrap_or(outside);
        self.now = self.now.max(next);
        if next_job.is_some_and(|at| at <= self.now) {
            let is_over =
                |(path, _, at, _): &(usize, _, Instant, _)| *at <= self.now && !self.stalled[disk_of(*path)];
            let index = self.jobs.iter().position(is_over).expect("one is over");
            let job = self.jobs.swap_remove(index);
            self.finish(job);
        } else if until.is_none_or(|at| at > self.now) {
            match self.random.below(6) {
                0 | 1 => self.call(),
                2 => self.cancel(),
                3 => {
                    let disk = self.random.index(DISKS);
                    self.stalled[disk] = !self.stalled[disk] && self.random.one_in(3);
                }
                _ => self.meddle(),
            }
        }
        // A step may have made the moment earlier: a change of the state wakes the thread.
        self.wake();
        self.check();
    }

    /// Without stalls and new calls every call is answered, and no waiter, job or watch is left.
    fn end(mut self) {
        self.stalled = [false; DISKS];
        for path in 0..PATHS {
            self.world.borrow_mut().files[path].others_ahead = 0;
        }
        for _ in 0..100_000 {
            if self.calls.is_empty() && self.jobs.is_empty() && self.paths.is_empty() {
                assert!(self.world.borrow().watches.is_empty(), "a watch is left");
                return;
            }
            let next_job = self.jobs.iter().map(|job| job.2).min();
            let next = [next_job, self.until].into_iter().flatten().min();
            self.now = self.now.max(next.unwrap_or(self.now + QUEUE_YIELD));
            if let Some(index) = self.jobs.iter().position(|job| job.2 <= self.now) {
                let job = self.jobs.swap_remove(index);
                self.finish(job);
            }
            for path in 0..PATHS {
                let holder = self.world.borrow().files[path].holder;
                if holder.is_some() {
                    self.world.borrow_mut().change(path, None, Some(HolderEvent::Changed), self.now);
                }
            }
            self.wake();
            self.check();
        }
        panic!("{} calls are not answered", self.calls.len());
    }
}

#[test]
fn every_call_ends_in_time_and_in_order() {
    let mut acquired = 0;
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed.into());
            for _ in 0..STEPS {
                run.step();
            }
            let acquired = run.acquired.len();
            run.end();
            acquired
        });
        match outcome {
            Ok(some) => acquired += some,
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(acquired > 10 * SEEDS as usize, "{acquired} acquisitions show nothing");
}
