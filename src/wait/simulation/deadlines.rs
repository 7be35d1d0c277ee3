//! The deadlines of many waiters.

use std::time::{Duration, Instant};

use super::world::Simulated;
use crate::wait::job::Waiter;
use crate::wait::request::WaiterId;
use crate::wait::waiters::Waiters;

fn waiter(id: u64, deadline: Instant) -> Waiter<Simulated> {
    let (is_cancelled, is_last) = (false, false);
    Waiter { id: WaiterId(id), request: 0, arrival: 1, deadline: Some(deadline), is_cancelled, is_last }
}

#[test]
fn deadlines_of_former_waiters_are_removed() {
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut waiters = Waiters::new();
    waiters.insert(waiter(0, later(9)));
    for id in 1..1000 {
        waiters.insert(waiter(id, later(id % 7 + 1)));
        assert!(waiters.remove(WaiterId(id)).is_some());
    }
    assert!(waiters.deadlines.len() < 9, "{}", waiters.deadlines.len());
    assert_eq!(waiters.next_deadline(), Some((later(9), WaiterId(0))));
    waiters.set_deadline(WaiterId(0), later(10));
    assert_eq!(waiters.next_deadline(), Some((later(10), WaiterId(0))));
}
