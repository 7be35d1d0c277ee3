//! Reads and judges the arbitrary content of a lock file.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input, 1));
