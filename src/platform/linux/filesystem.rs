//! Which filesystems one kernel alone has mounted: `statfs(2)`.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use crate::platform::unix::retried;

const NFS: u32 = 0x6969;
const CEPH: u32 = 0x00C3_6400;
/// `cifs` and `smb2` of `linux/magic.h`.
const SMB: [u32; 2] = [0xFF53_4D42, 0xFE53_4D42];

/// Whether this kernel alone has the file's filesystem mounted.
pub(in crate::platform) fn is_local(file: &OwnedFd) -> bool {
    has_type(file, is_local_type)
}

/// Whether a server has the kernel locks of the file, unless the mount has `nolock` or `local_lock` (`nfs(5)`) or `nobrl`
/// (`mount.cifs(8)`).
pub(in crate::platform) fn has_server_locks(file: &OwnedFd) -> bool {
    has_type(file, has_locks_at_server)
}

/// Whether `flock(2)` of the file fails with EACCES if another process has the lock: SMB since Linux 5.5.
pub(in crate::platform) fn is_smb(file: &OwnedFd) -> bool {
    has_type(file, |magic| SMB.contains(&magic))
}

fn has_type(file: &OwnedFd, is_it: fn(u32) -> bool) -> bool {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "the width and the sign of `f_type` differ by architecture, its low 32 bits do not"
    )]
    retried(|| rustix::fs::fstatfs(file)).is_ok_and(|stat| is_it(stat.f_type as u32))
}

fn has_locks_at_server(magic: u32) -> bool {
    [NFS, CEPH].contains(&magic) || SMB.contains(&magic)
}

/// Filesystems that one kernel alone has mounted, by `f_type` of `statfs(2)` (`linux/magic.h` and the
/// filesystems' own headers). FUSE and 9p can be anything, so they are not here.
fn is_local_type(magic: u32) -> bool {
    const LOCAL: [u32; 19] = [
        0xEF53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683E, // btrfs
        0x0102_1994, // tmpfs
        0x8584_58F6, // ramfs
        0x794C_7630, // overlayfs
        0xF2F5_2010, // f2fs
        0x2FC1_2FC1, // zfs
        0xCA45_1A4E, // bcachefs
        0x7366_746E, // ntfs3
        0x5346_544E, // ntfs
        0x2011_BAB0, // exfat
        0x4D44,      // vfat
        0x3153_464A, // jfs
        0x5265_4973, // reiserfs
        0x3434,      // nilfs2
        0xE0F5_E1E2, // erofs
        0x2405_1905, // ubifs
        0x72B6,      // jffs2
    ];
    LOCAL.contains(&magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `linux/magic.h`, `statfs(2)` and the filesystems' own headers.
    const NOT_LOCAL: [(&str, u32); 23] = [
        ("nfs", 0x6969),
        ("cifs", 0xFF53_4D42),
        ("smb2", 0xFE53_4D42),
        ("smb", 0x517B),
        ("fuse, also sshfs, s3fs and virtiofs", 0x6573_5546),
        ("9p, also WSL 2 and gVisor", 0x0102_1997),
        ("ceph", 0x00C3_6400),
        ("afs", 0x5346_414F),
        ("kafs", 0x6B41_4653),
        ("coda", 0x7375_7245),
        ("ncp", 0x564C),
        ("ocfs2", 0x7461_636F),
        ("gfs2", 0x0116_1970),
        ("lustre", 0x0BD0_0BD0),
        ("gpfs", 0x4750_4653),
        ("beegfs", 0x1983_0326),
        ("orangefs", 0x2003_0528),
        ("panfs", 0xAAD7_AAEA),
        ("vboxsf", 0x786F_4256),
        ("vmhgfs", 0xBACB_ACBC),
        ("prl_fs", 0x7C7C_6673),
        ("ecryptfs, over any other", 0xF15F),
        ("one that is not known yet", 0x1234_5678),
    ];

    #[test]
    fn few_filesystems_have_their_locks_at_a_server() {
        let found = NOT_LOCAL.iter().filter(|(_, magic)| has_locks_at_server(*magic)).map(|(name, _)| *name);
        assert_eq!(found.collect::<Vec<_>>(), ["nfs", "cifs", "smb2", "ceph"]);
        assert!(!has_locks_at_server(0xEF53), "ext4");
    }

    #[test]
    fn shared_filesystems_are_not_local() {
        for (name, magic) in NOT_LOCAL {
            assert!(!is_local_type(magic), "{name}");
        }
        for (name, magic) in
            [("ext4", 0xEF53), ("tmpfs", 0x0102_1994), ("ubifs", 0x2405_1905), ("jffs2", 0x72B6)]
        {
            assert!(is_local_type(magic), "{name}");
        }
    }
}
