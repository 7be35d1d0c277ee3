//! The deadlines of many waiters.

use std::time::{Duration, Instant};

use super::world::Simulated;
use crate::wait::job::Waiter;
use crate::wait::request::WaiterId;
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
