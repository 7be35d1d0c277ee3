//! The state that the processes share: two paths, inodes, kernel locks, process states and a clock. The checker also
//! keeps facts here that no process can read.

use std::sync::Arc;

use crate::platform::{FileId, FileKind, FsKind, LockMode, ProcessIdentity, ProcessState, Stat, TryLock};
use crate::protocol::CREATION_GRACE;
use crate::protocol::record::{Content, RELEASED, Record};
use crate::role::Role;
use crate::violation::{Violation, Violations};

/// A file's bytes, and the record in them, which the checker reads after every operation.
#[derive(Debug, Clone, Default)]
pub struct Data(Arc<(Vec<u8>, Option<Record>)>);

impl From<&[u8]> for Data {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::new((bytes.to_vec(), Record::parse(bytes))))
    }
}

impl std::ops::Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.0
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Data {}

impl std::hash::Hash for Data {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// The index of a process, from 0.
pub type ProcessIndex = usize;

/// One of the two paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The lock file.
    Lock,
    /// The file of the readers.
    Readers,
}

/// A kernel lock on an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelLock {
    process: ProcessIndex,
    file: usize,
    exclusive: bool,
}

/// A file, whether it still has a name or is only open.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inode {
    data: Data,
    linked: bool,
    /// It has a second name, elsewhere.
    linked_elsewhere: bool,
    modified: u8,
    opens: u8,
    locks: Vec<KernelLock>,
    /// Another process removed its name while a process held the lock.
    removed_by_other: bool,
    /// Its holder was killed in its critical section, and no acquire has reported that yet.
    unreported_crash: bool,
    /// Its last holder has released it in place.
    released: bool,
}

impl Inode {
    fn new(data: Data, modified: u8) -> Self {
        Self {
            data,
            linked: true,
            linked_elsewhere: false,
            modified,
            opens: 0,
            locks: Vec::new(),
            removed_by_other: false,
            unreported_crash: false,
            released: false,
        }
    }
}

/// The state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// It runs, or is stopped at any point for any time.
    Running,
    /// It was killed: the kernel has closed its files, and its pid is still there.
    Dying,
    /// It was killed, and its parent has not called `wait(2)` yet.
    Zombie,
    /// It is gone, and so is its pid.
    Dead,
    /// It is gone, and an unrelated process has its pid.
    Reused,
}

/// Facts that held at some moment of a process' current call.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CallFacts {
    /// Another process held the lock.
    pub held: bool,
    /// There was no file.
    pub free: bool,
    /// There was an empty file in its creation grace period.
    pub being_created: bool,
    /// There was a file, and no process held the lock.
    pub stale: bool,
    /// No other process held the lock in shared mode.
    pub without_readers: bool,
    /// Which processes were gone when it began, a bit for each.
    gone: u8,
}

impl CallFacts {
    /// Whether there was a process with this pid.
    #[must_use]
    pub fn existed(self, pid: u32) -> bool {
        let process = pid.checked_sub(FIRST_PID);
        pid == UNRELATED_PID || process.is_some_and(|process| process < 8 && self.gone & (1 << process) == 0)
    }
}

/// One process.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    /// Its role.
    pub role: Role,
    /// Its open files.
    files: Vec<Option<usize>>,
    /// Its state.
    pub life: Life,
    /// In its critical section.
    pub inside: bool,
    /// It took over its lock.
    took_over: bool,
    /// Its record replaced a released lock.
    found_released: bool,
    /// Another process removed the file of its lock, in this round.
    pub lost: bool,
    /// The path named its own file at its last check.
    pub checked: bool,
    /// In a call whose result depends on the facts that held during it.
    pub in_call: bool,
    /// The facts that held during that call.
    pub facts: CallFacts,
    /// The lock file of a legacy process, from its creation on.
    pub owns: Option<usize>,
    /// A legacy process that has opened a file that it may classify as stale, and has not unlinked the path yet.
    pub about_to_unlink: bool,
}

impl Actor {
    /// A process that has not begun.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            role,
            files: Vec::new(),
            life: Life::Running,
            inside: false,
            took_over: false,
            found_released: false,
            lost: false,
            checked: false,
            in_call: false,
            facts: CallFacts::default(),
            owns: None,
            about_to_unlink: false,
        }
    }

    /// A legacy process, whose errors are not checked.
    #[must_use]
    pub fn is_legacy(&self) -> bool {
        matches!(self.role, Role::LegacyProcess)
    }

    /// It may unlink any file: `rm`, or a forced break.
    fn is_outsider(&self) -> bool {
        matches!(self.role, Role::Remove | Role::ForceBreak)
    }
}

/// The kind of filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filesystem {
    /// Local to the kernel.
    Local,
    /// A network's: an open file that is unlinked is renamed, and keeps its link count.
    Shared,
    /// One without kernel locks.
    Lockless,
}

/// The state that the processes share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The kind of filesystem.
    pub filesystem: Filesystem,
    /// Each process has its own pid namespace.
    pub in_namespaces: bool,
    /// The path is a mount point: no process can remove it.
    pub stays: bool,
    path: Option<usize>,
    readers: Option<usize>,
    inodes: Vec<Option<Inode>>,
    /// Time, in units of `CREATION_GRACE`.
    pub clock: u8,
    /// The processes.
    pub actors: Vec<Actor>,
    /// The violations so far.
    pub violations: Violations,
    /// How many processes were killed so far.
    pub killed: u8,
}

/// The pid of the first process; the others follow.
pub const FIRST_PID: u32 = 100;
/// The pid of no process.
pub const DEAD_PID: u32 = 77;
/// The pid of an unrelated process.
pub const UNRELATED_PID: u32 = 50;
const BOOT: &str = "boot";

/// The identity that this process writes into its records.
#[must_use]
pub fn identity(process: ProcessIndex, in_namespaces: bool) -> ProcessIdentity {
    let pid_namespace = Some(if in_namespaces { 2 + process as u64 } else { 1 });
    ProcessIdentity {
        pid: pid(process),
        start: Some(start(process)),
        boot: Some(BOOT.to_owned()),
        pid_namespace,
        host: None,
    }
}

fn pid(process: ProcessIndex) -> u32 {
    FIRST_PID + u32::try_from(process).unwrap_or(0)
}

fn start(process: ProcessIndex) -> u64 {
    1000 + process as u64
}

impl World {
    /// A world with these processes, and a file with this content at the path, if any.
    #[must_use]
    pub fn new(
        filesystem: Filesystem,
        actors: Vec<Actor>,
        content: Option<&[u8]>,
        (is_young, linked_elsewhere): (bool, bool),
    ) -> Self {
        let mut world = Self {
            filesystem,
            in_namespaces: false,
            stays: false,
            path: None,
            readers: None,
            inodes: Vec::new(),
            clock: 1,
            actors,
            violations: Violations::default(),
            killed: 0,
        };
        if let Some(content) = content {
            let data = content.into();
            world.inodes.push(Some(Inode { linked_elsewhere, ..Inode::new(data, u8::from(is_young)) }));
            world.path = Some(0);
        }
        world
    }

    /// Milliseconds since the world began.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::from(self.clock) * CREATION_GRACE_MS
    }

    fn inode(&mut self, inode: usize) -> &mut Inode {
        self.inodes[inode].as_mut().expect("an inode that is open or has a name")
    }

    fn open_file(&mut self, process: ProcessIndex, inode: usize) -> usize {
        self.inode(inode).opens += 1;
        let files = &mut self.actors[process].files;
        let file = files.iter().position(Option::is_none).unwrap_or_else(|| {
            files.push(None);
            files.len() - 1
        });
        files[file] = Some(inode);
        file
    }

    fn opened(&self, process: ProcessIndex, file: usize) -> usize {
        self.actors[process].files[file].expect("an open file")
    }

    /// Frees the inode number, as filesystems do.
    fn forget_if_unused(&mut self, inode: usize) {
        if self.inodes[inode]
            .as_ref()
            .is_some_and(|inode| !inode.linked && !inode.linked_elsewhere && inode.opens == 0)
        {
            self.inodes[inode] = None;
            while self.inodes.last().is_some_and(Option::is_none) {
                self.inodes.pop();
            }
        }
    }

    fn place(&mut self, place: Place) -> &mut Option<usize> {
        match place {
            Place::Lock => &mut self.path,
            Place::Readers => &mut self.readers,
        }
    }

    /// Creates a file, if there is none.
    pub fn create(&mut self, process: ProcessIndex, place: Place) -> Option<usize> {
        if self.place(place).is_some() {
            return None;
        }
        let new = Inode::new(Data::default(), self.clock);
        let inode = self.inodes.iter().position(Option::is_none).unwrap_or_else(|| {
            self.inodes.push(None);
            self.inodes.len() - 1
        });
        self.inodes[inode] = Some(new);
        *self.place(place) = Some(inode);
        if self.actors[process].is_legacy() {
            self.actors[process].owns = Some(inode);
        }
        Some(self.open_file(process, inode))
    }

    /// Opens the file at a path.
    pub fn open(&mut self, process: ProcessIndex, place: Place) -> Option<usize> {
        self.actors[process].about_to_unlink = self.actors[process].is_legacy() && self.path.is_some();
        self.place(place).map(|inode| self.open_file(process, inode))
    }

    /// Closes a file, and releases its kernel lock.
    pub fn close(&mut self, process: ProcessIndex, file: usize) {
        let Some(inode) = self.actors[process].files[file].take() else { return };
        while self.actors[process].files.last().is_some_and(Option::is_none) {
            self.actors[process].files.pop();
        }
        let open = self.inode(inode);
        open.opens -= 1;
        open.locks.retain(|lock| (lock.process, lock.file) != (process, file));
        self.forget_if_unused(inode);
    }

    /// Whether a file has a kernel lock, so that other processes can observe its `close`.
    #[must_use]
    pub fn is_locked(&self, process: ProcessIndex, file: usize) -> bool {
        let Some(inode) = self.actors[process].files.get(file).copied().flatten() else { return false };
        let inode = self.inodes[inode].as_ref();
        inode.is_some_and(|inode| inode.locks.iter().any(|lock| (lock.process, lock.file) == (process, file)))
    }

    /// Whether a process has any file open.
    #[must_use]
    pub fn has_files(&self, process: ProcessIndex) -> bool {
        self.actors[process].files.iter().any(Option::is_some)
    }

    /// Whether a process inspects the file at the path under a shared kernel lock.
    #[must_use]
    pub fn is_inspected(&self) -> bool {
        self.at_path().is_some_and(|inode| inode.locks.iter().any(|lock| !lock.exclusive))
    }

    /// Tries the kernel lock.
    pub fn lock(&mut self, process: ProcessIndex, file: usize, mode: LockMode) -> TryLock {
        if self.filesystem == Filesystem::Lockless {
            return TryLock::Unsupported;
        }
        let inode = self.opened(process, file);
        let exclusive = mode == LockMode::Exclusive;
        let locks = &mut self.inode(inode).locks;
        let mine = |lock: &KernelLock| (lock.process, lock.file) == (process, file);
        if locks.iter().any(|lock| !mine(lock) && (exclusive || lock.exclusive)) {
            return TryLock::WouldBlock;
        }
        locks.retain(|lock| !mine(lock));
        locks.push(KernelLock { process, file, exclusive });
        locks.sort_by_key(|lock| (lock.process, lock.file));
        TryLock::Acquired
    }

    /// Releases the kernel lock.
    pub fn unlock(&mut self, process: ProcessIndex, file: usize) {
        let inode = self.opened(process, file);
        self.inode(inode).locks.retain(|lock| (lock.process, lock.file) != (process, file));
    }

    /// Whether a process holds the kernel lock of the readers for a moment: it checks for readers, or is a reader that
    /// has not entered its critical section, or has left it.
    #[must_use]
    pub fn is_checked_for_readers(&self) -> bool {
        let readers = self.readers.and_then(|inode| self.inodes[inode].as_ref());
        readers.is_some_and(|inode| {
            inode.locks.iter().any(|lock| lock.exclusive || !self.actors[lock.process].inside)
        })
    }

    fn described(&self, inode: usize) -> Stat {
        let Inode { data, linked, linked_elsewhere, modified, .. } =
            self.inodes[inode].as_ref().expect("an inode");
        Stat {
            id: FileId { device: 1, inode: inode as u128 },
            kind: FileKind::File,
            links: u64::from(*linked || self.filesystem == Filesystem::Shared) + u64::from(*linked_elsewhere),
            owner: 0,
            size: data.len() as u64,
            mode: 0o600,
            modified: u64::from(*modified) * CREATION_GRACE_MS,
        }
    }

    /// Describes an open file.
    #[must_use]
    pub fn stat(&self, process: ProcessIndex, file: usize) -> Stat {
        self.described(self.opened(process, file))
    }

    /// Describes the file at a path.
    pub fn stat_path(&mut self, process: ProcessIndex, place: Place) -> Option<Stat> {
        let inode = (*self.place(place))?;
        if place == Place::Lock {
            self.actors[process].checked = self.actors[process].files.contains(&Some(inode));
        }
        Some(self.described(inode))
    }

    /// Reads a file.
    pub fn read(&mut self, process: ProcessIndex, file: usize) -> Data {
        let inode = self.opened(process, file);
        self.inode(inode).data.clone()
    }

    /// Writes at the beginning of a file.
    pub fn write(&mut self, process: ProcessIndex, file: usize, bytes: &[u8]) {
        let inode = self.opened(process, file);
        self.check_ownership(process, inode);
        self.check_links(inode);
        if matches!(Content::of(bytes), Content::Record(_)) {
            self.actors[process].found_released = std::mem::take(&mut self.inode(inode).released);
        }
        let data = &self.inode(inode).data;
        let mut data = data.to_vec();
        data.resize(data.len().max(bytes.len()), 0);
        data[..bytes.len()].copy_from_slice(bytes);
        let clock = self.clock;
        let inode = self.inode(inode);
        inode.data = data[..].into();
        inode.modified = clock;
    }

    /// Truncates a file.
    pub fn truncate(&mut self, process: ProcessIndex, file: usize, length: usize) {
        let inode = self.opened(process, file);
        self.check_ownership(process, inode);
        self.check_links(inode);
        let inode = self.inode(inode);
        inode.data = inode.data[..length.min(inode.data.len())].into();
    }

    fn check_links(&mut self, inode: usize) {
        if self.inode(inode).linked_elsewhere {
            self.violations.add(Violation::SnapshotWritten);
        }
    }

    /// A process has released its lock without an error.
    pub fn released(&mut self) {
        if let Some(path) = self.path.filter(|_| self.stays) {
            self.inode(path).released = true;
        }
    }

    /// Removes the name. `None`: the system denies it.
    pub fn unlink(&mut self, process: ProcessIndex, place: Place) -> Option<bool> {
        if place == Place::Readers {
            return Some(self.remove_readers(process));
        }
        if self.stays && self.path.is_some() {
            return None;
        }
        Some(self.remove(process))
    }

    /// Removes the file of the readers, which needs its exclusive kernel lock.
    fn remove_readers(&mut self, process: ProcessIndex) -> bool {
        let Some(inode) = self.readers.take() else { return false };
        if !self.owns(process, inode) {
            self.violations.add(Violation::ForeignFileModified);
        }
        self.inode(inode).linked = false;
        self.forget_if_unused(inode);
        true
    }

    fn remove(&mut self, process: ProcessIndex) -> bool {
        let cleans_up = std::mem::take(&mut self.actors[process].about_to_unlink);
        let Some(inode) = self.path else { return false };
        let is_excused = self.check_ownership(process, inode);
        self.path = None;
        self.inode(inode).linked = false;
        for victim in 0..self.actors.len() {
            let theirs = self.actors[victim].owns == Some(inode) || self.owns(victim, inode);
            if victim != process && is_excused && theirs && self.actors[victim].life == Life::Running {
                self.actors[victim].lost = true;
                self.inode(inode).removed_by_other = true;
                self.note_loss(victim, cleans_up);
            }
            if self.actors[victim].owns == Some(inode) {
                self.actors[victim].owns = None;
            }
        }
        self.forget_if_unused(inode);
        true
    }

    fn note_loss(&mut self, victim: ProcessIndex, as_stale: bool) {
        let Actor { inside, took_over, .. } = self.actors[victim];
        if self.actors[victim].is_legacy() || !inside {
            return;
        }
        self.violations.add(if took_over && as_stale {
            Violation::LockRemovedAfterTakeOver
        } else {
            Violation::LockRemoved
        });
    }

    /// Records a violation if a process changes the file at the path without owning the lock.
    /// `true`: its role allows that, or it is in the one window in which it cannot check.
    fn check_ownership(&mut self, process: ProcessIndex, inode: usize) -> bool {
        let actor = &self.actors[process];
        if actor.is_legacy() || actor.is_outsider() || self.path != Some(inode) {
            return true;
        }
        // There is no unlink by inode: a process that lost its lock between its last check and its unlink removes
        // the file that has replaced its own. `docs/design/protocol.md` names this window, and no other.
        if actor.checked && self.has_lost_its_file(process) {
            self.violations.add(Violation::ReleaseRace);
            return true;
        }
        let is_legacy_lock =
            self.actors.iter().any(|actor| actor.owns == Some(inode) && actor.life == Life::Running);
        if is_legacy_lock {
            self.violations.add(Violation::LegacyLockModified);
        }
        if !self.owns(process, inode) {
            self.violations.add(Violation::ForeignFileModified);
        }
        false
    }

    fn owns(&self, process: ProcessIndex, inode: usize) -> bool {
        let open = self.inodes[inode].as_ref().expect("an inode");
        match self.filesystem {
            // Here the creator of the file owns it, because no lock is taken over.
            Filesystem::Lockless => self.actors[process].files.contains(&Some(inode)),
            _ => open.locks.iter().any(|lock| lock.process == process && lock.exclusive),
        }
    }

    /// Whether another process removed the file of the lock that this process holds.
    fn has_lost_its_file(&self, process: ProcessIndex) -> bool {
        let actor = &self.actors[process];
        let removed_by_other = |inode: &usize| {
            self.inodes[*inode].as_ref().is_some_and(|open| open.removed_by_other)
                && self.owns(process, *inode)
        };
        (actor.is_legacy() && actor.lost) || actor.files.iter().flatten().any(removed_by_other)
    }

    fn at_path(&self) -> Option<&Inode> {
        self.inodes[self.path?].as_ref()
    }

    /// Whether a process other than `process` holds the lock: it has the exclusive kernel lock on the file that
    /// the path names, or it is a legacy process that created it, or the record there names a live process.
    #[must_use]
    pub fn is_held_by_other(&self, process: ProcessIndex) -> bool {
        let Some(inode) = self.at_path() else { return false };
        // By I1 a breaker owns the lock while it removes the file. A process that only checks must not.
        let checks =
            |process: ProcessIndex| matches!(self.actors[process].role, Role::Inspect | Role::Refused);
        let owner = |lock: &&KernelLock| lock.exclusive && !checks(lock.process);
        let kernel = inode.locks.iter().filter(owner).any(|lock| lock.process != process);
        let legacy = self.actors.iter().enumerate().any(|(other, actor)| {
            other != process && actor.owns == self.path && matches!(actor.life, Life::Running | Life::Dying)
        });
        kernel || legacy || self.names_a_live_process(&inode.data, process)
    }

    /// Whether a process other than `process` holds the lock in shared mode.
    fn is_read_by_other(&self, process: ProcessIndex) -> bool {
        let reads = |actor: &Actor| actor.role == Role::Read && actor.inside;
        self.actors.iter().enumerate().any(|(other, actor)| other != process && reads(actor))
    }

    /// A second implementation of the table of classification in `docs/design/protocol.md`.
    fn names_a_live_process(&self, data: &Data, process: ProcessIndex) -> bool {
        let Some(record) = &data.0.1 else { return false };
        if self.is_copy(record) {
            return false;
        }
        if record.pid == pid(process) {
            return false;
        }
        match self.process(record.pid) {
            ProcessState::Alive { start } => match record.boot_id.as_deref() {
                None => true,
                Some(boot) => boot == BOOT && record.start_time == start,
            },
            ProcessState::Replaced | ProcessState::Dead | ProcessState::Zombie => false,
        }
    }

    fn is_copy(&self, record: &Record) -> bool {
        let names_it = |inode: usize| record.names_another_file(FileId { device: 1, inode: inode as u128 });
        self.filesystem == Filesystem::Local && self.path.is_some_and(names_it)
    }

    /// The state of a process as another one can read it.
    #[must_use]
    pub fn process_visible_to(&self, process: ProcessIndex, other: u32) -> ProcessState {
        if self.in_namespaces && other != pid(process) { ProcessState::Dead } else { self.process(other) }
    }

    fn process(&self, pid: u32) -> ProcessState {
        if pid == UNRELATED_PID {
            return ProcessState::Alive { start: Some(1) };
        }
        let process = pid.checked_sub(FIRST_PID).map(|process| process as usize);
        let Some((process, actor)) = process.and_then(|process| Some((process, self.actors.get(process)?)))
        else {
            return ProcessState::Dead;
        };
        match actor.life {
            Life::Running | Life::Dying => ProcessState::Alive { start: Some(start(process)) },
            Life::Zombie => ProcessState::Zombie,
            Life::Dead => ProcessState::Dead,
            Life::Reused => ProcessState::Alive { start: Some(1) },
        }
    }

    /// A legacy process has checked whether the process of the record lives.
    pub fn legacy_process_checked(&mut self, process: ProcessIndex, lives: bool) {
        if self.actors[process].is_legacy() {
            self.actors[process].about_to_unlink = !lives;
        }
    }

    /// The filesystem's kind.
    #[must_use]
    pub fn fs_kind(&self) -> FsKind {
        if self.filesystem == Filesystem::Shared { FsKind::Shared } else { FsKind::Local }
    }

    /// Kills a process. Its files are open until [`World::close_all`], and until then its child works under its lock.
    pub fn kill(&mut self, process: ProcessIndex) {
        self.killed += 1;
        let actor = &mut self.actors[process];
        actor.life = Life::Dying;
        actor.in_call = false;
        actor.facts = CallFacts::default();
        actor.about_to_unlink = false;
    }

    /// Whether a child of a process that was killed has its files.
    #[must_use]
    pub fn has_child(&self, process: ProcessIndex) -> bool {
        self.actors[process].life != Life::Running && self.has_files(process)
    }

    /// The kernel closes the files of a process that was killed, or of its child.
    pub fn close_all(&mut self, process: ProcessIndex) {
        let inside = self.actors[process].inside;
        if let Some(path) = self.path
            && inside
            && self.owns(process, path)
        {
            self.inode(path).unreported_crash = true;
        }
        for file in 0..self.actors[process].files.len() {
            self.close(process, file);
        }
        self.actors[process].inside = false;
    }

    /// Enters the critical section.
    pub fn enter(&mut self, process: ProcessIndex, took_over: bool) {
        let file = self.only_file(process).map(|(_, inode)| inode);
        if let Some(inode) = file.filter(|_| !self.actors[process].is_legacy()) {
            let unreported_crash = std::mem::take(&mut self.inode(inode).unreported_crash);
            if unreported_crash && !took_over {
                self.violations.add(Violation::CrashNotReported);
            }
        }
        self.actors[process].took_over = took_over;
        if took_over && self.actors[process].found_released {
            self.violations.add(Violation::FalseTakeOver);
        }
        let reads = |process: ProcessIndex| self.actors[process].role == Role::Read;
        if reads(process) && !took_over && self.at_path().is_some_and(|inode| inode.unreported_crash) {
            self.violations.add(Violation::CrashNotReported);
        }
        let owner = |other: ProcessIndex| {
            other != process
                && self.actors[other].inside
                && !self.has_lost_its_file(other)
                && !(reads(process) && reads(other))
        };
        if (0..self.actors.len()).any(owner) && !self.has_lost_its_file(process) {
            self.violations.add(Violation::TwoOwners);
        }
        self.actors[process].inside = true;
    }

    /// The call has returned: takes the facts that held during it.
    pub fn end_call(&mut self, process: ProcessIndex) -> CallFacts {
        self.actors[process].in_call = false;
        std::mem::take(&mut self.actors[process].facts)
    }

    /// Leaves the critical section.
    pub fn leave(&mut self, process: ProcessIndex) {
        self.actors[process].inside = false;
        self.actors[process].checked = false;
    }

    /// A round of a process has ended.
    pub fn end(&mut self, process: ProcessIndex) {
        self.actors[process].lost = false;
        self.actors[process].checked = false;
        self.actors[process].took_over = false;
        self.actors[process].found_released = false;
    }

    /// The only file that a process has open, and its inode.
    #[must_use]
    pub fn only_file(&self, process: ProcessIndex) -> Option<(usize, usize)> {
        let files = &self.actors[process].files;
        let mut open = files.iter().enumerate().filter_map(|(file, inode)| inode.map(|inode| (file, inode)));
        open.next().filter(|_| open.next().is_none())
    }

    /// A world without a lock, in which the next file that this process creates gets these numbers.
    #[must_use]
    pub fn with_inode_first(&self, process: ProcessIndex, file: usize, inode: usize) -> Self {
        let actors = self.actors.iter().map(|actor| Actor::new(actor.role)).collect();
        let mut world = Self::new(self.filesystem, actors, None, (false, false));
        for _ in 0..inode {
            world.inodes.push(Some(Inode { linked: false, opens: 1, ..Inode::new(Data::default(), 0) }));
        }
        if file > 0 {
            world.inodes.push(None);
            world.inodes.push(Some(Inode { linked: false, opens: 1, ..Inode::new(Data::default(), 0) }));
            world.actors[process].files = vec![Some(inode + 1); file];
        }
        world
    }

    /// A new round of a process begins.
    pub fn begin(&mut self, process: ProcessIndex) {
        let gone = |actor: &Actor| u8::from(actor.life == Life::Dead);
        let gone =
            self.actors.iter().enumerate().fold(0, |all, (process, actor)| all | (gone(actor) << process));
        let actor = &mut self.actors[process];
        actor.in_call = !actor.is_legacy();
        if actor.in_call {
            actor.facts.gone = gone;
        }
        self.record_facts();
    }

    /// Records the current facts for every process that is in a call.
    pub fn record_facts(&mut self) {
        for process in 0..self.actors.len() {
            if !self.actors[process].in_call {
                continue;
            }
            let held = self.is_held_by_other(process);
            let being_created = self.has_file_being_created();
            let free = !self.has_file() || (self.is_released() && !held);
            let stale = !free && !held;
            let is_read = self.is_read_by_other(process);
            let actor = &mut self.actors[process];
            let facts = &mut actor.facts;
            facts.held |= held || (is_read && actor.role != Role::Read);
            facts.without_readers |= !is_read;
            facts.free |= free;
            facts.being_created |= being_created;
            facts.stale |= stale;
        }
    }

    /// Whether the filesystem has no kernel locks.
    #[must_use]
    pub fn has_no_kernel_locks(&self) -> bool {
        self.filesystem == Filesystem::Lockless
    }

    /// Whether there is an empty file in its creation grace period.
    #[must_use]
    pub fn has_file_being_created(&self) -> bool {
        self.at_path().is_some_and(|inode| inode.data.is_empty() && inode.modified == self.clock)
    }

    /// Whether the lock was released in place.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.at_path().is_some_and(|inode| *inode.data == RELEASED)
    }

    /// Whether there is a file at the path.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.path.is_some()
    }

    /// Whether there is a file of readers.
    #[must_use]
    pub fn has_file_of_readers(&self) -> bool {
        self.readers.is_some()
    }

    /// Whether readers take part. If none do, no process can create the file of the readers.
    #[must_use]
    pub fn readers_take_part(&self) -> bool {
        self.actors.iter().any(|actor| actor.role == Role::Read)
    }

    /// Whether a legacy process has created its file and not written to it yet.
    #[must_use]
    pub fn has_created_without_writing(&self, process: ProcessIndex) -> bool {
        self.actors[process]
            .owns
            .is_some_and(|inode| self.inodes[inode].as_ref().is_some_and(|inode| inode.data.is_empty()))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "two seconds")]
const CREATION_GRACE_MS: u64 = CREATION_GRACE.as_millis() as u64;
