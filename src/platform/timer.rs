//! The source of systems whose events are not used: the timer alone decides when to attempt.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::events::HolderEvents;

/// The condition that one thread sleeps on.
#[derive(Debug, Default)]
pub(super) struct Source {
    is_woken: Mutex<bool>,
    waker: Condvar,
}

pub(super) type FileSource = Infallible;
pub(super) type ProcessSource = Infallible;

impl Source {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn wake(&self) {
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.waker.notify_one();
    }

    #[expect(clippy::unused_self, reason = "the other systems' sources have events")]
    pub(super) fn file(&self, _: &Path, _: u64) -> Option<FileSource> {
        None
    }

    #[expect(clippy::unused_self, reason = "the other systems' sources have events")]
    pub(super) fn process(&self, _: u32) -> io::Result<Option<ProcessSource>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn wait(&self, until: Option<Instant>) -> HolderEvents {
        let left =
            until.map_or(Duration::from_secs(3600), |until| until.saturating_duration_since(Instant::now()));
        let woken = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.waker.wait_timeout_while(woken, left, |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        HolderEvents::default()
    }
}
