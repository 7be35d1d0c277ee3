//! The calls of Windows that the standard library does not offer.
#![allow(unsafe_code, reason = "each call has its reason beside it")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::slice;

use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessCommandLineInformation};
use windows_sys::Win32::Foundation::{
    ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED, FILETIME, HANDLE, UNICODE_STRING,
    WAIT_OBJECT_0,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, LookupAccountSidW, SECURITY_MAX_SID_SIZE, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_DISPOSITION_FLAG_DELETE,
    FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE, FILE_DISPOSITION_FLAG_POSIX_SEMANTICS,
    FILE_DISPOSITION_INFO, FILE_DISPOSITION_INFO_EX, FILE_ID_INFO, FILE_INFO_BY_HANDLE_CLASS,
    FILE_REMOTE_PROTOCOL_INFO, FILE_STANDARD_INFO, FILE_TYPE_DISK, FileDispositionInfo,
    FileDispositionInfoEx, FileIdInfo, FileRemoteProtocolInfo, FileStandardInfo, GetFileInformationByHandle,
    GetFileInformationByHandleEx, GetFileType, GetVolumeInformationByHandleW, LOCKFILE_EXCLUSIVE_LOCK,
    LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, SetFileInformationByHandle, UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Registry::{
    HKEY_LOCAL_MACHINE, REG_ROUTINE_FLAGS, RRF_RT_REG_DWORD, RRF_RT_REG_SZ, RegGetValueW,
};
use windows_sys::Win32::System::SystemInformation::{ComputerNamePhysicalDnsHostname, GetComputerNameExW};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessId, GetProcessTimes, OpenProcess, OpenProcessToken,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, WaitForSingleObject,
};

use super::is;
use crate::platform::types::FileId;

pub(super) fn succeeded(outcome: i32) -> io::Result<()> {
    if outcome == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The one byte that carries the lock: far past every record, because no other process can read a locked byte.
fn lock_byte() -> OVERLAPPED {
    let mut byte = OVERLAPPED::default();
    byte.Anonymous.Anonymous.Offset = u32::MAX - 1;
    byte.Anonymous.Anonymous.OffsetHigh = 0x3fff_ffff;
    byte
}

pub(super) fn lock(file: &File, exclusive: bool) -> io::Result<()> {
    let mode = if exclusive { LOCKFILE_EXCLUSIVE_LOCK } else { 0 };
    let mut byte = lock_byte();
    let handle = file.as_raw_handle();
    // SAFETY: the handle is open, and a call that fails at once keeps no pointer to `byte`.
    succeeded(unsafe { LockFileEx(handle, LOCKFILE_FAIL_IMMEDIATELY | mode, 0, 1, 0, &raw mut byte) })
}

/// A file that is not locked stays so.
pub(super) fn unlock(file: &File) {
    let mut byte = lock_byte();
    // SAFETY: the handle is open, and not an asynchronous one, so that the call has ended when it returns.
    unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut byte) };
}

/// Removes the file's name: immediately if the filesystem can, otherwise with the last handle.
pub(super) fn delete(file: &File) -> io::Result<()> {
    const UNKNOWN: [u32; 3] = [ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED, ERROR_INVALID_FUNCTION];
    const IMMEDIATELY: u32 = FILE_DISPOSITION_FLAG_DELETE | FILE_DISPOSITION_FLAG_POSIX_SEMANTICS;
    // Windows before version 1809 refuses all flags with this one. FAT and shares support neither.
    for flags in [IMMEDIATELY | FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE, IMMEDIATELY] {
        match set(file, FileDispositionInfoEx, &FILE_DISPOSITION_INFO_EX { Flags: flags }) {
            Err(error) if is(&error, &UNKNOWN) => {}
            outcome => return outcome,
        }
    }
    set(file, FileDispositionInfo, &FILE_DISPOSITION_INFO { DeleteFile: true })
}

fn set<T>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS, value: &T) -> io::Result<()> {
    let (size, value) = (size_of::<T>(), ptr::from_ref(value).cast::<c_void>());
    let size = u32::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the handle is open, and the pointer leads to a structure of this class and size.
    succeeded(unsafe { SetFileInformationByHandle(file.as_raw_handle(), class, value, size) })
}

/// `T` is the structure of the class, as the documentation of `GetFileInformationByHandleEx` pairs them.
fn get<T: Default>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
    let mut value = T::default();
    let size = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let into = (&raw mut value).cast::<c_void>();
    // SAFETY: the handle is open, and the pointer leads to a structure of this class and size.
    succeeded(unsafe { GetFileInformationByHandleEx(file.as_raw_handle(), class, into, size) })?;
    Ok(value)
}

/// How many names the file has; 0 after the deletion of the one that this handle was opened by.
pub(super) fn links(file: &File) -> io::Result<u32> {
    let about: FILE_STANDARD_INFO = get(file, FileStandardInfo)?;
    Ok(if about.DeletePending { 0 } else { about.NumberOfLinks })
}

/// Which file it is: 128 bits on every volume that has them (`ReFS` needs them), else the older 64.
pub(super) fn id(file: &File) -> io::Result<FileId> {
    if let Ok(id) = get::<FILE_ID_INFO>(file, FileIdInfo) {
        let inode = u128::from_le_bytes(id.FileId.Identifier);
        return Ok(FileId { device: id.VolumeSerialNumber, inode });
    }
    let mut about = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the pointer leads to the structure that the call fills.
    succeeded(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut about) })?;
    let inode = u128::from(about.nFileIndexHigh) << 32 | u128::from(about.nFileIndexLow);
    Ok(FileId { device: u64::from(about.dwVolumeSerialNumber), inode })
}

/// Whether the handle is of a file or directory, not of a device or pipe.
pub(super) fn is_on_disk(file: &File) -> bool {
    // SAFETY: the handle is open.
    unsafe { GetFileType(file.as_raw_handle()) == FILE_TYPE_DISK }
}

/// Whether the file is on another machine; local files have no remote protocol.
pub(super) fn is_remote(file: &File) -> bool {
    get::<FILE_REMOTE_PROTOCOL_INFO>(file, FileRemoteProtocolInfo).is_ok()
}

/// The name of the file's filesystem.
pub(super) fn filesystem(file: &File) -> Option<String> {
    let mut name = [0_u16; 64];
    // SAFETY: the handle is open, the buffer has the length that is passed, and the others may be null.
    let outcome = unsafe {
        GetVolumeInformationByHandleW(
            file.as_raw_handle(),
            ptr::null_mut(),
            0,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            name.as_mut_ptr(),
            64,
        )
    };
    (outcome != 0).then(|| text(&name))
}

/// The text before the first NUL.
fn text(wide: &[u16]) -> String {
    let length = wide.iter().position(|unit| *unit == 0).unwrap_or(wide.len());
    String::from_utf16_lossy(&wide[..length])
}

/// Whether the last `CreateFileW` of this thread was refused because the file is being deleted, for which Windows has
/// a status of its own but no error code.
pub(super) fn last_open_met_a_deletion() -> bool {
    /// `ntstatus.h`.
    const STATUS_DELETE_PENDING: u32 = 0xc000_0056;
    /// As above.
    const STATUS_FILE_DELETED: u32 = 0xc000_0123;
    #[link(name = "ntdll")]
    unsafe extern "system" {
        fn RtlGetLastNtStatus() -> i32;
    }
    // SAFETY: the call reads a field of this thread.
    let status = unsafe { RtlGetLastNtStatus() }.cast_unsigned();
    status == STATUS_DELETE_PENDING || status == STATUS_FILE_DELETED
}

/// The properties of a process.
pub(super) enum Found {
    Missing,
    /// This user may not query it.
    Hidden,
    /// When it started, in microseconds since the Unix epoch.
    Since(u64),
}

/// Opens a process that runs. `Ok(None)`: there is none with this pid.
pub(super) fn open_process(pid: u32) -> io::Result<Option<OwnedHandle>> {
    // SAFETY: any number is a valid argument.
    let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE, 0, pid) };
    if handle.is_null() {
        let error = io::Error::last_os_error();
        let is_unknown = error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_INVALID_PARAMETER);
        return if is_unknown { Ok(None) } else { Err(error) };
    }
    // SAFETY: the handle was opened just now, and nothing else has it.
    let process = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: the handle is open. The process of the next lower multiple of four is opened, too.
    let is_another = unsafe { GetProcessId(process.as_raw_handle()) } != pid;
    // SAFETY: the handle is open, and no time is waited. An ended process stays while a handle of it is open.
    let has_ended = unsafe { WaitForSingleObject(process.as_raw_handle(), 0) } == WAIT_OBJECT_0;
    Ok((!is_another && !has_ended).then_some(process))
}

pub(super) fn process(pid: u32) -> Found {
    match open_process(pid) {
        Ok(Some(process)) => start(process.as_raw_handle()).map_or(Found::Hidden, Found::Since),
        Ok(None) => Found::Missing,
        Err(_) => Found::Hidden,
    }
}

/// The command line and the user of a process.
pub(super) fn details(pid: u32) -> (Option<String>, Option<String>) {
    // SAFETY: the call takes no pointer.
    let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
    if handle.is_null() {
        return (None, None);
    }
    // SAFETY: the call gave a new handle.
    let process = unsafe { OwnedHandle::from_raw_handle(handle) };
    (command_line(&process), user(&process))
}

fn command_line(process: &OwnedHandle) -> Option<String> {
    // The structure, and the longest text that it can describe. Of `u64`, which aligns it.
    let mut buffer = vec![0_u64; 2 + (1 << 16) / 8];
    let size = u32::try_from(mem::size_of_val(&*buffer)).ok()?;
    let into = buffer.as_mut_ptr().cast::<c_void>();
    let class = ProcessCommandLineInformation;
    let handle = process.as_raw_handle();
    // SAFETY: the handle is open, and the buffer has the size that is passed.
    if unsafe { NtQueryInformationProcess(handle, class, into, size, ptr::null_mut()) } != 0 {
        return None;
    }
    // SAFETY: the call has written the structure to the beginning of the buffer.
    let UNICODE_STRING { Length: length, Buffer: wide, .. } = unsafe { *into.cast::<UNICODE_STRING>() };
    if wide.is_null() {
        return None;
    }
    // SAFETY: the call has written the text, of that many bytes, to the buffer behind the structure.
    Some(String::from_utf16_lossy(unsafe { slice::from_raw_parts(wide, usize::from(length) / 2) }))
}

fn user(process: &OwnedHandle) -> Option<String> {
    let mut token = ptr::null_mut();
    // SAFETY: the handle is open, and the pointer leads to a handle.
    succeeded(unsafe { OpenProcessToken(process.as_raw_handle(), TOKEN_QUERY, &raw mut token) }).ok()?;
    // SAFETY: the call gave a new handle.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    // The structure, and the longest id of a user. Of `u64`, which aligns it.
    let mut about = [0_u64; 2 + SECURITY_MAX_SID_SIZE.div_ceil(8) as usize];
    let mut size = u32::try_from(mem::size_of_val(&about)).ok()?;
    let into = about.as_mut_ptr().cast::<c_void>();
    let handle = token.as_raw_handle();
    // SAFETY: the handle is open, and the buffer has the size that is passed.
    succeeded(unsafe { GetTokenInformation(handle, TokenUser, into, size, &raw mut size) }).ok()?;
    // SAFETY: the call has written the structure to the beginning of the buffer.
    let sid = unsafe { (*into.cast::<TOKEN_USER>()).User.Sid };
    let (mut name, mut domain) = ([0_u16; 257], [0_u16; 257]);
    let (mut name_length, mut domain_length) = (257, 257);
    let mut kind = 0;
    // SAFETY: the id is in the buffer, and the others have the lengths that are passed.
    let outcome = unsafe {
        LookupAccountSidW(
            ptr::null(),
            sid,
            name.as_mut_ptr(),
            &raw mut name_length,
            domain.as_mut_ptr(),
            &raw mut domain_length,
            &raw mut kind,
        )
    };
    Some(text(&name)).filter(|name| outcome != 0 && !name.is_empty())
}

/// When this process started, in microseconds since the Unix epoch.
pub(super) fn own_start() -> Option<u64> {
    // SAFETY: the call gives a constant that stands for this process.
    start(unsafe { GetCurrentProcess() })
}

/// JavaScript reads a record exactly: the number is smaller than 2^53, and one of units of 100 ns since 1601 is not.
fn start(process: HANDLE) -> Option<u64> {
    /// In units of 100 ns since the year 1601.
    const UNIX_EPOCH: u64 = 116_444_736_000_000_000;
    let mut times = [FILETIME::default(); 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the handle is open or stands for this process, and the pointers lead to four times.
    let outcome = unsafe { GetProcessTimes(process, created, ended, kernel, user) };
    let FILETIME { dwLowDateTime: low, dwHighDateTime: high } = times[0];
    let created = u64::from(high) << 32 | u64::from(low);
    (outcome != 0).then_some(created.saturating_sub(UNIX_EPOCH) / 10)
}

/// The host's name.
pub(super) fn host() -> Option<String> {
    let mut name = [0_u16; 256];
    let mut length = 256;
    // SAFETY: the buffer has the length that is passed.
    let outcome =
        unsafe { GetComputerNameExW(ComputerNamePhysicalDnsHostname, name.as_mut_ptr(), &raw mut length) };
    Some(text(&name)).filter(|name| outcome != 0 && !name.is_empty())
}

/// A text below `HKEY_LOCAL_MACHINE`.
pub(super) fn registry_text(key: &str, name: &str) -> Option<String> {
    let mut value = [0_u16; 64];
    registry(key, name, RRF_RT_REG_SZ, &mut value)?;
    Some(text(&value)).filter(|text| !text.is_empty())
}

/// A number below `HKEY_LOCAL_MACHINE`.
pub(super) fn registry_number(key: &str, name: &str) -> Option<u32> {
    let mut value = 0_u32;
    registry(key, name, RRF_RT_REG_DWORD, &mut value)?;
    Some(value)
}

/// Fills `value`, which must be of plain numbers, as the `kind` of value requires.
fn registry<T>(key: &str, name: &str, kind: REG_ROUTINE_FLAGS, value: &mut T) -> Option<()> {
    let wide = |text: &str| -> Vec<u16> { std::ffi::OsStr::new(text).encode_wide().chain([0]).collect() };
    let (key, name) = (wide(key), wide(name));
    let mut size = u32::try_from(mem::size_of::<T>()).ok()?;
    let into = ptr::from_mut(value).cast::<c_void>();
    // SAFETY: both names end with a NUL, and the buffer has the size that is passed.
    let outcome = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            key.as_ptr(),
            name.as_ptr(),
            kind,
            ptr::null_mut(),
            into,
            &raw mut size,
        )
    };
    (outcome == 0).then_some(())
}

/// Keeps the addon loaded: a worker thread that ends unloads it, and its helper threads would run unmapped code.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn keep_loaded() {
    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
    };
    let flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN;
    let mut module = ptr::null_mut();
    // SAFETY: with this flag the second argument is an address in the module, not a name.
    unsafe { GetModuleHandleExW(flags, keep_loaded as *const u16, &raw mut module) };
}
