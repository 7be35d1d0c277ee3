//! Reads and writes of a lock file.
#![forbid(unsafe_code)]

use std::io;

use super::error::Error;
use super::record::{Content, RECORD_LEN};
use super::target::Target;
use crate::platform::{Failed, FileId, FileKind, Stat, System};

/// The length to which an invalid record is cut. An empty file would delay the next process by the creation grace
/// period.
pub(super) const INVALID_RECORD_LEN: u64 = 1;

#[cold]
#[inline(never)]
pub(super) fn not_a_file(target: &Target, kind: FileKind) -> Error {
    let path = target.path.clone();
    match kind {
        FileKind::Symlink => Error::Symlink { path },
        kind => Error::NotAFile { path, kind },
    }
}

/// Describes the path if it names the file `id`.
pub(super) fn stat_if_current<S: System>(
    system: &S,
    target: &Target,
    id: FileId,
) -> Result<Option<Stat>, Error> {
    let stat = system.stat_path(&target.path).map_err(target.system("lstat"))?;
    Ok(stat.filter(|stat| stat.id == id))
}

/// Reads the file. Content that no lock leaves is refused, except under the default name: the legacy lock used any file
/// there.
pub(super) fn read<S: System>(
    system: &S,
    target: &Target,
    file: &S::File,
    stat: &Stat,
) -> Result<Content, Error> {
    read_bytes(system, target, file, stat).map(|(content, _)| content)
}

pub(super) fn read_bytes<S: System>(
    system: &S,
    target: &Target,
    file: &S::File,
    stat: &Stat,
) -> Result<(Content, Vec<u8>), Error> {
    let mut buffer = vec![0; RECORD_LEN];
    let length = system.read(file, &mut buffer).map_err(target.system("read"))?;
    buffer.truncate(length);
    let content = Content::of(&buffer);
    let is_foreign = content == Content::Foreign || stat.size > RECORD_LEN as u64;
    if is_foreign && !target.has_default_name() {
        return Err(not_a_file(target, FileKind::NotALock));
    }
    Ok((content, buffer))
}

/// Whether this process cannot remove the file: it is a mount point (`EBUSY`), another user's in a directory with the
/// sticky bit (`EPERM`), in a directory without write permission (`EACCES`), or open in another program
/// of Windows (`EBUSY`).
pub(super) fn stays(failed: &Failed) -> bool {
    failed.syscall == "unlink"
        && matches!(failed.source.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::PermissionDenied)
}

/// Replaces the content of the file, unless it has another name, which may be part of a snapshot.
pub(super) fn overwrite<S: System>(system: &S, file: &S::File, content: &[u8]) -> bool {
    let is_ours_alone = system.stat(file).is_ok_and(|stat| stat.links <= 1);
    // Cut first, so that a crash in between leaves the beginning of one record.
    let is_cut = || content.len() >= RECORD_LEN || system.truncate(file, content.len() as u64).is_ok();
    is_ours_alone && is_cut() && system.write(file, content).is_ok()
}

/// Cuts the record off, unless the file has another name.
pub(super) fn cut<S: System>(system: &S, file: &S::File) -> io::Result<()> {
    if system.stat(file)?.links > 1 {
        return Ok(());
    }
    system.truncate(file, INVALID_RECORD_LEN)
}
