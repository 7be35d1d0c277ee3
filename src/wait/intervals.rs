//! The intervals of waiting.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::job::Now;

/// How often to check without an event: a directory that was renamed, for example, sends none.
pub(super) const RESCAN_INTERVAL: Duration = Duration::from_millis(250);

/// The shortest pause until the next one.
pub(super) const SHORTEST_RESCAN: Duration = Duration::from_micros(62_500);

/// The longest pause between two attempts or checks without events, for at most [`FEW`] paths.
pub(super) const MAX_BACKOFF: Duration = Duration::from_millis(50);

/// With more paths than these the pauses are longer, so that all checks together cost a few per cent of a processor.
pub(super) const FEW: usize = 250;

/// The shortest pause.
pub(super) const MIN_BACKOFF: Duration = Duration::from_millis(1);

/// How long earlier waiters have to attempt first: they may be stopped, or busy.
pub(super) const QUEUE_YIELD: Duration = Duration::from_millis(5);

/// How long the second waiter of the queue lets the first attempt before it checks.
pub(super) const FIRST_QUEUE_YIELD: Duration = Duration::from_micros(200);

/// How long all later waiters do at least.
pub(super) const LATER_QUEUE_YIELD: Duration = Duration::from_millis(2);

/// How many earlier waiters are counted at most.
pub(super) const MAX_COUNTED: u32 = 64;

/// How long a cancelled attempt may go on until its waiter is answered: a disk may hang.
pub(super) const CANCEL_GRACE: Duration = Duration::from_millis(25);

/// The time until all paths with this interval are checked together.
pub(super) fn to_next(interval: Duration, now: Now) -> Duration {
    let since = now.time.saturating_duration_since(now.epoch).as_micros() % interval.as_micros();
    let left = interval.saturating_sub(Duration::from_micros(u64::try_from(since).unwrap_or(0)));
    // A sleep may end a moment too early.
    if left < interval / 4 { left + interval } else { left }
}
