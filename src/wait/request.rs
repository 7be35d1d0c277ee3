//! What a waiter asks for, and what it gets.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::platform::{Os, System};
use crate::protocol::error::Error;
use crate::protocol::record::Holder;
use crate::protocol::target::Target;
use crate::protocol::{EmptyFile, Held};
use crate::table::{Owner, UnderWay};

pub(super) type HeldHere = Held<<Os as System>::File>;

/// What a waiter is told; a panic is an answer too.
pub(crate) type Answer = thread::Result<Result<HeldHere, Error>>;

/// Names one waiter in this process, never another one. Who asks for it first is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(crate) u64);

impl WaiterId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Who has the lock, as the last attempt has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) holder: Option<Holder>,
    pub(crate) reason: Option<String>,
    /// The system call that the last attempt has failed with for want of descriptors or memory, and its error number.
    pub(crate) shortage: Option<(&'static str, i32)>,
}

impl Refused {
    pub(super) fn by(contention: Error) -> Self {
        match contention {
            Error::Contention { holder, reason, .. } => Self { holder, reason, shortage: None },
            _ => Self::default(),
        }
    }
}

/// What a waiter wants.
#[derive(Debug)]
pub(crate) struct AcquireRequest {
    pub(crate) owner: Owner,
    pub(crate) thread: u32,
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
    /// Waits for the creator of an empty file, and for nobody else.
    pub(crate) only_creator: bool,
}

/// What a waiter wants, and how to answer it.
pub(super) struct PendingCall {
    pub(super) order: AcquireRequest,
    pub(super) empty_file: EmptyFile,
    /// When the first empty file was seen.
    pub(super) empty_since: Option<Duration>,
    pub(super) answer: Box<dyn FnOnce(Answer) + Send>,
}

impl PendingCall {
    pub(super) fn refuse(self, Refused { holder, reason, shortage }: Refused) {
        let target = self.order.target;
        let error = match shortage {
            Some((syscall, code)) => target.system(syscall)(io::Error::from_raw_os_error(code)),
            None => target.contention(holder, reason),
        };
        (self.answer)(Ok(Err(error)));
    }
}

/// What a waiter's attempt needs.
pub(super) struct Wanted {
    pub(super) target: Target,
    pub(super) thread: u32,
    pub(super) only_creator: bool,
    pub(super) empty_file: EmptyFile,
    pub(super) empty_since: Option<Duration>,
    pub(super) under_way: UnderWay,
}
