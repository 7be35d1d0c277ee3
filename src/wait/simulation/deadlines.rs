//! The deadlines of many waiters.

use std::time::{Duration, Instant};

use super::world::Simulated;
use crate::wait::job::{Done, Job, Now, Observed, Outcome, Queue, Waiter};
use crate::wait::path_waiters::PathWaiters;
use crate::wait::request::{LastRefusal, WaiterId};
use crate::wait::waiters::Waiters;

fn waiter(id: u64, deadline: Instant) -> Waiter<Simulated> {
    let (is_cancelled, is_last) = (false, false);
    Waiter { id: WaiterId(id), call: 0, arrival: 1, deadline: Some(deadline), is_cancelled, is_last }
}

#[test]
fn deadlines_go_with_their_waiters() {
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut waiters = Waiters::new();
    for id in 0..100 {
        waiters.insert(waiter(id, later(id % 7)));
    }
    for id in 1..100 {
        let earliest = (id..100).chain([0]).map(|id| (later(id % 7), WaiterId(id))).min();
        assert_eq!(waiters.next_deadline(), earliest);
        assert_eq!(waiters.remove(WaiterId(id)).map(|waiter| waiter.id), Some(WaiterId(id)));
        assert!(waiters.remove(WaiterId(id)).is_none());
    }
    waiters.set_deadline(WaiterId(0), later(9));
    assert_eq!(waiters.next_deadline(), Some((later(9), WaiterId(0))));
    assert_eq!(waiters.remove_all(&|_| true).len(), 1);
    assert_eq!(waiters.next_deadline(), None);
}

#[test]
fn a_cancelled_waiter_leaves_when_its_attempt_is_refused() {
    let time = Instant::now();
    let mut path = PathWaiters::<Simulated>::new(time, 1);
    path.add(waiter(1, time + Duration::from_secs(9)));
    assert!(matches!(path.next_job(time), Some(Job::Attempt(_))));
    assert!(path.cancel(WaiterId(1), time).is_none() && path.take_late(time).is_empty(), "it attempts");
    let outcome = Outcome::Refused(LastRefusal::default(), Observed::Nothing);
    path.on_done(Done::Attempted { queue: Queue::No, outcome }, Now { time, epoch: time, paths: 1 });
    assert_eq!(path.take_late(time).len(), 1);
}
