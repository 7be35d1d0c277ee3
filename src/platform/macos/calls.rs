//! The C calls of macOS that no safe crate offers.
#![allow(unsafe_code, reason = "each call has its reason beside it")]

use std::ffi::{CStr, c_void};
use std::mem::{self, MaybeUninit, offset_of};
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;

/// `fstat(2)` of the file that has this number now.
pub(in crate::platform) fn stat_number(number: RawFd) -> rustix::io::Result<rustix::fs::Stat> {
    // SAFETY: the kernel checks the number, and the call changes no file, whichever has it.
    rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(number) })
}

/// `struct kinfo_proc` of `sys/sysctl.h`.
#[repr(C)]
pub(super) struct ProcessEntry {
    pub(super) start: libc::timeval,
    _addresses: [usize; 2],
    _flags: i32,
    pub(super) status: u8,
    _rest: [u8; 611],
}

const _: () = assert!(offset_of!(ProcessEntry, status) == 36 && size_of::<ProcessEntry>() == 648);

/// `KERN_PROC_PID` of `sysctl(3)`, for a process of any user, also for a zombie; `None` if there is no such process.
pub(super) fn process_entry(pid: u32) -> Option<ProcessEntry> {
    let pid = i32::try_from(pid).ok()?;
    let mut name = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid];
    let mut entry = MaybeUninit::<ProcessEntry>::uninit();
    let mut length = size_of::<ProcessEntry>();
    let into = entry.as_mut_ptr().cast::<c_void>();
    // SAFETY: the name has four parts, and the buffer has the length that is passed.
    let outcome = unsafe { libc::sysctl(name.as_mut_ptr(), 4, into, &raw mut length, ptr::null_mut(), 0) };
    // Nothing is written if there is no such process.
    let is_written = outcome == 0 && length == size_of::<ProcessEntry>();
    // SAFETY: the call has filled the whole structure, which has no invalid values.
    is_written.then(|| unsafe { entry.assume_init() })
}

/// The result of `proc_pidinfo` (`libproc.h`), also for a zombie; `None` if there is no such process of this user.
pub(super) fn process_info(pid: u32) -> Option<libc::proc_bsdinfo> {
    // `bsd/kern/proc_info.c`: with this argument the kernel searches the zombies too.
    const ZOMBIES_TOO: u64 = 1;
    let pid = i32::try_from(pid).ok()?;
    let mut info = MaybeUninit::<libc::proc_bsdinfo>::uninit();
    let size = i32::try_from(mem::size_of_val(&info)).ok()?;
    let buffer = info.as_mut_ptr().cast::<c_void>();
    // SAFETY: the buffer has the size that is passed.
    let written = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, ZOMBIES_TOO, buffer, size) };
    // SAFETY: the call has filled the whole structure, which has no invalid values.
    (written == size).then(|| unsafe { info.assume_init() })
}

/// `KERN_PROCARGS2` of `sysctl(3)`; `None` if the process has ended or is another user's.
pub(super) fn process_arguments(pid: u32) -> Option<Vec<u8>> {
    /// The most that `execve(2)` takes: `ARG_MAX` of `sys/syslimits.h`.
    const MAX: usize = 1 << 20;
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, i32::try_from(pid).ok()?];
    let mut buffer = vec![0_u8; MAX];
    let mut length = buffer.len();
    let into = buffer.as_mut_ptr().cast::<c_void>();
    // SAFETY: the name has three parts, and the buffer has the length that is passed.
    let outcome = unsafe { libc::sysctl(name.as_mut_ptr(), 3, into, &raw mut length, ptr::null_mut(), 0) };
    // The system omits the beginning of a text that is longer than the buffer.
    if outcome != 0 || length >= MAX {
        return None;
    }
    buffer.truncate(length);
    Some(buffer)
}

/// The name of a user.
pub(super) fn user_name(id: libc::uid_t) -> Option<String> {
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut buffer = [0_u8; 4096];
    let mut found = ptr::null_mut();
    let text = buffer.as_mut_ptr().cast();
    // SAFETY: the buffer has the length that is passed.
    let outcome = unsafe { libc::getpwuid_r(id, entry.as_mut_ptr(), text, buffer.len(), &raw mut found) };
    if outcome != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call has filled the entry, whose name is in the buffer and ends with a NUL.
    let name = unsafe { CStr::from_ptr(entry.assume_init().pw_name) };
    name.to_str().ok().map(str::to_owned)
}

/// A string of `sysctlbyname(3)`.
pub(super) fn sysctl_text(name: &CStr) -> Option<String> {
    let mut buffer = [0_u8; 128];
    let mut length = buffer.len();
    // SAFETY: the name ends with a NUL, and the buffer has the length that is passed.
    let outcome = unsafe {
        libc::sysctlbyname(name.as_ptr(), buffer.as_mut_ptr().cast(), &raw mut length, ptr::null_mut(), 0)
    };
    let text = CStr::from_bytes_until_nul(buffer.get(..length)?).ok()?.to_str().ok()?;
    (outcome == 0 && !text.is_empty()).then(|| text.to_owned())
}

/// Keeps the addon loaded: a worker thread that ends unloads it, and its helper threads would run unmapped code.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn keep_loaded() {
    let mut about = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is one of this image, and the call fills the structure or leaves it zeroed.
    let found = unsafe {
        libc::dladdr(keep_loaded as *const c_void, about.as_mut_ptr());
        about.assume_init()
    };
    if found.dli_fname.is_null() {
        return;
    }
    // SAFETY: the name is the one that this image was loaded by; nothing is loaded, only marked.
    unsafe { libc::dlopen(found.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE) };
}

/// Whether this is the thread that the process began with, which no worker ever is.
#[cfg(all(feature = "node", not(test)))]
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: the call takes nothing and only reads.
    unsafe { libc::pthread_main_np() != 0 }
}
