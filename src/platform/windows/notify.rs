//! Changes of a directory and the end of a process, which threads of the system report.
#![allow(unsafe_code, reason = "each call has its reason beside it")]

use std::ffi::c_void;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use windows_sys::Win32::Foundation::{
    ERROR_NOTIFY_ENUM_DIR, ERROR_OPERATION_ABORTED, HANDLE, INVALID_HANDLE_VALUE, NO_ERROR, STATUS_CANCELLED,
    STATUS_NOTIFY_ENUM_DIR,
};
use windows_sys::Win32::Globalization::{CSTR_EQUAL, CompareStringOrdinal};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_NOTIFY_CHANGE_FILE_NAME, FILE_NOTIFY_CHANGE_LAST_WRITE, FILE_NOTIFY_CHANGE_SIZE,
    ReadDirectoryChangesW,
};
use windows_sys::Win32::System::IO::{BindIoCompletionCallback, CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Threading::{
    INFINITE, RegisterWaitForSingleObject, UnregisterWaitEx, WT_EXECUTEONLYONCE,
};

use super::calls::succeeded;

/// A change of a directory.
#[derive(Debug)]
pub(super) enum Change {
    /// The files of these names were created, removed, renamed or written.
    Of(Vec<Vec<u16>>),
    /// Any file may have changed.
    Unknown,
    /// As `Unknown`, and no change is reported any more, such as after the directory was removed.
    Over,
}

type ReportChange = Box<dyn Fn(&Change) + Send + Sync>;

/// Reports the changes of the files in a directory until it is dropped.
#[derive(Debug)]
pub(super) struct DirectoryChanges(Arc<Reading>);

struct Reading {
    directory: File,
    is_dropped: AtomicBool,
    report: ReportChange,
}

/// Belongs to the kernel between [`read`] and [`on_read`].
#[repr(C)]
struct Pending {
    overlapped: OVERLAPPED,
    buffer: [u8; BUFFER as usize],
    reading: Arc<Reading>,
}

/// A directory that changes faster than this is read is reported as [`Change::Unknown`].
const BUFFER: u32 = 4096;

impl DirectoryChanges {
    /// `directory` was opened for overlapped operations.
    pub(super) fn begin(directory: File, report: ReportChange) -> io::Result<Self> {
        let reading = Arc::new(Reading { directory, is_dropped: AtomicBool::new(false), report });
        // SAFETY: the handle is open, and each of its operations is one of `read`, as `on_read` needs.
        succeeded(unsafe { BindIoCompletionCallback(reading.directory.as_raw_handle(), Some(on_read), 0) })?;
        let buffer = [0; BUFFER as usize];
        read(Box::new(Pending { overlapped: OVERLAPPED::default(), buffer, reading: reading.clone() }))?;
        Ok(Self(reading))
    }
}

impl Drop for DirectoryChanges {
    fn drop(&mut self) {
        self.0.is_dropped.store(true, Ordering::SeqCst);
        // `on_read` then drops the last reference, which closes the handle.
        self.0.cancel();
    }
}

impl Reading {
    fn cancel(&self) {
        // SAFETY: the handle is open.
        unsafe { CancelIoEx(self.directory.as_raw_handle(), ptr::null()) };
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.directory.fmt(f)
    }
}

/// Requests the next changes. Changes since the last time are among them.
fn read(pending: Box<Pending>) -> io::Result<()> {
    const CHANGES: u32 =
        FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_SIZE | FILE_NOTIFY_CHANGE_LAST_WRITE;
    let handle = pending.reading.directory.as_raw_handle();
    let pending = Box::into_raw(pending);
    // SAFETY: the handle is open. Nothing else uses the structure, which starts at a multiple of four as the buffer
    // must, until `on_read` gets it back.
    let outcome = succeeded(unsafe {
        ReadDirectoryChangesW(
            handle,
            (&raw mut (*pending).buffer).cast(),
            BUFFER,
            0,
            CHANGES,
            ptr::null_mut(),
            &raw mut (*pending).overlapped,
            None,
        )
    });
    if outcome.is_err() {
        // SAFETY: a call that fails keeps no pointer, and `on_read` does not follow.
        drop(unsafe { Box::from_raw(pending) });
    }
    outcome
}

/// The outcomes after which the next read reports changes: success, the thread that made the request has ended, and there
/// were too many changes. Windows passes the status here, and wine the error code that the documentation describes.
const GOES_ON: [u32; 5] = [
    NO_ERROR,
    STATUS_CANCELLED.cast_unsigned(),
    ERROR_OPERATION_ABORTED,
    STATUS_NOTIFY_ENUM_DIR.cast_unsigned(),
    ERROR_NOTIFY_ENUM_DIR,
];

/// Runs on a thread of the system.
unsafe extern "system" fn on_read(error: u32, length: u32, overlapped: *mut OVERLAPPED) {
    // SAFETY: this is the first field of the structure that `read` has given away, and the operation is over.
    let pending = unsafe { Box::from_raw(overlapped.cast::<Pending>()) };
    let reading = pending.reading.clone();
    if reading.is_dropped.load(Ordering::SeqCst) {
        return;
    }
    let names = names(pending.buffer.get(..length as usize).unwrap_or_default());
    if !GOES_ON.contains(&error) || read(pending).is_err() {
        return (reading.report)(&Change::Over);
    }
    (reading.report)(&if names.is_empty() { Change::Unknown } else { Change::Of(names) });
    if reading.is_dropped.load(Ordering::SeqCst) {
        // Its cancellation may have come before the read.
        reading.cancel();
    }
}

/// The names in a sequence of `FILE_NOTIFY_INFORMATION`.
fn names(mut bytes: &[u8]) -> Vec<Vec<u16>> {
    let number = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let mut names = Vec::new();
    while let (Some(next), Some(length)) = (number(bytes, 0), number(bytes, 8)) {
        let name = bytes.get(12..12 + length).unwrap_or_default();
        names.push(name.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect());
        bytes = if next == 0 { &[] } else { bytes.get(next..).unwrap_or_default() };
    }
    names
}

/// Whether a change of the name `changed` can be one of the file `name`: without regard to case, as most directories
/// compare names. The system may report the short name of a file, such as `RECONC~1.LOC`.
pub(super) fn can_be(changed: &[u16], name: &[u16]) -> bool {
    let length = |name: &[u16]| i32::try_from(name.len()).unwrap_or(0);
    let (of_changed, of_name) = (length(changed), length(name));
    // SAFETY: the pointers lead to as many units as is passed.
    let order = unsafe { CompareStringOrdinal(changed.as_ptr(), of_changed, name.as_ptr(), of_name, 1) };
    order == CSTR_EQUAL || changed.contains(&u16::from(b'~'))
}

type ReportEnd = Box<dyn Fn() + Send + Sync>;

/// Reports the end of a process, once, until it is dropped.
pub(in crate::platform) struct ProcessEnd {
    wait: HANDLE,
    // The wait uses both until it is unregistered.
    _process: OwnedHandle,
    report: Arc<ReportEnd>,
}

// SAFETY: the calls take the handle of a wait on any thread.
unsafe impl Send for ProcessEnd {}

impl ProcessEnd {
    pub(super) fn begin(process: OwnedHandle, report: ReportEnd) -> io::Result<Self> {
        let mut wait = ptr::null_mut();
        let report = Arc::new(report);
        let context = Arc::as_ptr(&report).cast::<c_void>();
        // SAFETY: the handle and the context stay until the wait is unregistered.
        succeeded(unsafe {
            RegisterWaitForSingleObject(
                &raw mut wait,
                process.as_raw_handle(),
                Some(on_end),
                context,
                INFINITE,
                WT_EXECUTEONLYONCE,
            )
        })?;
        Ok(Self { wait, _process: process, report })
    }
}

impl Drop for ProcessEnd {
    /// Waits for a report that is under way.
    fn drop(&mut self) {
        // SAFETY: the wait was registered and is unregistered once. With this handle the call returns when `on_end` has.
        if unsafe { UnregisterWaitEx(self.wait, INVALID_HANDLE_VALUE) } == 0 {
            // `on_end` may still come.
            mem::forget(self.report.clone());
        }
    }
}

impl fmt::Debug for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.wait.fmt(f)
    }
}

/// Runs on a thread of the system.
unsafe extern "system" fn on_end(context: *mut c_void, _: bool) {
    // SAFETY: the context is that of `begin`, and stays until the wait is unregistered.
    let report = unsafe { &*context.cast::<ReportEnd>() };
    report();
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::windows::fs::OpenOptionsExt;
    use std::sync::mpsc;
    use std::time::Duration;

    use windows_sys::Win32::Storage::FileSystem::{
        FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OVERLAPPED, FILE_LIST_DIRECTORY,
    };

    use super::*;

    fn wide(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn names_of_changes_are_parsed() {
        let entry = |next: u32, name: &str| {
            let bytes: Vec<u8> = wide(name).iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let length = u32::try_from(bytes.len()).expect("short");
            [next, 3, length].iter().flat_map(|number| number.to_le_bytes()).chain(bytes).collect::<Vec<u8>>()
        };
        let both = [entry(20, "a.l"), vec![0, 0], entry(0, "\u{e4}"), vec![1; 40]].concat();
        assert_eq!(names(&both), [wide("a.l"), wide("\u{e4}")]);
        assert_eq!(names(&[]), Vec::<Vec<u16>>::new());
        // An offset or a length that leads out of the buffer ends the sequence.
        assert_eq!(names(&entry(4000, "b")), [wide("b")]);
        assert_eq!(names(&entry(0, "c")[..13]), [wide("")]);
    }

    #[test]
    fn changes_go_on_after_an_overflow() {
        const SOON: Duration = Duration::from_secs(20);
        let directory = tempfile::tempdir().expect("a directory");
        let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OVERLAPPED;
        let mut options = OpenOptions::new();
        let opened = options.access_mode(FILE_LIST_DIRECTORY).custom_flags(flags).open(directory.path());
        let (sender, changes) = mpsc::channel();
        let report = move |change: &Change| drop(sender.send(format!("{change:?}")));
        let reading = DirectoryChanges::begin(opened.expect("open"), Box::new(report)).expect("reads");
        for status in [STATUS_NOTIFY_ENUM_DIR, STATUS_CANCELLED] {
            let buffer = [0; BUFFER as usize];
            let pending = Pending { overlapped: OVERLAPPED::default(), buffer, reading: reading.0.clone() };
            // SAFETY: the structure is given away, and no read is under way that uses it.
            unsafe { on_read(status.cast_unsigned(), 0, Box::into_raw(Box::new(pending)).cast()) };
            assert_eq!(changes.recv_timeout(SOON).as_deref(), Ok("Unknown"), "{status:#x}");
        }
        fs::write(directory.path().join("l"), "").expect("written");
        let name = format!("{:?}", Change::Of(vec![wide("l")]));
        assert_eq!(changes.recv_timeout(SOON), Ok(name));
    }

    #[test]
    fn a_name_is_compared_without_case() {
        assert!(can_be(&wide("Build.LOCK"), &wide("build.lock")) && can_be(&wide("\u{c4}"), &wide("\u{e4}")));
        assert!(can_be(&wide("BUILD~1.LOC"), &wide("build.lock")));
        assert!(!can_be(&wide("build.lock2"), &wide("build.lock")) && !can_be(&[], &wide("l")));
    }
}
