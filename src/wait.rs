//! Waiting for a holder to let go: acquire again and again, with pauses that grow from 1 to 50 ms.
#![forbid(unsafe_code)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::Error;
use crate::protocol::{self, Held};
use crate::system::System;
use crate::target::Target;

const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Acquires the lock within `timeout`, unless `cancelled` is set meanwhile; then a lock that was won all
/// the same is released. At least one attempt is made, whatever the timeout.
pub(crate) fn acquire<S: System>(
    system: &S,
    target: &Target,
    thread: u32,
    timeout: Duration,
    cancelled: &AtomicBool,
) -> Result<Held<S::File>, Error> {
    let started = (!timeout.is_zero()).then(|| system.monotonic());
    let mut pause = Duration::from_millis(1);
    loop {
        let outcome = protocol::acquire(system, target, thread);
        let is_cancelled = || cancelled.load(Ordering::Relaxed);
        let Some(started) = started.filter(|_| matches!(outcome, Err(Error::Contention { .. }))) else {
            return if is_cancelled() { given_back(system, target, outcome) } else { outcome };
        };
        let left = timeout.saturating_sub(system.monotonic().saturating_sub(started));
        if left.is_zero() || is_cancelled() {
            return outcome;
        }
        system.pause(jittered(pause).min(left));
        if is_cancelled() {
            return outcome;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Nobody wants it any more.
fn given_back<S: System>(
    system: &S,
    target: &Target,
    outcome: Result<Held<S::File>, Error>,
) -> Result<Held<S::File>, Error> {
    protocol::release(system, outcome?)?;
    Err(target.contention(None, Some("the wait was cancelled".to_owned())))
}

/// Between half and all of `pause`, so that waiters do not come back in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0);
    let share = u32::try_from(random % 512).unwrap_or(0) + 512;
    pause * share / 1024
}
