//! The C calls of macOS that no safe crate offers.
#![allow(unsafe_code, reason = "each call has its reason beside it")]

use std::ffi::{CStr, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr;

/// What `proc_pidinfo` (`libproc.h`) tells of a process, a zombie too; `None` if it is not there or another user's.
pub(super) fn process_info(pid: u32) -> Option<libc::proc_bsdinfo> {
    // `bsd/kern/proc_info.c`: with this argument the kernel looks among the zombies as well.
    const ZOMBIES_TOO: u64 = 1;
    let pid = i32::try_from(pid).ok()?;
    let mut info = MaybeUninit::<libc::proc_bsdinfo>::uninit();
    let size = i32::try_from(mem::size_of_val(&info)).ok()?;
    let buffer = info.as_mut_ptr().cast::<c_void>();
    // SAFETY: the buffer has the size that the call is told.
    let written = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, ZOMBIES_TOO, buffer, size) };
    // SAFETY: the call has filled the whole structure, which has no invalid values.
    (written == size).then(|| unsafe { info.assume_init() })
}

/// A string of `sysctlbyname(3)`.
pub(super) fn sysctl_text(name: &CStr) -> Option<String> {
    let mut buffer = [0_u8; 128];
    let mut length = buffer.len();
    // SAFETY: the name ends with a NUL, and the buffer has the length that the call is told.
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
