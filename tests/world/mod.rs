//! A simulated system: a lock file and the file of its readers, inodes that exist while they are open, kernel locks per open file.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reconcile_lock::{
    Access, Failed, FileId, FileKind, FsKind, HeldFiles, LockMode, LockOptions, Opened, ProcessIdentity,
    ProcessState, Stat, System, Target, TryLock, Unlinked,
};

/// The lock file of every process of a world.
pub fn target() -> Target {
    LockOptions::in_directory("/world").resolve().unwrap()
}

/// Owns files in a directory with the sticky bit.
pub const STRANGER: u32 = 1000;

type Action = Box<dyn FnOnce(&World) + Send>;

#[derive(Default)]
struct Inode {
    data: Vec<u8>,
    links: u64,
    modified: u64,
    mode: u32,
    owner: u32,
    locks: Vec<(u64, LockMode, u32)>,
}

#[derive(Default)]
struct State {
    path: Option<usize>,
    readers: Option<usize>,
    inodes: Vec<Inode>,
    last_file: u64,
    clock: u64,
    failing: HashMap<&'static str, i32>,
    failing_call: Option<(usize, i32)>,
    room: Option<usize>,
    open_files: usize,
    before: HashMap<&'static str, Vec<Action>>,
    without_locks: bool,
    mount: Mount,
    is_mount_point: bool,
    umask: u32,
    processes: HashMap<u32, ProcessState>,
    calls: Vec<&'static str>,
}

/// The state that all processes share.
#[derive(Default)]
pub struct World(Arc<Mutex<State>>, IsOfTest);

/// Whether a world is that of the test. Files that a test forgets keep other clones.
#[derive(Default, PartialEq)]
enum Mount {
    #[default]
    Local,
    Shared,
    OfServer,
}

#[derive(Default)]
struct IsOfTest(bool);

impl Clone for World {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), IsOfTest(false))
    }
}

impl Drop for World {
    /// An action that did not run has checked nothing.
    fn drop(&mut self) {
        if self.1.0 && !std::thread::panicking() {
            let left: Vec<_> =
                self.state().before.drain().filter(|(_, actions)| !actions.is_empty()).collect();
            let calls: Vec<_> = left.iter().map(|(call, actions)| (*call, actions.len())).collect();
            assert!(calls.is_empty(), "these calls did not come: {calls:?}");
        }
    }
}

impl World {
    pub fn new() -> Self {
        let world = Self(Arc::default(), IsOfTest(true));
        world.state().clock = 1_000_000;
        world
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Adds a live process.
    pub fn process(&self, pid: u32) -> Process {
        let start = Some(u64::from(pid) * 10);
        self.state().processes.insert(pid, ProcessState::Alive { start });
        let identity = ProcessIdentity {
            pid,
            start,
            boot: Some("boot".into()),
            pid_namespace: Some(1),
            host: Some("host".into()),
        };
        let has_become_another_program = Cell::new(false);
        Process {
            world: self.clone(),
            identity,
            pauses: Cell::new(0),
            unlocks: Cell::new(0),
            has_become_another_program,
        }
    }

    pub fn kill(&self, pid: u32) {
        self.becomes(pid, ProcessState::Dead);
    }

    pub fn becomes(&self, pid: u32, state: ProcessState) {
        self.state().processes.insert(pid, state);
    }

    /// Replaces the file at the path by a new one, `age` milliseconds old.
    pub fn put(&self, data: &[u8], age: u64) {
        self.remove();
        let mut state = self.state();
        let modified = state.clock - age;
        state.inodes.push(Inode { data: data.to_vec(), links: 1, modified, mode: 0o600, ..Inode::default() });
        state.path = Some(state.inodes.len() - 1);
    }

    pub fn remove(&self) {
        let mut state = self.state();
        if let Some(inode) = state.path.take() {
            // A network filesystem renames a file that is unlinked while it is open.
            let links = state.inodes[inode].links;
            state.inodes[inode].links = links.saturating_sub(u64::from(state.mount == Mount::Local));
        }
    }

    /// Moves the file at the path away. The result is its number for [`Self::data`].
    pub fn move_away(&self) -> usize {
        self.state().path.take().unwrap()
    }

    /// The content of the file with this number, counted from 0 in the order of creation.
    pub fn data(&self, inode: usize) -> Vec<u8> {
        self.state().inodes[inode].data.clone()
    }

    fn at_path(&self, change: impl FnOnce(&mut Inode)) {
        let mut state = self.state();
        let inode = state.path.unwrap();
        change(&mut state.inodes[inode]);
    }

    /// Gives the file at the path a second name.
    pub fn link(&self) {
        self.at_path(|inode| inode.links += 1);
    }

    /// Replaces the file at the path by an empty one that gets its inode.
    pub fn renew(&self) {
        let clock = self.state().clock;
        self.at_path(|inode| (inode.data, inode.modified) = (Vec::new(), clock));
    }

    /// Removes the original of a file that is mounted at the path.
    pub fn remove_original(&self) {
        self.at_path(|inode| inode.links = 0);
        self.state().is_mount_point = true;
    }

    pub fn links(&self) -> u64 {
        let state = self.state();
        state.inodes[state.path.unwrap()].links
    }

    /// As in the middle of an `unlink(2)`: the link is removed, but not the name.
    pub fn unlink_half(&self) {
        self.at_path(|inode| inode.links = 0);
    }

    pub fn set_owner(&self, owner: u32) {
        self.at_path(|inode| inode.owner = owner);
    }

    /// The content of the file at the path.
    pub fn content(&self) -> Option<Vec<u8>> {
        let state = self.state();
        state.path.map(|inode| state.inodes[inode].data.clone())
    }

    pub fn set_mode(&self, mode: u32) {
        self.at_path(|inode| inode.mode = mode);
    }

    pub fn mode(&self) -> u32 {
        let state = self.state();
        state.inodes[state.path.unwrap()].mode
    }

    /// Makes every later call of this name fail.
    pub fn fail(&self, call: &'static str, errno: i32) {
        self.state().failing.insert(call, errno);
    }

    /// Makes one later call fail, counted from 0.
    pub fn fail_call(&self, number: usize, errno: i32) {
        self.state().failing_call = Some((number, errno));
    }

    pub fn clear_failures(&self) {
        let mut state = self.state();
        state.failing.clear();
        state.failing_call = None;
        state.room = None;
    }

    /// Makes every write fail with EFBIG after `room` bytes.
    pub fn write_only(&self, room: usize) {
        self.state().room = Some(room);
    }

    pub fn open_files(&self) -> usize {
        self.state().open_files
    }

    /// Drops the actions that have not run.
    pub fn clear_actions(&self) {
        let actions = std::mem::take(&mut self.state().before);
        drop(actions);
    }

    /// Runs an action before the next call of this name. Several actions of one name run one per call. The test fails if
    /// one does not run.
    pub fn before(&self, call: &'static str, action: impl FnOnce(&World) + Send + 'static) {
        self.state().before.entry(call).or_default().push(Box::new(action));
    }

    /// Lets time pass.
    pub fn pass(&self, milliseconds: u64) {
        self.state().clock += milliseconds;
    }

    pub fn without_kernel_locks(&self) {
        self.state().without_locks = true;
    }

    pub fn share(&self) {
        self.state().mount = Mount::Shared;
    }

    /// Shares the filesystem by a server that has its kernel locks.
    pub fn share_by_server(&self) {
        self.state().mount = Mount::OfServer;
    }

    pub fn umask(&self, umask: u32) {
        self.state().umask = umask;
    }

    pub fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().calls)
    }

    fn call(&self, name: &'static str) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push(name);
        let action =
            state.before.get_mut(name).filter(|actions| !actions.is_empty()).map(|actions| actions.remove(0));
        drop(state);
        if let Some(action) = action {
            action(self);
        }
        let mut state = self.state();
        let this_one = match &mut state.failing_call {
            Some((0, _)) => state.failing_call.take().map(|(_, errno)| errno),
            Some((number, _)) => {
                *number -= 1;
                None
            }
            None => None,
        };
        match this_one.or(state.failing.get(name).copied()) {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    /// Whether there is a file of readers.
    pub fn has_file_of_readers(&self) -> bool {
        self.state().readers.is_some()
    }

    fn opened(&self, inode: usize) -> File {
        let mut state = self.state();
        state.last_file += 1;
        state.open_files += 1;
        File { world: self.clone(), inode, id: state.last_file }
    }
}

/// An open file description.
pub struct File {
    world: World,
    inode: usize,
    id: u64,
}

impl Drop for File {
    fn drop(&mut self) {
        let mut state = self.world.state();
        state.inodes[self.inode].locks.retain(|(id, ..)| *id != self.id);
        state.open_files -= 1;
    }
}

/// A process of a world.
pub struct Process {
    world: World,
    identity: ProcessIdentity,
    pub pauses: Cell<u32>,
    pub unlocks: Cell<u32>,
    has_become_another_program: Cell<bool>,
}

impl Process {
    pub fn in_pid_namespace(mut self, number: u64) -> Self {
        self.identity.pid_namespace = Some(number);
        self
    }

    pub fn exec(&self) {
        self.has_become_another_program.set(true);
    }
}

impl State {
    fn place(&mut self, path: &Path) -> &mut Option<usize> {
        if is_of_readers(path) { &mut self.readers } else { &mut self.path }
    }
}

fn is_of_readers(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "readers")
}

/// The name of a call on a path, for [`World::fail`] and [`World::before`].
fn on(call: &'static str, path: &Path) -> &'static str {
    match call {
        _ if !is_of_readers(path) => call,
        "create" => "create readers",
        "open" => "open readers",
        "lstat" => "lstat readers",
        _ => "unlink readers",
    }
}

fn described(state: &State, inode: usize) -> Stat {
    let Inode { data, links, modified, mode, owner, .. } = &state.inodes[inode];
    Stat {
        id: FileId { device: 1, inode: inode as u128 },
        kind: FileKind::File,
        links: *links,
        owner: *owner,
        size: data.len() as u64,
        mode: *mode,
        modified: *modified,
    }
}

impl HeldFiles for Process {
    fn holds(&self, _: FileId) -> bool {
        !self.has_become_another_program.get()
    }
}

impl System for Process {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<Option<File>> {
        self.world.call(on("create", path))?;
        let mut state = self.world.state();
        if state.place(path).is_some() {
            return Ok(None);
        }
        let (modified, mode) = (state.clock, 0o600 & !state.umask);
        state.inodes.push(Inode { links: 1, modified, mode, ..Inode::default() });
        let inode = state.inodes.len() - 1;
        *state.place(path) = Some(inode);
        drop(state);
        Ok(Some(self.world.opened(inode)))
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Opened<File>> {
        match self.world.call(on("open", path)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Opened::Leased),
            outcome => outcome?,
        }
        let inode = *self.world.state().place(path);
        Ok(inode.map_or(Opened::Missing, |inode| Opened::File(self.world.opened(inode))))
    }

    fn try_lock(&self, file: &File, mode: LockMode) -> io::Result<TryLock> {
        self.world.call("flock")?;
        let mut state = self.world.state();
        if state.without_locks {
            return Ok(TryLock::Unsupported);
        }
        let locks = &mut state.inodes[file.inode].locks;
        let free = locks
            .iter()
            .all(|(id, other, _)| *id == file.id || (mode == LockMode::Shared && *other == LockMode::Shared));
        if free {
            locks.retain(|(id, ..)| *id != file.id);
            locks.push((file.id, mode, self.identity.pid));
        }
        Ok(if free { TryLock::Acquired } else { TryLock::WouldBlock })
    }

    fn unlock(&self, file: &File) {
        self.unlocks.set(self.unlocks.get() + 1);
        self.world.state().inodes[file.inode].locks.retain(|(id, ..)| *id != file.id);
    }

    fn lock_owner(&self, id: FileId) -> Option<u32> {
        let state = self.world.state();
        let inode = state.inodes.get(usize::try_from(id.inode).ok()?)?;
        inode.locks.iter().find(|(_, mode, _)| *mode == LockMode::Exclusive).map(|(.., pid)| *pid)
    }

    fn stat(&self, file: &File) -> io::Result<Stat> {
        self.world.call("fstat")?;
        Ok(described(&self.world.state(), file.inode))
    }

    fn stat_path(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.world.call(on("lstat", path))?;
        let mut state = self.world.state();
        let inode = *state.place(path);
        Ok(inode.map(|inode| described(&state, inode)))
    }

    fn read(&self, file: &File, buffer: &mut [u8]) -> io::Result<usize> {
        self.world.call("read")?;
        let state = self.world.state();
        let data = &state.inodes[file.inode].data;
        let length = data.len().min(buffer.len());
        buffer[..length].copy_from_slice(&data[..length]);
        Ok(length)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.world.call("write")?;
        let mut state = self.world.state();
        let room = state.room;
        let bytes = &bytes[..room.unwrap_or(bytes.len()).min(bytes.len())];
        let data = &mut state.inodes[file.inode].data;
        let end = data.len().max(bytes.len());
        data.resize(end, 0);
        data[..bytes.len()].copy_from_slice(bytes);
        room.map_or(Ok(()), |_| Err(io::Error::from_raw_os_error(27)))
    }

    fn flush(&self, _: &File) -> io::Result<()> {
        self.world.call("flush")
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.world.call("ftruncate")?;
        self.world.state().inodes[file.inode].data.resize(usize::try_from(length).unwrap(), 0);
        Ok(())
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        self.world.call("fchmod")?;
        self.world.state().inodes[file.inode].mode = mode;
        Ok(())
    }

    fn sync(&self, _: &File, _: &Path) -> Result<(), Failed> {
        for syscall in ["fdatasync", "open", "fsync"] {
            self.world.call(syscall).map_err(|source| Failed { syscall, source })?;
        }
        Ok(())
    }

    fn unlink(&self, path: &Path, id: FileId) -> Result<Unlinked, Failed> {
        let call = |syscall| self.world.call(on(syscall, path)).map_err(|source| Failed { syscall, source });
        call("lstat")?;
        let named = *self.world.state().place(path);
        match named {
            None => return Ok(Unlinked::Missing),
            Some(inode) if inode as u128 != id.inode => return Ok(Unlinked::Another),
            Some(_) => {}
        }
        call("unlink")?;
        if is_of_readers(path) {
            let mut state = self.world.state();
            let removed = state.readers.take();
            if let Some(inode) = removed {
                state.inodes[inode].links = 0;
            }
            return Ok(if removed.is_some() { Unlinked::Removed } else { Unlinked::Missing });
        }
        // The file may have been replaced since `lstat`.
        let there = self.world.state().path.is_some();
        self.world.remove();
        Ok(if there { Unlinked::Removed } else { Unlinked::Missing })
    }

    fn is_mount_point(&self, _: &Path) -> bool {
        self.world.state().is_mount_point
    }

    fn is_planted(&self, _: &Path, owner: u32) -> bool {
        owner == STRANGER
    }

    fn fs_kind(&self, _: &File) -> FsKind {
        if self.world.state().mount == Mount::Local { FsKind::Local } else { FsKind::Shared }
    }

    fn has_server_locks(&self, _: &File) -> bool {
        self.world.state().mount == Mount::OfServer
    }

    fn wall_clock(&self) -> u64 {
        self.world.state().clock
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.world.state().clock)
    }

    fn pause(&self, duration: Duration) {
        self.pauses.set(self.pauses.get() + 1);
        assert!(self.pauses.get() < 10_000, "a loop without an end");
        let _ = self.world.call("pause");
        self.world.state().clock += u64::try_from(duration.as_millis()).unwrap();
    }

    fn process_exists(&self, pid: u32) -> bool {
        self.process(pid) != ProcessState::Dead
    }

    fn process(&self, pid: u32) -> ProcessState {
        self.world.state().processes.get(&pid).copied().unwrap_or(ProcessState::Dead)
    }

    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }
}
