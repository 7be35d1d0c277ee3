//! Threads for file operations. They are not libuv's: work that hangs on a dead disk there would stop every
//! `fs` call of the program, and `process.exit` would wait for it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// Small: the deepest call is one of the protocol.
const STACK: usize = 256 * 1024;

type Work = Box<dyn FnOnce() + Send>;

struct Queue {
    waiting: VecDeque<Work>,
    idle: usize,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { waiting: VecDeque::new(), idle: 0 });
static MORE: Condvar = Condvar::new();

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work that was handed to a thread.
pub(super) struct Job<T> {
    slot: Arc<Slot<T>>,
}

struct Slot<T> {
    is_done: AtomicBool,
    progress: Mutex<Progress<T>>,
}

enum Progress<T> {
    Running,
    Done(T),
    /// Nobody looks for the answer any more: it is to be delivered.
    Deliver(Box<dyn FnOnce(T) + Send>),
    Over,
}

/// Hands `work` to a thread.
///
/// # Errors
/// If there is no idle thread and the system refuses another one.
pub(super) fn submit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Job<T>> {
    let slot = Arc::new(Slot { is_done: AtomicBool::new(false), progress: Mutex::new(Progress::Running) });
    let job = Job { slot: Arc::clone(&slot) };
    let mut queue = locked(&QUEUE);
    if queue.idle <= queue.waiting.len() {
        thread::Builder::new().name("reconcile-lock".to_owned()).stack_size(STACK).spawn(serve)?;
        queue.idle += 1;
    }
    queue.waiting.push_back(Box::new(move || slot.finish(work())));
    drop(queue);
    MORE.notify_one();
    Ok(job)
}

fn serve() {
    let mut queue = locked(&QUEUE);
    loop {
        if let Some(work) = queue.waiting.pop_front() {
            queue.idle -= 1;
            drop(queue);
            work();
            queue = locked(&QUEUE);
            queue.idle += 1;
            continue;
        }
        let (guard, time) = MORE.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
        queue = guard;
        if time.timed_out() && queue.waiting.is_empty() {
            queue.idle -= 1;
            return;
        }
    }
}

impl<T> Slot<T> {
    fn finish(&self, done: T) {
        let mut progress = locked(&self.progress);
        match std::mem::replace(&mut *progress, Progress::Over) {
            Progress::Deliver(deliver) => {
                drop(progress);
                deliver(done);
            }
            _ => *progress = Progress::Done(done),
        }
        self.is_done.store(true, Ordering::Release);
    }

    fn take(&self) -> Option<T> {
        let mut progress = locked(&self.progress);
        match std::mem::replace(&mut *progress, Progress::Over) {
            Progress::Done(done) => Some(done),
            other => {
                *progress = other;
                None
            }
        }
    }
}

impl<T> Job<T> {
    /// The answer, if it comes within `time`. Sleeping for it would cost more than looking.
    pub(super) fn look_for(self, time: Duration) -> Result<T, Self> {
        let started = Instant::now();
        while !self.slot.is_done.load(Ordering::Acquire) {
            if started.elapsed() >= time {
                break;
            }
            thread::yield_now();
        }
        self.slot.take().ok_or(self)
    }

    /// Calls `deliver` with the answer, on the thread that found it, or at once if it is there.
    pub(super) fn when_done(self, deliver: impl FnOnce(T) + Send + 'static) {
        let mut progress = locked(&self.slot.progress);
        if let Progress::Done(done) = std::mem::replace(&mut *progress, Progress::Over) {
            drop(progress);
            deliver(done);
        } else {
            *progress = Progress::Deliver(Box::new(deliver));
        }
    }
}
