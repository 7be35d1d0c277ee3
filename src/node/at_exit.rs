//! The end of the process if the C library is musl: its `exit(3)` drops no variable of the main thread.
#![allow(unsafe_code, reason = "the C library has it, and no crate without `unsafe`")]

use std::ffi::c_int;
use std::sync::Once;

unsafe extern "C" {
    /// Safe: musl unloads no library, so the function is there until the process has ended.
    safe fn atexit(function: extern "C" fn()) -> c_int;
}

/// Has `exit(3)` call a function, on the thread that ends the process. Of several functions, the first one alone.
pub(super) fn call(function: extern "C" fn()) {
    static ONCE: Once = Once::new();
    // It fails for lack of memory alone. A lock then stays as a stale file.
    ONCE.call_once(|| _ = atexit(function));
}
