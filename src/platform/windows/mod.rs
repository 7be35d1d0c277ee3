//! Windows: `CreateFileW`, `LockFileEx`, file ids instead of inodes, deletion that frees the name at once; for waiting,
//! `ReadDirectoryChangesW` and `RegisterWaitForSingleObject`.

mod calls;
mod file;
mod notify;
mod process;
pub(super) mod source;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_BUSY, ERROR_DELETE_PENDING, ERROR_DIRECTORY, ERROR_FILE_EXISTS,
    ERROR_FILE_NOT_FOUND, ERROR_INVALID_FUNCTION, ERROR_IO_PENDING, ERROR_LOCK_VIOLATION,
    ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY, ERROR_NOT_SUPPORTED, ERROR_PATH_NOT_FOUND,
    ERROR_SHARING_VIOLATION, ERROR_TOO_MANY_OPEN_FILES,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_ATTRIBUTES,
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_WRITE_ATTRIBUTES,
};

#[cfg(all(feature = "node", not(test)))]
pub(crate) use self::calls::keep_loaded;
pub(crate) use self::process::describe_process;
use super::clock;
use crate::platform::system::System;
use crate::platform::types::{
    Access, Failed, FileId, FileKind, FsKind, LockMode, Opened, ProcessIdentity, ProcessState, Stat, TryLock,
    Unlinked,
};

/// The real system, with the constants of this process.
#[derive(Debug)]
pub(crate) struct Os {
    identity: ProcessIdentity,
    start: Instant,
}

impl Os {
    /// The one of this process.
    pub(crate) fn get() -> &'static Self {
        static OS: LazyLock<Os> =
            LazyLock::new(|| Os { identity: process::identity(), start: Instant::now() });
        &OS
    }
}

/// `false`: Windows does not distinguish the first thread of a process.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn is_main_thread() -> bool {
    false
}

/// Others may read, write, rename and delete the file while we have it open, as on every other system.
const SHARED: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// Options that open a link itself, not what it points to.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.share_mode(SHARED).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    options
}

fn is(error: &io::Error, codes: &[u32]) -> bool {
    error.raw_os_error().is_some_and(|code| codes.contains(&code.cast_unsigned()))
}

const NOTHING_THERE: [u32; 3] = [ERROR_FILE_NOT_FOUND, ERROR_PATH_NOT_FOUND, ERROR_DIRECTORY];

/// Whether the name belongs to a deleted file, and the filesystem frees it only with the last handle.
fn is_going(error: &io::Error) -> bool {
    is(error, &[ERROR_DELETE_PENDING])
        || (is(error, &[ERROR_ACCESS_DENIED]) && calls::last_open_met_a_deletion())
}

/// Repeats an open every 10 ms while another program disturbs it.
fn repeated(
    times: u32,
    mut open: impl FnMut() -> io::Result<File>,
    is_disturbed: impl Fn(&io::Error) -> bool,
) -> io::Result<File> {
    for _ in 0..times {
        match open() {
            Err(error) if is_disturbed(&error) => thread::sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
    open()
}

/// Whether another program, such as a virus scanner or a backup, has the file open without sharing it.
fn is_unshared(error: &io::Error) -> bool {
    is(error, &[ERROR_SHARING_VIOLATION])
}

/// Whether a call failed because handles or memory have run out, which may pass.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    const SHORT: [u32; 3] = [ERROR_TOO_MANY_OPEN_FILES, ERROR_NOT_ENOUGH_MEMORY, ERROR_NO_SYSTEM_RESOURCES];
    error.raw_os_error().and_then(|code| u32::try_from(code).ok()).is_some_and(|code| SHORT.contains(&code))
}

impl System for Os {
    type File = LockFile;

    fn create(&self, path: &Path) -> io::Result<Option<LockFile>> {
        let create = || options().read(true).write(true).create_new(true).open(path);
        // A file that another process has just deleted can deny access for a moment longer than it has a name.
        let is_disturbed = |error: &io::Error| {
            is(error, &[ERROR_ACCESS_DENIED]) && !is_going(error) && matches!(self.stat_path(path), Ok(None))
        };
        match repeated(2, create, is_disturbed) {
            // The name of a device, such as NUL, stands in every directory of older systems.
            Ok(file) => Ok(calls::is_on_disk(&file).then(|| LockFile(file))),
            Err(error) if is(&error, &[ERROR_FILE_EXISTS]) || is_going(&error) => Ok(None),
            // A directory of this name; the open reports that.
            Err(error) if is(&error, &[ERROR_ACCESS_DENIED]) => match self.stat_path(path) {
                Ok(Some(_)) => Ok(None),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Opened<LockFile>> {
        let error = match options().read(true).write(access == Access::ReadWrite).open(path) {
            Ok(file) if calls::is_on_disk(&file) => return Ok(Opened::File(LockFile(file))),
            Ok(_) => return Ok(Opened::NotAFile(FileKind::Device)),
            Err(error) if is(&error, &NOTHING_THERE) || is_going(&error) => return Ok(Opened::Missing),
            Err(error) if is_unshared(&error) => return Ok(Opened::Leased),
            Err(error) => error,
        };
        match self.stat_path(path) {
            Ok(Some(stat)) if stat.kind != FileKind::File => Ok(Opened::NotAFile(stat.kind)),
            _ => Err(error),
        }
    }

    fn try_lock(&self, LockFile(file): &LockFile, mode: LockMode) -> io::Result<TryLock> {
        match calls::lock(file, mode == LockMode::Exclusive) {
            Ok(()) => Ok(TryLock::Acquired),
            Err(error) if is(&error, &[ERROR_LOCK_VIOLATION, ERROR_IO_PENDING]) => Ok(TryLock::WouldBlock),
            Err(error) if is(&error, &[ERROR_NOT_SUPPORTED, ERROR_INVALID_FUNCTION]) => {
                Ok(TryLock::Unsupported)
            }
            Err(error) => Err(error),
        }
    }

    fn unlock(&self, LockFile(file): &LockFile) {
        calls::unlock(file);
    }

    fn stat(&self, LockFile(file): &LockFile) -> io::Result<Stat> {
        file::described(file)
    }

    fn stat_path(&self, path: &Path) -> io::Result<Option<Stat>> {
        // Directories can be opened with this flag alone.
        let flags = FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS;
        match options().access_mode(FILE_READ_ATTRIBUTES).custom_flags(flags).open(path) {
            Ok(file) if calls::is_on_disk(&file) => {
                file::described(&file).map(|stat| Some(stat).filter(|stat| stat.links > 0))
            }
            Ok(_) => Ok(Some(file::device())),
            Err(error) if is(&error, &NOTHING_THERE) || is_going(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, LockFile(file): &LockFile, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while length < buffer.len() {
            match file.seek_read(&mut buffer[length..], length as u64)? {
                0 => break,
                more => length += more,
            }
        }
        Ok(length)
    }

    fn write(&self, LockFile(file): &LockFile, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match file.seek_write(&bytes[written..], written as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => written += more,
            }
        }
        Ok(())
    }

    fn truncate(&self, LockFile(file): &LockFile, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    /// Windows has no such modes: the file has the access list that its directory hands down.
    fn set_mode(&self, _: &LockFile, _: u32) -> io::Result<()> {
        Ok(())
    }

    /// `FlushFileBuffers` of the file. Windows documents no such call for the entry of a directory.
    fn sync(&self, LockFile(file): &LockFile, _: &Path) -> Result<(), Failed> {
        file.sync_data().map_err(|source| Failed { syscall: "fdatasync", source })
    }

    fn unlink(&self, path: &Path, id: FileId) -> Result<Unlinked, Failed> {
        let failed = |source| Failed { syscall: "unlink", source };
        let open = || options().access_mode(DELETE | FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES).open(path);
        match repeated(10, open, is_unshared) {
            Ok(file) if file::described(&file).map_err(failed)?.id != id => Ok(Unlinked::Another),
            Ok(file) => calls::delete(&file).map(|()| Unlinked::Removed).map_err(failed),
            Err(error) if is(&error, &NOTHING_THERE) || is_going(&error) => Ok(Unlinked::Missing),
            Err(error) if is_unshared(&error) => {
                Err(failed(io::Error::from_raw_os_error(ERROR_BUSY.cast_signed())))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn is_planted(&self, _: &Path, _: u32) -> bool {
        false
    }

    fn fs_kind(&self, LockFile(file): &LockFile) -> FsKind {
        if file::is_local(file) { FsKind::Local } else { FsKind::Shared }
    }

    fn wall_clock(&self) -> u64 {
        clock::wall_clock()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn pause(&self, duration: Duration) {
        thread::sleep(duration);
    }

    fn process_exists(&self, pid: u32) -> bool {
        process::state(pid) != ProcessState::Dead
    }

    fn process(&self, pid: u32) -> ProcessState {
        process::state(pid)
    }

    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }
}

/// An open file. Windows drops the lock of a closed handle "depending on available system resources" (its
/// documentation of `LockFileEx`), so that it is dropped by name first.
#[derive(Debug)]
pub(crate) struct LockFile(File);

impl Drop for LockFile {
    fn drop(&mut self) {
        calls::unlock(&self.0);
    }
}
