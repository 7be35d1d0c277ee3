//! The release of all locks of an owner, when its process or worker ends.
#![forbid(unsafe_code)]

use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Entry, LockId, Owner, remove_all};
use crate::pool;
use crate::protocol::error::Error;

/// A disk hangs if no release ends within this time.
const LIMIT: Duration = Duration::from_secs(1);

/// Fewer releases that hang do not delay the others.
const MAX_THREADS: usize = 16;

/// A lock that was lost, with the reason.
type Loss = (LockId, &'static str);

struct Releases {
    progress: Mutex<Progress>,
    ended: Condvar,
}

struct Progress {
    waiting: Vec<(LockId, Entry)>,
    pending: usize,
    losses: Vec<Loss>,
}

/// Releases all locks of an owner; returns those that were lost. On a disk that hangs they stay, as files to take over: the
/// process must end. Not by the threads of the pool, which may all hang.
pub(crate) fn release_all(owner: Owner) -> Vec<Loss> {
    let waiting = remove_all(owner);
    let pending = waiting.len();
    let progress = Mutex::new(Progress { waiting, pending, losses: Vec::new() });
    let releases = Arc::new(Releases { progress, ended: Condvar::new() });
    for started in 0..pending.min(MAX_THREADS) {
        let of_thread = Arc::clone(&releases);
        if pool::start_thread(Box::new(move || of_thread.run())).is_err() {
            if started == 0 {
                releases.run();
            }
            break;
        }
    }
    releases.wait()
}

impl Releases {
    fn run(&self) {
        while let Some((id, entry)) = self.next() {
            let end = pool::catch_panic(|| entry.end());
            let mut progress = pool::locked(&self.progress);
            // Other errors have no recipient. A file that stays is stale, and the next process takes it over.
            if let Ok(Err(Error::Lost { reason, .. })) = end {
                progress.losses.push((id, reason));
            }
            progress.pending -= 1;
            self.ended.notify_all();
        }
    }

    fn next(&self) -> Option<(LockId, Entry)> {
        pool::locked(&self.progress).waiting.pop()
    }

    /// Waits until all releases have ended, or none ends within [`LIMIT`].
    fn wait(&self) -> Vec<Loss> {
        let mut progress = pool::locked(&self.progress);
        loop {
            let pending = progress.pending;
            let waited =
                self.ended.wait_timeout_while(progress, LIMIT, |now| now.pending == pending && pending > 0);
            (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if progress.pending == 0 || progress.pending == pending {
                return mem::take(&mut progress.losses);
            }
        }
    }
}
