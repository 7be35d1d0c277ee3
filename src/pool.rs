//! Threads for file operations. They are not libuv's: work that hangs on a dead disk there would stop every
//! `fs` call of the program, and `process.exit` would wait for it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::hint;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread without work stays: a program that only waits is to have one thread more, not two.
const IDLE: Duration = Duration::from_millis(100);

/// How long a thread polls for more work after that of a call: a program that acquires and releases in a loop brings it
/// within that time, and to wake a thread takes as long as the work.
const POLL: Duration = Duration::from_micros(50);

/// How many threads work at once, unless all of them hang.
const LIMIT: usize = 64;

/// How long none of them may be done until another one begins. Attempts pause for the creator of a file for less.
const STUCK: Duration = Duration::from_millis(50);

/// The number of every thread that was not added while all others hung.
const ORDINARY: u64 = 0;

/// Small: the deepest call is one of the protocol.
const STACK: usize = 256 * 1024;

pub(crate) type Work = Box<dyn FnOnce() + Send>;

struct Queue {
    /// Work of waiters, and work that a call of the program waits for.
    waiting: [VecDeque<Work>; 2],
    /// Which of them is next, if there is such work.
    turn: bool,
    /// Work that waited while all threads hung, the newest first. It may hang too.
    stalled: VecDeque<Work>,
    /// The number of the thread that leaves such work to others, so that new work finds a thread.
    for_new_work: u64,
    /// How many threads have no work.
    idle: usize,
    /// How many of them poll for it.
    polling: usize,
    /// Without those that are asleep.
    threads: usize,
    /// How much work is done, except by the thread for new work.
    done: u64,
    /// A thread waits, to check whether all others hang.
    has_reserve: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue::new());
static WORK_READY: Condvar = Condvar::new();

/// Whether work waits, for threads that poll without the mutex. Set under it.
static HAS_WORK: AtomicBool = AtomicBool::new(false);

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work that was handed to a thread.
pub(crate) struct Job<T> {
    slot: Arc<Slot<T>>,
    submitted: Instant,
}

struct Slot<T> {
    is_done: AtomicBool,
    progress: Mutex<Progress<T>>,
}

enum Progress<T> {
    Running,
    Done(T),
    /// The caller has stopped polling: the answer is to be delivered.
    Deliver(Box<dyn FnOnce(T) + Send>),
    Over,
}

/// Hands `work` to a thread, or does it here if the system refuses one. Its panic is an answer too, so that
/// every wait for it ends.
pub(crate) fn submit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Job<thread::Result<T>> {
    let slot = Arc::new(Slot { is_done: AtomicBool::new(false), progress: Mutex::new(Progress::Running) });
    let job = Job { slot: Arc::clone(&slot), submitted: Instant::now() };
    enqueue(Box::new(move || slot.finish(catch_panic(work))), true);
    job
}

/// Hands `work` to a thread that does it as soon as fewer than [`LIMIT`] others work or all of those hang; or does it here
/// if the system refuses one.
pub(crate) fn submit_detached(work: Work) {
    enqueue(work, false);
}

fn enqueue(work: Work, is_call: bool) {
    let mut queue = locked(&QUEUE);
    if queue.idle <= queue.len() {
        let is_full = queue.threads >= LIMIT;
        if !(is_full && queue.has_reserve) && queue.add_thread(is_full).is_err() && queue.threads == 0 {
            drop(queue);
            return work();
        }
    }
    queue.waiting[usize::from(is_call)].push_back(work);
    notify(queue);
}

/// Hands `work` that sleeps to a thread that begins immediately, and returns whether there is one.
pub(crate) fn submit_at_once(work: impl FnOnce(Asleep) + Send + 'static) -> bool {
    let mut queue = locked(&QUEUE);
    if queue.idle <= queue.len() && (queue.threads >= LIMIT || queue.add_thread(false).is_err()) {
        return false;
    }
    queue.threads -= 1;
    queue.waiting[0].push_front(Box::new(move || work(Asleep(()))));
    notify(queue);
    true
}

/// Wakes a thread for new work, unless one polls for it.
fn notify(queue: MutexGuard<'_, Queue>) {
    HAS_WORK.store(true, Ordering::Release);
    let is_polled = queue.polling >= queue.len();
    drop(queue);
    if !is_polled {
        WORK_READY.notify_one();
    }
}

pub(crate) fn start_thread(work: Work) -> io::Result<()> {
    let thread = thread::Builder::new().name("reconcile-lock".to_owned()).stack_size(STACK);
    thread.spawn(work).map(drop)
}

/// A thread of the pool that sleeps for long. Until this is dropped, it does not count as one that works.
pub(crate) struct Asleep(());

impl Drop for Asleep {
    fn drop(&mut self) {
        locked(&QUEUE).threads += 1;
    }
}

impl Queue {
    const fn new() -> Self {
        Self {
            waiting: [VecDeque::new(), VecDeque::new()],
            turn: false,
            stalled: VecDeque::new(),
            for_new_work: ORDINARY + 1,
            idle: 0,
            polling: 0,
            threads: 0,
            done: 0,
            has_reserve: false,
        }
    }

    fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// The next work, and whether a call waits for it. In turn, because there can be very much of either kind.
    fn next(&mut self) -> Option<(Work, bool)> {
        self.turn = !self.turn;
        let is_call = self.turn != self.waiting[usize::from(self.turn)].is_empty();
        Some((self.waiting[usize::from(is_call)].pop_front()?, is_call))
    }

    /// The next work of a thread. Of stalled work the newest: the disk of the oldest may be that of all threads.
    fn next_of(&mut self, thread: u64) -> Option<(Work, bool)> {
        self.next().or_else(|| {
            let stalled = if thread == self.for_new_work { None } else { self.stalled.pop_front() };
            Some((stalled?, false))
        })
    }

    /// Leaves only the newest work and new work to a thread, and returns its number.
    fn stall(&mut self) -> u64 {
        for waiting in &mut self.waiting {
            while waiting.len() > 1
                && let Some(older) = waiting.pop_front()
            {
                self.stalled.push_front(older);
            }
        }
        self.for_new_work += 1;
        self.for_new_work
    }

    fn add_thread(&mut self, is_reserve: bool) -> io::Result<()> {
        start_thread(Box::new(move || if is_reserve { reserve() } else { serve(locked(&QUEUE), ORDINARY) }))?;
        self.threads += 1;
        self.idle += usize::from(!is_reserve);
        self.has_reserve |= is_reserve;
        Ok(())
    }
}

/// Works only if all others hang.
fn reserve() {
    let mut done = locked(&QUEUE).done;
    let mut queue = loop {
        thread::sleep(STUCK);
        let mut queue = locked(&QUEUE);
        if queue.len() == 0 && queue.stalled.is_empty() {
            queue.has_reserve = false;
            queue.threads -= 1;
            return;
        }
        if queue.done == done {
            break queue;
        }
        done = queue.done;
    };
    // For the remaining work. Without this thread the others do it later.
    queue.has_reserve = false;
    let is_last = queue.add_thread(true).is_err();
    queue.idle += 1;
    let number = queue.stall();
    // The thread that was for new work before does other work now.
    WORK_READY.notify_all();
    serve(queue, if is_last { ORDINARY } else { number });
}

/// Returns the panic of `work` as an error.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> thread::Result<T> {
    panic::catch_unwind(AssertUnwindSafe(work))
}

fn serve(mut queue: MutexGuard<'_, Queue>, thread: u64) {
    loop {
        if let Some((work, is_call)) = queue.next_of(thread) {
            HAS_WORK.store(queue.len() > 0, Ordering::Release);
            queue.idle -= 1;
            drop(queue);
            work();
            queue = locked(&QUEUE);
            queue.idle += 1;
            queue.done += u64::from(thread != queue.for_new_work);
            if is_call && queue.len() == 0 {
                queue.polling += 1;
                drop(queue);
                poll();
                queue = locked(&QUEUE);
                queue.polling -= 1;
            }
            continue;
        }
        let (guard, time) = WORK_READY.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
        queue = guard;
        if time.timed_out() && queue.len() == 0 && queue.stalled.is_empty() {
            queue.idle -= 1;
            queue.threads -= 1;
            return;
        }
    }
}

/// Returns when there may be work, or after [`POLL`].
fn poll() {
    let started = Instant::now();
    while !HAS_WORK.load(Ordering::Acquire) && started.elapsed() < POLL {
        thread::yield_now();
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
    /// The answer, if it comes within `time` of the submission. To sleep for it would cost more than to spin, and a thread
    /// that sleeps or yields on a busy machine gets the processor back much later.
    pub(crate) fn spin_for(self, time: Duration) -> Result<T, Self> {
        while !self.slot.is_done.load(Ordering::Acquire) {
            if self.submitted.elapsed() >= time {
                break;
            }
            hint::spin_loop();
        }
        self.slot.take().ok_or(self)
    }

    /// Calls `deliver` with the answer, on the thread that found it, or immediately if it is there.
    pub(crate) fn when_done(self, deliver: impl FnOnce(T) + Send + 'static) {
        let mut progress = locked(&self.slot.progress);
        if let Progress::Done(done) = std::mem::replace(&mut *progress, Progress::Over) {
            drop(progress);
            deliver(done);
        } else {
            *progress = Progress::Deliver(Box::new(deliver));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_quick_answer_is_found_by_spinning() {
        let job = submit(|| 7);
        assert!(matches!(job.spin_for(LONG), Ok(Ok(7))));
    }

    #[test]
    fn a_slow_answer_is_delivered_by_the_callback() {
        let (go, wait) = mpsc::channel();
        let (sender, receiver) = mpsc::channel();
        let job = submit(move || wait.recv_timeout(LONG).unwrap() + 1);
        let Err(job) = job.spin_for(Duration::from_micros(100)) else { panic!("the work has not begun") };
        job.when_done(move |done| sender.send(done.unwrap()).unwrap());
        go.send(1).unwrap();
        assert_eq!(receiver.recv_timeout(LONG), Ok(2));
    }

    #[test]
    fn the_start_of_a_thread_counts_as_spinning() {
        let (go, wait) = mpsc::channel::<()>();
        let mut job = submit(move || wait.recv_timeout(LONG));
        job.submitted = job.submitted.checked_sub(LONG).unwrap();
        let began = Instant::now();
        assert!(job.spin_for(LONG).is_err());
        assert!(began.elapsed() < LONG / 2);
        go.send(()).unwrap();
    }

    #[test]
    fn an_answer_between_spinning_and_waiting_is_delivered() {
        let job = submit(|| 7);
        while !job.slot.is_done.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let (sender, receiver) = mpsc::channel();
        job.when_done(move |done| sender.send(done.unwrap()).unwrap());
        assert_eq!(receiver.try_recv(), Ok(7));
    }

    #[test]
    fn work_that_hangs_delays_no_other_work() {
        let (go, wait) = mpsc::channel::<()>();
        let hanging = submit(move || wait.recv_timeout(LONG));
        for number in 0..20 {
            let answer = submit(move || number).spin_for(LONG);
            assert!(matches!(answer, Ok(Ok(found)) if found == number));
        }
        go.send(()).unwrap();
        assert!(matches!(hanging.spin_for(LONG), Ok(Ok(Ok(())))));
    }

    #[test]
    fn the_pool_grows_while_all_threads_hang() {
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let queued = 200_u8;
        let hanging: Vec<_> = (0..LIMIT + usize::from(queued))
            .map(|_| {
                let wait = Arc::clone(&wait);
                submit(move || locked(&wait).recv_timeout(LONG).is_ok())
            })
            .collect();
        let began = Instant::now();
        // The thread that does one of them hangs after that, so another thread does the other one.
        let quick = [7, 8].map(|number| (number, submit(move || number)));
        for (number, job) in quick {
            assert!(matches!(job.spin_for(LONG), Ok(Ok(found)) if found == number));
        }
        // In the order of their arrival, each of the others would come first, and take as long as that.
        assert!(
            began.elapsed() < STUCK * u32::from(queued) / 2,
            "it waited for older work: {:?}",
            began.elapsed()
        );
        for _ in &hanging {
            go.send(()).unwrap();
        }
        for job in hanging {
            assert!(matches!(job.spin_for(LONG), Ok(Ok(true))));
        }
        let began = Instant::now();
        while locked(&QUEUE).has_reserve {
            assert!(began.elapsed() < LONG, "the thread that watches the others does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn work_of_calls_and_of_waiters_alternates() {
        let work = |count| (0..count).map(|_| Box::new(|| ()) as Work).collect();
        for (waiters, calls) in [(3, 1), (1, 3)] {
            let mut queue = Queue { waiting: [work(waiters), work(calls)], ..Queue::new() };
            let order: Vec<_> = std::iter::from_fn(|| queue.next()).map(|(_, is_call)| is_call).collect();
            let rare = order.iter().position(|is_call| *is_call == (calls == 1));
            assert!(order.len() == 4 && rare < Some(2), "{order:?}");
        }
    }

    #[test]
    fn one_thread_leaves_stalled_work_to_the_others() {
        let (sender, receiver) = mpsc::channel();
        let work = |number| {
            let sender = sender.clone();
            Box::new(move || sender.send(number).unwrap()) as Work
        };
        let mut queue = Queue { waiting: [[1, 2].map(work).into(), [3, 4].map(work).into()], ..Queue::new() };
        let next = |queue: &mut Queue, thread| {
            let (work, _) = queue.next_of(thread)?;
            work();
            receiver.try_recv().ok()
        };
        let first = queue.stall();
        let mut newest = [(); 3].map(|()| next(&mut queue, first));
        newest.sort_unstable();
        assert_eq!(newest, [None, Some(2), Some(4)]);
        assert_eq!(next(&mut queue, ORDINARY), Some(3));
        queue.waiting[1].push_back(work(5));
        assert_eq!(next(&mut queue, first), Some(5));
        let second = queue.stall();
        assert_eq!([second, first].map(|thread| next(&mut queue, thread)), [None, Some(1)]);
    }

    #[test]
    fn a_panic_is_returned_as_an_answer() {
        let job = submit(|| -> u8 { panic!("on purpose") });
        assert!(matches!(job.spin_for(LONG), Ok(Err(_))));
        assert!(matches!(submit(|| 1).spin_for(LONG), Ok(Ok(1))), "the pool still works");
        assert!(catch_panic(|| -> u8 { panic!("on purpose") }).is_err());
    }
}
