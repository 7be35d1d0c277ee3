//! The end of an environment: that of a worker, or of the process.
//!
//! A listener of `exit`, in `lib/held-locks.ts`, handles most ends of the process. It is not called if an earlier one
//! throws or exits, or if one of `uncaughtException` throws, and it comes too early for a lock that a listener after
//! it acquires. The last chance then is `exit(3)`, in which the C library drops the variables of the main thread, or,
//! if that is musl, calls a function.

#![cfg_attr(
    any(all(windows, target_env = "gnu"), target_os = "android"),
    allow(clippy::missing_const_for_thread_local, reason = "clippy does not see the `const` there")
)]

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::table::{self, Owner};
use crate::wait;

/// How long after one worker another is likely to end: a process that exits ends its workers one by one.
const WORKER_EXIT_WINDOW: Duration = Duration::from_millis(100);

/// When the last worker ended.
static LAST_EXIT: Mutex<Option<Instant>> = Mutex::new(None);

thread_local! {
    static OWNER: OfThread = const { OfThread(Cell::new(None)) };
}

/// The owner of the locks of this thread, until its last environment ends: windows of Electron can share a thread.
struct OfThread(Cell<Option<Owner>>);

impl OfThread {
    fn end(&self) {
        if let Some(owner) = self.0.take() {
            // Not the waits: an answer would need the engine, which has gone.
            quietly(|| table::close_owner(owner, || ()));
        }
    }
}

impl Drop for OfThread {
    fn drop(&mut self) {
        // On Windows all other threads have already ended, and a mutex that one of them held stays locked.
        if !cfg!(windows) {
            self.end();
        }
    }
}

#[cfg(target_env = "musl")]
extern "C" fn end_this_thread() {
    let _ = OWNER.try_with(OfThread::end);
}

/// The owner of this thread's locks, for one environment more. It ends with the last of these, or with the process.
pub(super) fn owner_of_thread() -> Owner {
    #[cfg(target_env = "musl")]
    super::at_exit::call(end_this_thread);
    OWNER.with(|of_thread| {
        let owner = of_thread.0.get().map_or_else(table::open_owner, table::share_owner);
        of_thread.0.set(Some(owner));
        owner
    })
}

/// Ends an environment, on its thread.
pub(super) fn close_environment(owner: Owner) {
    quietly(|| {
        if !table::unshare_owner(owner) {
            table::close_owner(owner, || wait::cancel_all(owner));
            OWNER.with(|of_thread| of_thread.0.set(None));
        }
    });
    *LAST_EXIT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

/// Whether the process may be ending its workers, this one next.
pub(super) fn is_exit_likely() -> bool {
    LAST_EXIT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some_and(|last| last.elapsed() < WORKER_EXIT_WINDOW)
}

/// Ignores a panic, which no caller could receive.
fn quietly(work: impl FnOnce()) {
    let _ = panic::catch_unwind(AssertUnwindSafe(work));
}
