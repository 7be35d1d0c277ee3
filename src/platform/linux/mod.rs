//! Linux, by system calls alone: `statfs(2)`, `proc(5)`; for waiting, `fcntl(2)`, `inotify(7)`, `pidfd_open(2)`,
//! `eventfd(2)` and `poll(2)`.

mod calls;
mod filesystem;
mod process;
mod queue;
mod watch;

use std::path::Path;

use rustix::fs::{AtFlags, CWD, OFlags, StatxAttributes, StatxFlags};

pub(super) use rustix::fs::{fdatasync as sync_data, fsync as sync_directory};

pub(super) use self::calls::stat_number;
pub(super) use self::filesystem::{has_server_locks, is_local, is_smb};
pub(crate) use self::process::describe_process;
pub(super) use self::process::{identity, lock_owner, shared_lock_owners, state};
pub(crate) use self::queue::{Arrival, QueueTicket};
pub(crate) use self::watch::{Watch, Watcher, Watching};

/// The linker's `-z nodelete` (see `build.rs`) keeps the addon loaded.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn keep_loaded() {}

/// Whether this is the thread that the process began with, which no worker ever is: `gettid(2)`.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// The flag that keeps an open from changing the access time.
pub(super) const NO_TRACE: OFlags = OFlags::NOATIME;

/// The flag to open a directory by which to name its files: `O_PATH` of `open(2)` needs no permission to read.
pub(super) const DIRECTORY: OFlags = OFlags::PATH;

/// Whether something is mounted at the path itself: `STATX_ATTR_MOUNT_ROOT` of `statx(2)`, since Linux 5.8.
pub(super) fn is_mount_point(path: &Path) -> bool {
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
