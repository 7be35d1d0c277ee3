//! The request of a waiter, and its answer.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::platform::{FileId, Os, System};
use crate::pool;
use crate::protocol::error::Error;
use crate::protocol::record::Holder;
use crate::protocol::target::Target;
use crate::protocol::{self, EmptyFile, Held};
use crate::table::{Owner, PendingWork};

pub(super) type HeldHere = Held<<Os as System>::File>;

/// The answer to a waiter, which may be a panic.
pub(crate) type Answer = thread::Result<Result<HeldHere, Error>>;

/// The id of one waiter in this process. Ids are given in arrival order, but those for a creator come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(crate) u64);

/// JavaScript numbers are exact up to twice this.
pub(super) const FIRST_ID: u64 = 1 << 52;

impl WaiterId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(FIRST_ID);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// For a call that waits for the creator of an empty file: a waiter before it would delay its answer.
    pub(super) fn for_creator() -> Self {
        Self(Self::next().0 - FIRST_ID)
    }

    /// For JavaScript, whose numbers are exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "at a million waits a second, 142 years")]
    pub(crate) fn to_number(self) -> f64 {
        self.0 as f64
    }

    /// The id of a number from [`WaiterId::to_number`]; another number names no waiter.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "only our own numbers come back"
    )]
    pub(crate) fn from_number(number: f64) -> Self {
        Self(number as u64)
    }

    pub(super) fn is_for_creator(self) -> bool {
        self.0 < FIRST_ID
    }
}

/// The holder of the lock, as the last attempt has found it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LastRefusal {
    pub(crate) holder: Option<Holder>,
    pub(crate) reason: Option<String>,
    /// The system call for which the last attempt had too few descriptors or too little memory, and its error number.
    pub(crate) shortage: Option<(&'static str, i32)>,
}

impl LastRefusal {
    pub(super) fn by(contention: Error) -> Self {
        match contention {
            Error::Contention { holder, reason, .. } => Self { holder, reason, shortage: None },
            _ => Self::default(),
        }
    }
}

/// A request to acquire within a timeout.
#[derive(Debug)]
pub(crate) struct AcquireRequest {
    pub(crate) owner: Owner,
    pub(crate) thread: u32,
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
    /// Waits for the creator of an empty file, but not for a holder.
    pub(crate) only_creator: bool,
}

/// The request of a call that waits, and how to answer it.
pub(super) struct PendingCall {
    pub(super) request: AcquireRequest,
    pub(super) empty_file: EmptyFile,
    /// When the call first found an empty file.
    pub(super) empty_since: Option<Duration>,
    pub(super) answer: Box<dyn FnOnce(Answer) + Send>,
    /// The path, while the call waits for the readers of the lock. Boxed, because few calls do.
    pub(super) held_path: Option<Box<HeldPath>>,
}

/// The path of a lock that still has readers. Dropping it rolls the acquire back.
pub(super) struct HeldPath {
    pub(super) held: Option<HeldHere>,
    /// An exit waits for the rollback.
    pub(super) _pending: PendingWork,
}

impl Drop for HeldPath {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            // The caller has another error.
            let _ = protocol::rollback(Os::get(), held);
        }
    }
}

/// How long an answer waits for a rollback: a disk may hang.
const ROLLBACK_GRACE: Duration = Duration::from_millis(25);

impl PendingCall {
    pub(super) fn refuse(self, LastRefusal { holder, reason, shortage }: LastRefusal) {
        let target = &self.request.target;
        let error = match shortage {
            Some((syscall, code)) => target.system(syscall)(io::Error::from_raw_os_error(code)),
            None => target.contention(holder, reason),
        };
        self.end(Ok(Err(error)));
    }

    /// Answers, after the rollback of a path that the call holds.
    pub(super) fn end(self, outcome: Answer) {
        let answer = self.answer;
        let Some(path) = self.held_path else { return answer(outcome) };
        let (sender, receiver) = oneshot::channel();
        pool::submit_detached(Box::new(move || {
            drop(path);
            let _ = sender.send(());
        }));
        pool::submit_detached(Box::new(move || {
            let _ = receiver.recv_timeout(ROLLBACK_GRACE);
            answer(outcome);
        }));
    }
}

/// The parameters of one attempt for a waiter.
pub(super) struct AttemptContext {
    pub(super) target: Target,
    pub(super) thread: u32,
    pub(super) only_creator: bool,
    /// The lock file, if the path is held and its readers are not gone.
    pub(super) held_file: Option<FileId>,
    pub(super) empty_file: EmptyFile,
    pub(super) empty_since: Option<Duration>,
    pub(super) pending: PendingWork,
}
