//! The paths at which this process was refused: [`protocol::still_refused`] is quicker there than an attempt.
#![forbid(unsafe_code)]

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::map::HASHER;
use crate::platform::{Os, System};
use crate::protocol::error::Error;
use crate::protocol::target::Target;
use crate::protocol::{self, Held, PauseLimit};

/// The hashes of the last refused paths, by one of their bytes. Another path with the same hash costs time alone.
static LAST: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

/// As [`protocol::acquire_with`], but by fewer system calls if the owner that has refused this process is still there.
pub(crate) fn acquire(
    target: &Target,
    thread: u32,
    pause_limit: PauseLimit,
) -> Result<Held<<Os as System>::File>, Error> {
    let hash = HASHER.hash_one(target.path.as_os_str());
    let last = &LAST[usize::from(hash.to_ne_bytes()[0])];
    let was_refused = last.load(Relaxed) == hash;
    // A reader inspects the path, and distinguishes more holders.
    if was_refused
        && !target.shared
        && let Some(refusal) = protocol::still_refused(Os::get(), target)
    {
        return Err(refusal);
    }
    let outcome = protocol::acquire_with(Os::get(), target, thread, pause_limit, &mut None);
    let is_refused = matches!(outcome, Err(Error::Contention { .. }));
    if was_refused != is_refused {
        last.store(if is_refused { hash } else { 0 }, Relaxed);
    }
    outcome
}
