//! A lock for JavaScript: the id of its entry in the table, which owns the lock, and its holders.
//!
//! A lock is not a class of the addon: the engine runs the finalizer of such an object in a later turn of the event
//! loop, so a program that acquires and releases in one turn would keep them all.

use napi_derive::napi;

use crate::protocol::record::Holder;

/// The holder of a lock.
#[napi(object, object_from_js = false, use_nullable = true)]
#[derive(Clone, Default)]
pub struct JsHolder {
    /// The process.
    pub pid: u32,
    /// When it acquired the lock, in milliseconds since the Unix epoch.
    pub created_at: f64,
    /// The host that it runs on.
    pub host: Option<String>,
    /// The worker thread, 0 for the main thread.
    pub thread: Option<u32>,
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds fit in a double for 285,000 years")]
pub(super) fn milliseconds(time: u64) -> f64 {
    time as f64
}

impl From<Holder> for JsHolder {
    fn from(holder: Holder) -> Self {
        Self {
            pid: holder.pid,
            created_at: milliseconds(holder.created_at),
            host: holder.host,
            thread: holder.thread,
        }
    }
}

/// The previous holder of a lock that was taken over.
#[napi(object, object_from_js = false, use_nullable = true)]
#[derive(Clone)]
pub struct JsTakenOver {
    /// The previous holder.
    pub holder: Option<JsHolder>,
    /// Why it was judged gone.
    pub reason: String,
}

/// A lock that was acquired.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsLock {
    /// Names it in this process.
    pub id: f64,
    /// The lock file.
    pub path: String,
    /// When it was acquired, in milliseconds since the Unix epoch.
    pub created_at: f64,
    /// Set if the previous holder did not release the lock.
    pub taken_over: Option<JsTakenOver>,
    /// Whether it is held in shared mode.
    pub shared: bool,
}
