//! macOS: `fstatfs(2)`, `proc_pidinfo` and `sysctl(3)` beside what every Unix has; for waiting, `kqueue(2)`.

mod calls;
mod kqueue;
mod process;
pub(super) mod source;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_fullfsync, fsync};
use rustix::io::Errno;

pub(super) use self::calls::stat_number;
#[cfg(all(feature = "node", not(test)))]
pub(crate) use self::calls::{is_main_thread, keep_loaded};
pub(crate) use self::process::describe_process;
pub(super) use self::process::{identity, state};
use crate::platform::types::FileId;

/// Syncs a file or a directory. `fsync(2)` leaves data in the cache of the drive, so it is only for filesystems without
/// `F_FULLFSYNC` (`fcntl(2)` names those that have it), as `SQLite` and libuv do.
pub(super) fn sync_data(file: impl AsFd) -> rustix::io::Result<()> {
    match fcntl_fullfsync(&file) {
        Err(error) if [Errno::NOTTY, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::INVAL].contains(&error) => {
            fsync(file)
        }
        outcome => outcome,
    }
}

pub(super) use self::sync_data as sync_directory;

/// Whether `flock(2)` of the file fails with EACCES if another process has the lock. macOS documents no such error.
pub(super) fn is_smb(_: &OwnedFd) -> bool {
    false
}

/// macOS does not report which process holds a kernel lock.
pub(super) fn lock_owner(_: FileId) -> Option<u32> {
    None
}

/// As [`lock_owner`].
pub(super) fn shared_lock_owners(_: FileId) -> Vec<u32> {
    Vec::new()
}

/// macOS has no flag that keeps an open from changing the access time.
pub(super) const NO_TRACE: OFlags = OFlags::empty();

/// macOS has no `O_PATH`.
pub(super) const DIRECTORY: OFlags = OFlags::empty();

/// macOS mounts over directories alone.
pub(super) fn is_mount_point(_: &Path) -> bool {
    false
}

/// Whether this kernel alone has the file's filesystem mounted: `MNT_LOCAL` of `statfs(2)`.
pub(super) fn is_local(file: &OwnedFd) -> bool {
    const LOCAL: u32 = libc::MNT_LOCAL.cast_unsigned();
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_flags & LOCAL != 0 && is_local_kind(&stat.f_fstypename))
}

/// Whether filesystems of this kind are local if they report it. FUSE and the folders that a virtual machine shares with
/// its host report it although they are not. FAT does not count as local either: it numbers a file by its first cluster, so
/// all empty files have one number (`msdosfs_defileid` of Apple).
fn is_local_kind(name: &[libc::c_char]) -> bool {
    const LOCAL: [&str; 3] = ["apfs", "hfs", "tmpfs"];
    let bytes = name.iter().take_while(|byte| **byte != 0).map(|byte| byte.cast_unsigned());
    let name: Vec<u8> = bytes.collect();
    LOCAL.iter().any(|local| local.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_filesystems_are_local() {
        let name = |text: &str| text.bytes().map(u8::cast_signed).chain([0, 7]).collect::<Vec<_>>();
        assert!(is_local_kind(&name("apfs")) && is_local_kind(&name("hfs")));
        for shared in ["macfuse", "msdos", "exfat", "smbfs", "nfs", "AppleVirtIOFS", "apf", "apfsx", ""] {
            assert!(!is_local_kind(&name(shared)), "{shared}");
        }
    }
}
