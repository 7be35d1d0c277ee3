//! The calls of Linux that no safe crate offers: open file description locks of `fcntl(2)` on every processor, and
//! `fstat(2)` by number.
#![allow(unsafe_code, reason = "each call has its reason beside it")]

use std::ffi::{c_int, c_short};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The C library's `fcntl` takes offsets of 32 bits on a 32-bit processor since glibc 2.28, and of 64 bits before. The
/// kernel's call takes 64 bits.
#[cfg(target_pointer_width = "64")]
use libc::SYS_fcntl as FCNTL;
#[cfg(not(target_pointer_width = "64"))]
use libc::SYS_fcntl64 as FCNTL;

/// `fstat(2)` of the file that has this number now.
pub(in crate::platform) fn stat_number(number: RawFd) -> rustix::io::Result<rustix::fs::Stat> {
    // SAFETY: the kernel checks the number, and the call changes no file, whichever has it.
    rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Locks bytes of a file, shared with others. It fails for lack of memory, or if another program locked them.
/// A `length` of 0 means all that follow.
pub(super) fn lock_bytes(file: impl AsFd, start: i64, length: i64) {
    call(file, libc::F_OFD_SETLK, &mut range(libc::F_RDLCK, start, length));
}

/// Unlocks bytes of a file.
pub(super) fn unlock_bytes(file: impl AsFd, start: i64, length: i64) {
    call(file, libc::F_OFD_SETLK, &mut range(libc::F_UNLCK, start, length));
}

/// The start and length of a lock on these bytes that another open file description has.
pub(super) fn find_lock(file: impl AsFd, start: i64, length: i64) -> Option<(i64, i64)> {
    let mut found = range(libc::F_WRLCK, start, length);
    let is_found = call(file, libc::F_OFD_GETLK, &mut found) && c_int::from(found.l_type) != libc::F_UNLCK;
    is_found.then_some((found.l_start, found.l_len))
}

fn call(file: impl AsFd, command: c_int, range: &mut libc::flock64) -> bool {
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and these commands read and write one structure of this kind.
    unsafe { libc::syscall(FCNTL, descriptor, command, &raw mut *range) == 0 }
}

fn range(kind: c_int, start: i64, length: i64) -> libc::flock64 {
    #[expect(clippy::cast_possible_truncation, reason = "the constants are small, the field is a short")]
    let (l_type, l_whence) = (kind as c_short, libc::SEEK_SET as c_short);
    libc::flock64 { l_type, l_whence, l_start: start, l_len: length, l_pid: 0 }
}
