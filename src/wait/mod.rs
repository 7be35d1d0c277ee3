//! Waiting for a holder to release, without a thread for each waiter.
//!
//! One thread sleeps for all waiters of this process until something can have changed (`service.rs`). A state machine
//! decides the next step of each path (`path_waiters.rs`). Threads that a disk may block do the file operations
//! (`files.rs`), so a deadline is met whatever the disk does, and a slow disk delays no lock of another one. Waiters of
//! one path are served in arrival order. Among processes, the first waiter of each has a ticket in a queue, and lets
//! those before it attempt first, for a few milliseconds.
//!
//! All of this decides when to attempt. The protocol alone decides whether an attempt succeeds.
#![forbid(unsafe_code)]

mod acquire;
mod backoff;
mod files;
mod intervals;
mod job;
mod losses;
mod path_waiters;
mod paths;
mod request;
mod service;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod waiters;
mod watched_file;

pub(crate) use self::acquire::{acquire, start_for_creator, try_once};
pub(crate) use self::request::{AcquireRequest, Answer, WaiterId};
pub(crate) use self::service::{cancel, cancel_all, last_refusal, report_loss, start};
