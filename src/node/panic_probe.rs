//! Panics on demand, for the test that none reaches Node.js. Not part of the package: `panic-probe` is off.

use std::sync::{Mutex, PoisonError};

use napi_derive::napi;

static NEXT: Mutex<Option<String>> = Mutex::new(None);

/// Makes the next call that reaches `place` panic, once.
#[napi(catch_unwind)]
pub fn panic_at(place: String) {
    *NEXT.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
}

pub(super) fn reached(place: &str) {
    let next = NEXT.lock().unwrap_or_else(PoisonError::into_inner).take_if(|next| next == place);
    assert!(next.is_none(), "probe at {place}");
}
