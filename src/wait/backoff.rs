//! Pauses that grow, for paths without events.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::intervals::{FEW, MAX_BACKOFF, MIN_BACKOFF};

pub(super) struct Backoff {
    pause: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { pause: MIN_BACKOFF, random: seed | 1 }
    }

    pub(super) fn reset(&mut self) {
        self.pause = MIN_BACKOFF;
    }

    /// The next pause, twice as long as the last one. It is longer the more paths there are.
    pub(super) fn next(&mut self, paths: usize) -> Duration {
        let longest = MAX_BACKOFF * u32::try_from(paths / FEW).unwrap_or(u32::MAX).max(1);
        let pause = self.pause.min(longest);
        self.pause = pause * 2;
        pause
    }

    /// Between half and all of the next pause, so that waiters do not retry at the same time (xorshift).
    pub(super) fn next_jittered(&mut self, paths: usize) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = u32::try_from(self.random % 512).unwrap_or(0) + 512;
        self.next(paths) * share / 1024
    }
}
