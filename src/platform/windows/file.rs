//! The properties of a file that the protocol needs, from those of a handle on Windows.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::windows::fs::MetadataExt;

use super::calls;
use crate::platform::types::{FileId, FileKind, Stat};

pub(super) fn described(file: &File) -> io::Result<Stat> {
    let metadata = file.metadata()?;
    let links = calls::links(file)?;
    let kind = match metadata.file_type() {
        kind if kind.is_symlink() => FileKind::Symlink,
        kind if kind.is_dir() => FileKind::Directory,
        kind if kind.is_file() => FileKind::File,
        _ => FileKind::Other,
    };
    Ok(Stat {
        id: calls::id(file)?,
        kind,
        links: u64::from(links),
        owner: 0,
        size: metadata.file_size(),
        mode: 0o600,
        modified: since_epoch(metadata.last_write_time()),
    })
}

/// A device, which has none of this.
pub(super) fn device() -> Stat {
    let id = FileId { device: 0, inode: 0 };
    Stat { id, kind: FileKind::Device, links: 1, owner: 0, size: 0, mode: 0o600, modified: 0 }
}

/// Milliseconds since the Unix epoch, from units of 100 ns since the year 1601.
fn since_epoch(filetime: u64) -> u64 {
    const UNIX_EPOCH: u64 = 11_644_473_600_000;
    (filetime / 10_000).saturating_sub(UNIX_EPOCH)
}

/// Whether this machine alone has the file's filesystem mounted. A share reports the name of the filesystem behind it.
pub(super) fn is_local(file: &File) -> bool {
    const LOCAL: [&str; 5] = ["NTFS", "ReFS", "FAT", "FAT32", "exFAT"];
    !calls::is_remote(file) && calls::filesystem(file).is_some_and(|name| LOCAL.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_time_is_converted_to_the_unix_epoch() {
        assert_eq!(since_epoch(116_444_736_000_000_000), 0);
        assert_eq!(since_epoch(116_444_736_000_000_000 + 12_340_000), 1234);
        assert_eq!(since_epoch(0), 0);
    }
}
