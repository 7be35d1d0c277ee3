//! Runs a program up to its next operation, by replaying the answers that it has got so far.
//!
//! A program is ordinary code over `System`. It cannot be copied half-way, so each step runs it again from
//! the beginning of its call. The first operation without an answer is carried out; the second one suspends the
//! program by unwinding. After the same answers a program always does the same, so it runs once for each history,
//! and [`Continuations`] has the results.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use crate::platform::{
    Access, Failed, FileId, FsKind, HeldFiles, LockMode, Opened, ProcessIdentity, ProcessState, Stat, System,
    TryLock, Unlinked,
};
use crate::world::{self, Data, Place, ProcessIndex, World};

/// A program that a process runs in one round.
pub trait Round {
    /// Runs it.
    fn run(&self, system: &Simulated);

    /// The first operation of each attempt of its call.
    fn begins_attempt(&self, world: &World) -> Option<Call>;
}

/// One operation of a program. Others can run before each of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Call {
    /// Nothing yet: the program has not begun.
    Begin,
    /// `open` with `O_CREAT | O_EXCL`.
    Create(Place),
    /// `open`.
    Open(Place),
    /// `flock`.
    Lock(usize, bool),
    /// `fstat`.
    Stat(usize),
    /// `lstat`.
    StatPath(Place),
    /// `read`.
    Read(usize),
    /// `write` at the beginning.
    Write(usize, Data),
    /// `ftruncate`.
    Truncate(usize, usize),
    /// `unlink`.
    Unlink(Place),
    /// `flock` with `LOCK_UN`.
    Unlock(usize),
    /// `close` of a file that has a kernel lock.
    Close(usize),
    /// `close` of one that has none. No process can observe it.
    CloseUnlocked(usize),
    /// The clock. It belongs to the operation before it, because time that passes between the two could also have
    /// passed before both.
    Clock,
    /// `kill(pid, 0)`.
    Exists(u32),
    /// `kill(pid, 0)` and `/proc/<pid>/stat`.
    Process(u32),
    /// A pause, in milliseconds.
    Pause(u64),
    /// The end of the critical section.
    Leave,
    /// The program has ended.
    End,
}

/// The answer to a [`Call`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// No result.
    Done,
    /// A file, if there is one.
    File(Option<usize>),
    /// Whether the kernel lock was acquired.
    TryLock(LockAnswer),
    /// The state of the path or the file.
    Stat(Option<Described>),
    /// The bytes that were read.
    Data(Data),
    /// Yes or no.
    Is(bool),
    /// The system denies it.
    Refused,
    /// The time.
    Clock(u64),
    /// A process.
    Process(Life),
    /// The end of a pause.
    Paused,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(place) => write!(f, "open(O_CREAT | O_EXCL){}", named(*place)),
            Self::Open(place) => write!(f, "open{}", named(*place)),
            Self::Lock(_, true) => write!(f, "flock(LOCK_EX)"),
            Self::Lock(_, false) => write!(f, "flock(LOCK_SH)"),
            Self::Stat(_) => write!(f, "fstat"),
            Self::StatPath(place) => write!(f, "lstat{}", named(*place)),
            Self::Read(_) => write!(f, "read"),
            Self::Write(_, data) => write!(f, "write {}", text(data)),
            Self::Truncate(_, length) => write!(f, "ftruncate to {length}"),
            Self::Unlink(place) => write!(f, "unlink{}", named(*place)),
            Self::Unlock(_) => write!(f, "flock(LOCK_UN)"),
            Self::Close(_) | Self::CloseUnlocked(_) => write!(f, "close"),
            Self::Exists(pid) => write!(f, "kill({pid}, 0)"),
            Self::Process(pid) => write!(f, "/proc/{pid}/stat"),
            Self::Pause(time) => write!(f, "pause of {time} ms"),
            Self::Leave => write!(f, "end of the critical section"),
            Self::Begin | Self::Clock | Self::End => write!(f, "{self:?}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done | Self::Paused => write!(f, "done"),
            Self::File(Some(number)) => write!(f, "file {number}"),
            Self::File(None) => write!(f, "no file"),
            Self::TryLock(locking) => write!(f, "{locking:?}"),
            Self::Stat(Some(stat)) => write!(f, "inode {}, {} bytes", stat.inode, stat.size),
            Self::Stat(None) => write!(f, "nothing is there"),
            Self::Data(data) => write!(f, "{}", text(data)),
            Self::Is(is) => write!(f, "{is}"),
            Self::Refused => write!(f, "EBUSY"),
            Self::Clock(now) => write!(f, "{now}"),
            Self::Process(life) => write!(f, "{life:?}"),
        }
    }
}

fn named(place: Place) -> &'static str {
    match place {
        Place::Lock => "",
        Place::Readers => " of the readers",
    }
}

fn text(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let end = text.find(",\"createdAt").map_or(text.trim_end(), |at| &text[..at]);
    format!("'{end}'")
}

/// A `TryLock` that can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockAnswer {
    /// This process has acquired it.
    Acquired,
    /// Another open file has it.
    WouldBlock,
    /// The filesystem has no kernel locks.
    Unsupported,
}

/// The fields of a `Stat` that differ from file to file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Described {
    inode: u128,
    links: u64,
    size: u64,
    modified: u64,
}

/// A `ProcessState` that can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// There is no process.
    Dead,
    /// A zombie.
    Zombie,
    /// It runs, with this start time.
    Alive(Option<u64>),
}

/// How far a program has run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// The answers of the current round.
    pub history: Vec<Answer>,
    /// Its next operation.
    pub next: Call,
    /// Whether it has written its record.
    has_written: bool,
    /// How many answers it had when it began to wait for readers.
    readers_at: Option<usize>,
}

impl Position {
    /// At the beginning.
    #[must_use]
    pub fn start() -> Self {
        Self::at(Vec::new(), Call::Begin)
    }

    /// At an operation after these answers.
    #[must_use]
    pub fn at(history: Vec<Answer>, next: Call) -> Self {
        Self { history, next, has_written: false, readers_at: None }
    }
}

/// How far to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Up to the first operation.
    FirstCall,
    /// One operation.
    NextCall,
    /// To the end, alone; pauses take time, or not.
    End {
        /// Whether time passes.
        with_time: bool,
    },
}

const CHECK_READERS: Call = Call::StatPath(Place::Readers);

/// More than any call that runs alone needs.
const MAX_CALLS: usize = 10_000;

#[derive(Clone)]
struct Run {
    world: World,
    process: ProcessIndex,
    history: Vec<Answer>,
    at: usize,
    carried_out: usize,
    until: Until,
    next: Call,
    begins_attempt: Option<Call>,
    has_written: bool,
    /// How many answers it had when it began to wait for readers.
    readers_at: Option<usize>,
    slept: Duration,
    /// The check to run after the last answer.
    observation: Option<Observation>,
    learned: Vec<(Vec<Answer>, Continuation)>,
}

/// The `System` of a process of the model.
pub struct Simulated {
    run: Arc<Mutex<Run>>,
    identity: ProcessIdentity,
}

/// An open file of a [`Simulated`] process.
pub struct File {
    run: Arc<Mutex<Run>>,
    number: usize,
}

struct Suspended;

fn locked(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A check of a process, which records its result in the world.
type Observation = Arc<dyn Fn(&mut World, ProcessIndex) + Send + Sync>;

/// How a process continues.
#[derive(Clone)]
struct Continuation {
    observation: Option<Observation>,
    /// Its next operation; `None`: it ends.
    next: Option<Call>,
}

/// How a process continues after the answers of its round.
#[derive(Default)]
pub struct Continuations(RwLock<HashMap<Vec<Answer>, Continuation>>);

impl Continuations {
    fn after(&self, history: &[Answer]) -> Option<Continuation> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(history).cloned()
    }

    fn learn(&self, learned: Vec<(Vec<Answer>, Continuation)>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(learned);
    }
}

/// Runs a program on by one operation. `true`: it has ended.
#[must_use]
pub fn step(
    program: &impl Round,
    process: ProcessIndex,
    world: World,
    position: Position,
    continuations: &Continuations,
) -> (World, Position, bool) {
    let mut run = Run::new(program, process, world, position, Until::NextCall);
    run.at = run.history.len();
    while let Some(Continuation { observation, next }) = continuations.after(&run.history) {
        if let Some(observation) = observation {
            run.observe(&observation);
        }
        let ended = next.is_none();
        if next.is_none_or(|call| run.answer(&call).is_none()) {
            let (world, position) = run.stop(ended);
            return (world, position, ended);
        }
    }
    run.at = 0;
    let (mut run, ended) = run.replay(program);
    continuations.learn(std::mem::take(&mut run.learned));
    let (world, position) = run.stop(ended);
    (world, position, ended)
}

/// Runs a program on. `false`: it did not end within the bound.
#[must_use]
pub fn run(
    program: &impl Round,
    process: ProcessIndex,
    world: World,
    position: Position,
    until: Until,
) -> (World, Position, bool) {
    let (run, ended) = Run::new(program, process, world, position, until).replay(program);
    let (world, position) = run.stop(ended);
    (world, position, ended)
}

impl Run {
    fn new(
        program: &impl Round,
        process: ProcessIndex,
        world: World,
        position: Position,
        until: Until,
    ) -> Self {
        let Position { history, has_written, readers_at, .. } = position;
        let begins_attempt = program.begins_attempt(&world);
        Self {
            world,
            process,
            history,
            at: 0,
            carried_out: 0,
            until,
            next: Call::End,
            begins_attempt,
            has_written,
            readers_at,
            slept: Duration::ZERO,
            observation: None,
            learned: Vec::new(),
        }
    }

    fn replay(self, program: &impl Round) -> (Self, bool) {
        let identity = world::identity(self.process, self.world.in_namespaces);
        let run = Arc::new(Mutex::new(self));
        let system = Simulated { run: Arc::clone(&run), identity };
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| program.run(&system)));
        drop(system);
        let ended = match outcome {
            Ok(()) => true,
            Err(payload) if payload.is::<Suspended>() => false,
            Err(panic) => panic::resume_unwind(panic),
        };
        // A clone, because unwinding may leak a file that refers to the run.
        let mut run = locked(&run).clone();
        if ended {
            run.learn(None);
        }
        (run, ended)
    }

    fn stop(self, ended: bool) -> (World, Position) {
        let Self { world, history, next, has_written, readers_at, .. } = self;
        let position = if ended {
            Position::at(Vec::new(), Call::End)
        } else {
            Position { history, next, has_written, readers_at }
        };
        (world, position)
    }
}

impl Run {
    fn learn(&mut self, next: Option<&Call>) {
        let observation = self.observation.take();
        if self.until == Until::NextCall {
            self.learned.push((self.history.clone(), Continuation { observation, next: next.cloned() }));
        }
    }

    fn observe(&mut self, observation: &Observation) {
        if self.carried_out > 0 {
            observation(&mut self.world, self.process);
        }
    }

    fn replayed_or_answer(&mut self, call: &Call) -> Option<Answer> {
        if let Some(answer) = self.history.get(self.at) {
            self.at += 1;
            return Some(answer.clone());
        }
        self.learn(Some(call));
        self.answer(call)
    }

    fn answer(&mut self, call: &Call) -> Option<Answer> {
        let is_step = match call {
            Call::CloseUnlocked(_) | Call::Clock => false,
            Call::StatPath(Place::Readers) => self.world.readers_take_part(),
            _ => true,
        };
        let limit = match self.until {
            Until::FirstCall => 0,
            Until::NextCall => 1,
            Until::End { .. } => MAX_CALLS,
        };
        if is_step && self.carried_out == limit {
            self.next = call.clone();
            // A new attempt depends only on the number of attempts before it. That number is not part of the state:
            // `Action::ExhaustRetries` ends the attempts.
            if self.begins_attempt.as_ref() == Some(call) && !self.world.has_files(self.process) {
                self.history.clear();
                (self.has_written, self.readers_at) = (false, None);
            }
            // The same holds for a new check for readers.
            if let Some(readers_at) = self.readers_at
                && *call == CHECK_READERS
                && self.history.last() == Some(&Answer::Paused)
            {
                self.history.truncate(readers_at);
            }
            return None;
        }
        self.carried_out += usize::from(is_step);
        if *call == CHECK_READERS && (self.has_written || self.begins_attempt != Some(CHECK_READERS)) {
            self.readers_at.get_or_insert(self.history.len());
        }
        self.has_written |= matches!(call, Call::Write(..));
        if self.history.is_empty() && !self.world.actors[self.process].in_call {
            self.world.begin(self.process);
        }
        let answer = self.carry_out(call);
        self.world.record_facts();
        self.history.push(answer.clone());
        self.at = self.history.len();
        Some(answer)
    }

    fn carry_out(&mut self, call: &Call) -> Answer {
        let (world, process) = (&mut self.world, self.process);
        match call {
            Call::Create(place) => Answer::File(world.create(process, *place)),
            Call::Open(place) => Answer::File(world.open(process, *place)),
            Call::Lock(file, exclusive) => {
                let mode = if *exclusive { LockMode::Exclusive } else { LockMode::Shared };
                Answer::TryLock(match world.lock(process, *file, mode) {
                    TryLock::Acquired => LockAnswer::Acquired,
                    TryLock::WouldBlock => LockAnswer::WouldBlock,
                    TryLock::Unsupported => LockAnswer::Unsupported,
                })
            }
            Call::Stat(file) => Answer::Stat(Some(world.stat(process, *file).into())),
            Call::StatPath(place) => Answer::Stat(world.stat_path(process, *place).map(Into::into)),
            Call::Read(file) => Answer::Data(world.read(process, *file)),
            Call::Write(file, bytes) => {
                world.write(process, *file, bytes);
                Answer::Done
            }
            Call::Truncate(file, length) => {
                world.truncate(process, *file, *length);
                Answer::Done
            }
            Call::Unlink(place) => world.unlink(process, *place).map_or(Answer::Refused, Answer::Is),
            Call::Unlock(file) => {
                world.unlock(process, *file);
                Answer::Done
            }
            Call::Close(file) | Call::CloseUnlocked(file) => {
                world.close(process, *file);
                Answer::Done
            }
            Call::Clock => {
                let slept = u64::try_from(self.slept.as_millis()).unwrap_or(u64::MAX);
                Answer::Clock(world.now() + slept)
            }
            Call::Exists(pid) => {
                let lives = world.process_visible_to(process, *pid) != ProcessState::Dead;
                world.legacy_process_checked(process, lives);
                Answer::Is(lives)
            }
            Call::Process(pid) => Answer::Process(match world.process_visible_to(process, *pid) {
                ProcessState::Dead => Life::Dead,
                ProcessState::Zombie => Life::Zombie,
                ProcessState::Alive { start } => Life::Alive(start),
                ProcessState::Replaced => unreachable!("another process cannot read this state"),
            }),
            Call::Pause(time) => {
                if self.until == (Until::End { with_time: true }) {
                    self.slept += Duration::from_millis(*time);
                }
                Answer::Paused
            }
            Call::Leave => {
                world.leave(process);
                Answer::Done
            }
            Call::Begin | Call::End => Answer::Done,
        }
    }
}

impl From<Stat> for Described {
    fn from(stat: Stat) -> Self {
        Self { inode: stat.id.inode, links: stat.links, size: stat.size, modified: stat.modified }
    }
}

impl From<Described> for Stat {
    fn from(of: Described) -> Self {
        let Described { inode, links, size, modified } = of;
        let id = crate::platform::FileId { device: 1, inode };
        Self { id, kind: crate::platform::FileKind::File, links, owner: 0, size, mode: 0o600, modified }
    }
}

fn place(path: &Path) -> Place {
    if path.extension().is_some_and(|extension| extension == "readers") {
        Place::Readers
    } else {
        Place::Lock
    }
}

fn suspend() -> ! {
    panic::resume_unwind(Box::new(Suspended))
}

impl Simulated {
    fn call(&self, call: &Call) -> Answer {
        let answer = locked(&self.run).replayed_or_answer(call);
        answer.unwrap_or_else(|| suspend())
    }

    fn file(&self, call: &Call) -> Option<File> {
        let Answer::File(number) = self.call(call) else { unreachable!("{call:?}") };
        number.map(|number| File { run: Arc::clone(&self.run), number })
    }

    /// Leaves the critical section, after some time.
    pub fn leave(&self) {
        self.call(&Call::Leave);
    }

    /// Removes the file at the path, as `rm` does.
    pub(crate) fn unlink_path(&self) -> bool {
        self.call(&Call::Unlink(Place::Lock)) == Answer::Is(true)
    }

    /// Whether the program runs until its retry budget is used up.
    pub(crate) fn is_out_of_retries(&self) -> bool {
        locked(&self.run).until != Until::NextCall
    }

    /// Runs a check. The program must not depend on it.
    pub(crate) fn observe(&self, observation: impl Fn(&mut World, ProcessIndex) + Send + Sync + 'static) {
        let mut run = locked(&self.run);
        if run.at == run.history.len() {
            let observation: Observation = Arc::new(observation);
            run.observe(&observation);
            run.observation = Some(observation);
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // The unwinding program is suspended, and will run again.
        if thread::panicking() {
            return;
        }
        let mut run = locked(&self.run);
        let is_locked = run.world.is_locked(run.process, self.number);
        let call = if is_locked { Call::Close(self.number) } else { Call::CloseUnlocked(self.number) };
        if run.replayed_or_answer(&call).is_none() {
            drop(run);
            suspend();
        }
    }
}

impl HeldFiles for Simulated {
    fn holds(&self, _: FileId) -> bool {
        false
    }
}

impl System for Simulated {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<Option<File>> {
        Ok(self.file(&Call::Create(place(path))))
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Opened<File>> {
        Ok(self.file(&Call::Open(place(path))).map_or(Opened::Missing, Opened::File))
    }

    fn try_lock(&self, file: &File, mode: LockMode) -> io::Result<TryLock> {
        match self.call(&Call::Lock(file.number, mode == LockMode::Exclusive)) {
            Answer::TryLock(LockAnswer::Acquired) => Ok(TryLock::Acquired),
            Answer::TryLock(LockAnswer::WouldBlock) => Ok(TryLock::WouldBlock),
            _ => Ok(TryLock::Unsupported),
        }
    }

    fn unlock(&self, file: &File) {
        self.call(&Call::Unlock(file.number));
    }

    fn stat(&self, file: &File) -> io::Result<Stat> {
        let Answer::Stat(Some(stat)) = self.call(&Call::Stat(file.number)) else { unreachable!("fstat") };
        Ok(stat.into())
    }

    fn stat_path(&self, path: &Path) -> io::Result<Option<Stat>> {
        let Answer::Stat(stat) = self.call(&Call::StatPath(place(path))) else { unreachable!("lstat") };
        Ok(stat.map(Into::into))
    }

    fn read(&self, file: &File, buffer: &mut [u8]) -> io::Result<usize> {
        let Answer::Data(data) = self.call(&Call::Read(file.number)) else { unreachable!("read") };
        let length = data.len().min(buffer.len());
        buffer[..length].copy_from_slice(&data[..length]);
        Ok(length)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.call(&Call::Write(file.number, bytes.into()));
        Ok(())
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.call(&Call::Truncate(file.number, usize::try_from(length).unwrap_or(usize::MAX)));
        Ok(())
    }

    fn set_mode(&self, _: &File, _: u32) -> io::Result<()> {
        unreachable!("every file of the model has the default mode")
    }

    fn sync(&self, _: &File, _: &Path) -> Result<(), Failed> {
        unreachable!("no lock of the model is durable: its processes are killed, its disk is not")
    }

    fn unlink(&self, path: &Path, id: FileId) -> Result<Unlinked, Failed> {
        let failed = |source| Failed { syscall: "unlink", source };
        match self.stat_path(path).map_err(failed)? {
            None => Ok(Unlinked::Missing),
            Some(named) if named.id != id => Ok(Unlinked::Another),
            Some(_) => match self.call(&Call::Unlink(place(path))) {
                Answer::Refused => Err(failed(io::ErrorKind::ResourceBusy.into())),
                Answer::Is(true) => Ok(Unlinked::Removed),
                _ => Ok(Unlinked::Missing),
            },
        }
    }

    /// No process of the model acquires a lock that it holds.
    fn is_planted(&self, _: &Path, _: u32) -> bool {
        false
    }

    fn fs_kind(&self, _: &File) -> FsKind {
        locked(&self.run).world.fs_kind()
    }

    fn wall_clock(&self) -> u64 {
        let Answer::Clock(now) = self.call(&Call::Clock) else { unreachable!("clock") };
        now
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.wall_clock())
    }

    fn pause(&self, duration: Duration) {
        self.call(&Call::Pause(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)));
    }

    fn process_exists(&self, pid: u32) -> bool {
        self.call(&Call::Exists(pid)) == Answer::Is(true)
    }

    fn process(&self, pid: u32) -> ProcessState {
        match self.call(&Call::Process(pid)) {
            Answer::Process(Life::Alive(start)) => ProcessState::Alive { start },
            Answer::Process(Life::Zombie) => ProcessState::Zombie,
            _ => ProcessState::Dead,
        }
    }

    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }
}
