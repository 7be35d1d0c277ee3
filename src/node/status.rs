//! The state of a lock for JavaScript.

use napi_derive::napi;

use super::args::text_of;
use super::lock::JsHolder;
use crate::platform::{ProcessDetails, describe_process};
use crate::protocol::{LockState, LockStatus};

/// A process that holds a lock in shared mode.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsReader {
    /// The process.
    pub pid: u32,
    /// Its command line.
    pub command: Option<String>,
    /// Its user.
    pub user: Option<String>,
}

impl From<u32> for JsReader {
    fn from(pid: u32) -> Self {
        let ProcessDetails { command, user } = describe_process(pid);
        Self { pid, command, user }
    }
}

/// The result of `inspectLock`.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsStatus {
    /// The lock file.
    pub path: String,
    /// `free`, `held` or `stale`.
    #[napi(ts_type = "'free' | 'held' | 'stale'")]
    pub state: &'static str,
    /// The current or previous holder.
    pub holder: Option<JsHolder>,
    /// One sentence for a person.
    pub reason: String,
    /// The processes that hold the lock in shared mode, as far as the system lists them.
    pub readers: Option<Vec<JsReader>>,
    /// The command line of the holder.
    pub command: Option<String>,
    /// The user of the holder.
    pub user: Option<String>,
}

impl From<LockStatus> for JsStatus {
    fn from(status: LockStatus) -> Self {
        Self {
            path: text_of(&status.path),
            state: match status.state {
                LockState::Free => "free",
                LockState::Held => "held",
                LockState::Stale => "stale",
            },
            holder: status.holder.map(JsHolder::from),
            reason: status.reason,
            readers: status.readers.map(|pids| pids.into_iter().map(JsReader::from).collect()),
            command: status.process.command,
            user: status.process.user,
        }
    }
}
