//! The protocol on a simulated system, for cases that a real system does not produce on demand.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod acquire;
mod break_lock;
mod files;
mod inspect;
mod kernel_locks;
mod readers;
mod release;
mod still_refused;
mod take_over;
#[allow(dead_code, reason = "each test needs a part of it")]
#[path = "../world/mod.rs"]
mod world;

use reconcile_lock::protocol::{acquire, break_lock, inspect};
use reconcile_lock::{Access, Error, LockMode, LockState, Opened, System, TryLock};
use world::{World, target};

const EPERM: i32 = 1;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EACCES: i32 = 13;
#[cfg(unix)]
const ESTALE: i32 = if cfg!(target_os = "macos") { 70 } else { 116 };
const EBUSY: i32 = 16;
const LEGACY_DEAD: &[u8] = br#"{"pid":77,"createdAt":5}"#;

fn is_contention<T>(result: Result<T, Error>, holder: Option<u32>) -> bool {
    matches!(result, Err(Error::Contention { holder: found, .. }) if found.as_ref().map(|found| found.pid) == holder)
}

fn is_system<T>(result: Result<T, Error>, call: &str, errno: i32) -> bool {
    matches!(result, Err(Error::System { syscall, source, .. })
        if syscall == call && source.raw_os_error() == Some(errno))
}

/// A process of another program, like `flock(1)`, which locks the file and writes nothing.
fn locked_by_another_program(world: &World) -> (world::Process, world::File) {
    let stranger = world.process(4711);
    let Opened::File(file) = stranger.open(&target().path, Access::ReadWrite).unwrap() else {
        panic!("no file")
    };
    assert_eq!(stranger.try_lock(&file, LockMode::Exclusive).unwrap(), TryLock::Acquired);
    (stranger, file)
}

/// The pid of the holder and the reason, as each contended call reports them.
fn refusals(one: &world::Process) -> Vec<(Option<u32>, String)> {
    let contended = |error: Error| match error {
        Error::Contention { holder, reason, .. } => {
            (holder.map(|holder| holder.pid), reason.unwrap_or_default())
        }
        error => panic!("{error:?}"),
    };
    let status = inspect(one, &target()).unwrap();
    assert_eq!(status.state, LockState::Held);
    vec![
        contended(acquire(one, &target(), 0).map(drop).unwrap_err()),
        contended(break_lock(one, &target(), false).map(drop).unwrap_err()),
        (status.holder.map(|holder| holder.pid), status.reason),
    ]
}

fn acquire_and_forget(process: &world::Process) {
    assert!(acquire(process, &target(), 0).is_ok());
}

fn break_and_forget(process: &world::Process) {
    assert!(break_lock(process, &target(), false).is_ok());
}
