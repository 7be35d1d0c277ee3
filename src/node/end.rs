//! The end of an environment: a worker's, or the process'.
//!
//! A listener of `exit`, in `lib/held.js`, sees most ends of the process. It is not called if a listener before it
//! throws or exits, or if one of `uncaughtException` throws, and it comes too early for a lock that a listener after
//! it acquires. The last chance then is `exit(3)`, in which the C library drops the variables of the main thread, or,
//! where that is musl, calls a function.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::table::{self, Owner};
use crate::wait;

/// How long after one worker another is likely to end: a process that exits ends and awaits them one by one.
const SERIES: Duration = Duration::from_millis(100);

/// When the last one ended.
static LAST: Mutex<Option<Instant>> = Mutex::new(None);

thread_local! {
    static ENVIRONMENTS: Environments = const { Environments(RefCell::new(Vec::new())) };
}

/// Those of this thread that have not ended.
struct Environments(RefCell<Vec<Owner>>);

impl Environments {
    fn end(&self) {
        for owner in self.0.take() {
            // Not the waits: an answer would need the engine, which has gone.
            quietly(|| table::close_owner(owner));
        }
    }
}

impl Drop for Environments {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(target_env = "musl")]
extern "C" fn end_this_thread() {
    let _ = ENVIRONMENTS.try_with(Environments::end);
}

/// Has the end of the process end this environment too, unless it ends before. Not on Windows: there all other
/// threads are gone before these variables are dropped, and what one of them had locked stays locked for ever.
pub(super) fn watch(owner: Owner) {
    if cfg!(windows) {
        return;
    }
    #[cfg(target_env = "musl")]
    super::at_exit::call(end_this_thread);
    ENVIRONMENTS.with(|environments| environments.0.borrow_mut().push(owner));
}

/// Ends an environment, on its thread.
pub(super) fn of(owner: Owner) {
    quietly(|| {
        table::close_owner(owner);
        wait::cancel_all(owner);
        ENVIRONMENTS.with(|environments| environments.0.borrow_mut().retain(|other| *other != owner));
    });
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

/// Whether the process may be ending its workers, this one next.
pub(super) fn may_come() -> bool {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|last| last.elapsed() < SERIES)
}

/// Nobody is left to tell of a panic.
fn quietly(work: impl FnOnce()) {
    let _ = panic::catch_unwind(AssertUnwindSafe(work));
}
