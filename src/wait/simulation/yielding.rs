//! Waiters let earlier ones attempt first.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Run;
use super::world::{Simulated, SimulatedTicket, Watch};
use crate::platform::HolderEvent;
use crate::wait::job::{Done, Job, Now, Observation, Observed, Outcome, Queue, Waiter};
use crate::wait::path_waiters::PathWaiters;
use crate::wait::request::{LastRefusal, WaiterId};

/// A waiter whose lock changes hands after 10 ms, with so many others ahead.
fn path_with_others(run: &Run, start: Instant, ahead: u32, deadline: Option<u64>) -> PathWaiters<Simulated> {
    let at = |millis| start + Duration::from_millis(millis);
    let (id, deadline) = (WaiterId::next(), deadline.map(at));
    let mut path = PathWaiters::<Simulated>::new(start, 1);
    path.add(Waiter { id, call: 0, arrival: 1, deadline, is_cancelled: false, is_last: false });
    assert!(matches!(path.next_job(start), Some(Job::Attempt(_))));
    let watch = Watch { id: 1, world: Rc::clone(&run.world) };
    let observation = Observation { file: 0, watch, process: Some(1), watches_file: true, was_locked: true };
    let queue = Queue::Ticket(SimulatedTicket { path: 0, world: Rc::clone(&run.world) });
    let outcome = Outcome::Refused(LastRefusal::default(), Observed::Held(observation));
    path.on_done(Done::Attempted { queue, outcome }, Now { time: start, epoch: start, paths: 1 });
    run.world.borrow_mut().files[0].others_ahead = ahead;
    path.on_event(HolderEvent::Changed, at(10));
    assert!(path.next_job(at(10)).is_none());
    path
}

#[test]
fn a_waiter_that_is_not_next_sleeps_while_others_acquire() {
    let start = Instant::now();
    let sleeps_after = |ahead, deadline: Option<u64>| {
        let run = Run::new(0);
        let mut path = path_with_others(&run, start, ahead, deadline);
        let due = path.next().expect("it waits");
        assert!(matches!(path.next_job(due), Some(Job::Observe)), "it checks which process has the lock");
        due - (start + Duration::from_millis(10))
    };
    assert_eq!(sleeps_after(1, None), Duration::from_micros(200));
    assert_eq!(sleeps_after(2, None), Duration::from_millis(5));
    assert_eq!(sleeps_after(5, None), Duration::from_millis(20));
    assert_eq!(sleeps_after(100, None), Duration::from_millis(50), "no longer, as all of them may vanish");
    assert_eq!(sleeps_after(100, Some(40)), Duration::from_millis(15), "half of the time that is left");
}

#[test]
fn a_waiter_sleeps_on_while_others_acquire() {
    let start = Instant::now();
    let run = Run::new(0);
    let mut path = path_with_others(&run, start, 9, None);
    let (woken, slept) = (path.next().expect("it waits"), Duration::from_millis(40));
    assert_eq!(woken - start, Duration::from_millis(10) + slept);
    run.world.borrow_mut().files[0].others_ahead = 5;
    // On a busy machine it wakes late.
    let late = woken + Duration::from_millis(20);
    assert!(path.next_job(late).is_none(), "four of them have acquired");
    let next = path.next().expect("it waits");
    assert_eq!(next - late, Duration::from_millis(30), "half of the time that the others need at 15 ms each");
    assert!(matches!(path.next_job(next + slept), Some(Job::Observe)), "no waiter has acquired since");
}

#[test]
fn a_waiter_that_only_queued_attempts_at_its_deadline() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let now = |millis| Now { time: at(millis), epoch: start, paths: 1 };
    let run = Run::new(0);
    run.world.borrow_mut().files[0].others_ahead = 1;
    let queue = || Queue::Ticket(SimulatedTicket { path: 0, world: Rc::clone(&run.world) });
    let mut path = PathWaiters::<Simulated>::new(start, 1);
    let deadline = Some(at(30));
    let waiter =
        Waiter { id: WaiterId::next(), call: 0, arrival: 1, deadline, is_cancelled: false, is_last: false };
    path.add(waiter);
    assert!(matches!(path.next_job(start), Some(Job::Attempt(attempt)) if attempt.has_time));
    path.on_done(Done::Attempted { queue: queue(), outcome: Outcome::Queued }, now(0));
    assert!(path.take_late(at(100)).is_empty(), "the lock has not refused it yet");
    assert!(matches!(path.next_job(at(100)), Some(Job::Attempt(attempt)) if !attempt.has_time));
    let outcome = Outcome::Refused(LastRefusal::default(), Observed::Nothing);
    path.on_done(Done::Attempted { queue: queue(), outcome }, now(101));
    assert_eq!(path.take_late(at(101)).len(), 1, "the lock has refused it");
}
