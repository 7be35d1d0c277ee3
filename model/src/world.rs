//! What the processes share: two paths, inodes, kernel locks, process states and a clock; and what the checker
//! knows of them that they do not.

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

/// The number of a process, from 0.
pub type Who = usize;

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
    who: Who,
    file: usize,
    exclusive: bool,
}

/// A file, whether it still has a name or is only open.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inode {
    data: Data,
    linked: bool,
    /// It has another name, elsewhere.
    linked_elsewhere: bool,
    modified: u8,
    opens: u8,
    locks: Vec<KernelLock>,
    /// Its name was taken away while somebody held the lock, by somebody else.
    robbed: bool,
    /// Its holder was killed in its critical section, and nobody has been told yet.
    left_half_way: bool,
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
            robbed: false,
            left_half_way: false,
            released: false,
        }
    }
}

/// Whether a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// It runs, or is stopped at any point for any time.
    Running,
    /// It was killed: the kernel has closed its files, and its pid is still there.
    Dying,
    /// It was killed, and nobody has waited for it yet.
    Zombie,
    /// It is gone, and so is its pid.
    Dead,
    /// It is gone, and an unrelated process has its pid.
    Reused,
}

/// What happened to be the case at some moment of a process' current call.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// Another process held the lock.
    pub held: bool,
    /// There was no file.
    pub free: bool,
    /// There was an empty file younger than the time of birth.
    pub being_created: bool,
    /// There was a file, and nobody held the lock.
    pub stale: bool,
    /// No other process held the lock in shared mode.
    pub without_readers: bool,
    /// Which processes were gone when it began, a bit for each.
    gone: u8,
}

impl Seen {
    /// Whether there was a process with this pid.
    #[must_use]
    pub fn existed(self, pid: u32) -> bool {
        let who = pid.checked_sub(FIRST_PID);
        pid == UNRELATED_PID || who.is_some_and(|who| who < 8 && self.gone & (1 << who) == 0)
    }
}

/// One process, as the checker sees it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    /// What it does.
    pub role: Role,
    /// Its open files.
    files: Vec<Option<usize>>,
    /// Whether it runs.
    pub life: Life,
    /// In its critical section.
    pub inside: bool,
    /// It took its lock over.
    took_over: bool,
    /// Its record replaced a released lock.
    found_released: bool,
    /// Somebody else removed the file of its lock, in this round.
    pub lost: bool,
    /// The path named its own file when it last looked.
    pub looked: bool,
    /// In a call whose answer depends on what was the case meanwhile.
    pub asks: bool,
    /// What was the case during that call.
    pub seen: Seen,
    /// A legacy process's lock, from its creation on.
    pub owns: Option<usize>,
    /// A legacy process that has opened what it may judge stale, and has not unlinked the path yet.
    pub about_to_unlink: bool,
}

impl Actor {
    /// A process that has not done anything yet.
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
            looked: false,
            asks: false,
            seen: Seen::default(),
            owns: None,
            about_to_unlink: false,
        }
    }

    /// An old TypeScript peer, whose errors are its own.
    #[must_use]
    pub fn is_old(&self) -> bool {
        matches!(self.role, Role::LegacyProcess)
    }

    /// It may unlink whatever is there: `rm`, or a forced break.
    fn is_outsider(&self) -> bool {
        matches!(self.role, Role::Remove | Role::ForceBreak)
    }
}

/// The kind of filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filesystem {
    /// Local to the kernel.
    Local,
    /// A network's: an open file that is unlinked is renamed, so its link count does not tell.
    Shared,
    /// One without kernel locks.
    Lockless,
}

/// Everything that the processes share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// What kind of filesystem it is.
    pub filesystem: Filesystem,
    /// Each process lives in a pid namespace of its own.
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
    /// What went wrong so far.
    pub violations: Violations,
    /// How many processes were killed so far.
    pub killed: u8,
}

/// The pid of the first process; the others follow.
pub const FIRST_PID: u32 = 100;
/// A process that is not there.
pub const DEAD_PID: u32 = 77;
/// A process that has nothing to do with all this.
pub const UNRELATED_PID: u32 = 50;
const BOOT: &str = "boot";

/// What a process with this number writes into its records.
#[must_use]
pub fn identity(who: Who, in_namespaces: bool) -> ProcessIdentity {
    let pid_namespace = Some(if in_namespaces { 2 + who as u64 } else { 1 });
    ProcessIdentity {
        pid: pid(who),
        start: Some(start(who)),
        boot: Some(BOOT.to_owned()),
        pid_namespace,
        host: None,
    }
}

fn pid(who: Who) -> u32 {
    FIRST_PID + u32::try_from(who).unwrap_or(0)
}

fn start(who: Who) -> u64 {
    1000 + who as u64
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

    fn open_file(&mut self, who: Who, inode: usize) -> usize {
        self.inode(inode).opens += 1;
        let files = &mut self.actors[who].files;
        let file = files.iter().position(Option::is_none).unwrap_or_else(|| {
            files.push(None);
            files.len() - 1
        });
        files[file] = Some(inode);
        file
    }

    fn opened(&self, who: Who, file: usize) -> usize {
        self.actors[who].files[file].expect("an open file")
    }

    /// Inode numbers are used again, as filesystems do.
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

    /// Creates a file, if nothing is there.
    pub fn create(&mut self, who: Who, place: Place) -> Option<usize> {
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
        if self.actors[who].is_old() {
            self.actors[who].owns = Some(inode);
        }
        Some(self.open_file(who, inode))
    }

    /// Opens what is there.
    pub fn open(&mut self, who: Who, place: Place) -> Option<usize> {
        self.actors[who].about_to_unlink = self.actors[who].is_old() && self.path.is_some();
        self.place(place).map(|inode| self.open_file(who, inode))
    }

    /// Closes a file, and releases its kernel lock.
    pub fn close(&mut self, who: Who, file: usize) {
        let Some(inode) = self.actors[who].files[file].take() else { return };
        while self.actors[who].files.last().is_some_and(Option::is_none) {
            self.actors[who].files.pop();
        }
        let open = self.inode(inode);
        open.opens -= 1;
        open.locks.retain(|lock| (lock.who, lock.file) != (who, file));
        self.forget_if_unused(inode);
    }

    /// Whether a file has a kernel lock, so that others can notice its being closed.
    #[must_use]
    pub fn is_locked(&self, who: Who, file: usize) -> bool {
        let Some(inode) = self.actors[who].files.get(file).copied().flatten() else { return false };
        let inode = self.inodes[inode].as_ref();
        inode.is_some_and(|inode| inode.locks.iter().any(|lock| (lock.who, lock.file) == (who, file)))
    }

    /// Whether a process has any file open.
    #[must_use]
    pub fn has_files(&self, who: Who) -> bool {
        self.actors[who].files.iter().any(Option::is_some)
    }

    /// Whether somebody looks at the file at the path under a shared kernel lock.
    #[must_use]
    pub fn is_looked_at(&self) -> bool {
        self.at_path().is_some_and(|inode| inode.locks.iter().any(|lock| !lock.exclusive))
    }

    /// Tries the kernel lock.
    pub fn lock(&mut self, who: Who, file: usize, mode: LockMode) -> TryLock {
        if self.filesystem == Filesystem::Lockless {
            return TryLock::Unsupported;
        }
        let inode = self.opened(who, file);
        let exclusive = mode == LockMode::Exclusive;
        let locks = &mut self.inode(inode).locks;
        let mine = |lock: &KernelLock| (lock.who, lock.file) == (who, file);
        if locks.iter().any(|lock| !mine(lock) && (exclusive || lock.exclusive)) {
            return TryLock::WouldBlock;
        }
        locks.retain(|lock| !mine(lock));
        locks.push(KernelLock { who, file, exclusive });
        locks.sort_by_key(|lock| (lock.who, lock.file));
        TryLock::Acquired
    }

    /// Releases the kernel lock.
    pub fn unlock(&mut self, who: Who, file: usize) {
        let inode = self.opened(who, file);
        self.inode(inode).locks.retain(|lock| (lock.who, lock.file) != (who, file));
    }

    /// Whether a process holds the kernel lock of the readers for a moment: it checks for readers, or is a reader that
    /// has not entered its critical section, or has left it.
    #[must_use]
    pub fn is_checked_for_readers(&self) -> bool {
        let readers = self.readers.and_then(|inode| self.inodes[inode].as_ref());
        readers.is_some_and(|inode| {
            inode.locks.iter().any(|lock| lock.exclusive || !self.actors[lock.who].inside)
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
    pub fn stat(&self, who: Who, file: usize) -> Stat {
        self.described(self.opened(who, file))
    }

    /// Describes what is there.
    pub fn stat_path(&mut self, who: Who, place: Place) -> Option<Stat> {
        let inode = (*self.place(place))?;
        if place == Place::Lock {
            self.actors[who].looked = self.actors[who].files.contains(&Some(inode));
        }
        Some(self.described(inode))
    }

    /// Reads a file.
    pub fn read(&mut self, who: Who, file: usize) -> Data {
        let inode = self.opened(who, file);
        self.inode(inode).data.clone()
    }

    /// Writes at a file's beginning.
    pub fn write(&mut self, who: Who, file: usize, bytes: &[u8]) {
        let inode = self.opened(who, file);
        self.check_ownership(who, inode);
        self.check_links(inode);
        if matches!(Content::of(bytes), Content::Record(_)) {
            self.actors[who].found_released = std::mem::take(&mut self.inode(inode).released);
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

    /// Cuts a file.
    pub fn truncate(&mut self, who: Who, file: usize, length: usize) {
        let inode = self.opened(who, file);
        self.check_ownership(who, inode);
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

    /// Removes the name. `None`: the system does not let it.
    pub fn unlink(&mut self, who: Who, place: Place) -> Option<bool> {
        if place == Place::Readers {
            return Some(self.remove_readers(who));
        }
        if self.stays && self.path.is_some() {
            return None;
        }
        Some(self.remove(who))
    }

    /// Whoever has its exclusive kernel lock may remove the file of the readers.
    fn remove_readers(&mut self, who: Who) -> bool {
        let Some(inode) = self.readers.take() else { return false };
        if !self.owns(who, inode) {
            self.violations.add(Violation::ForeignFileModified);
        }
        self.inode(inode).linked = false;
        self.forget_if_unused(inode);
        true
    }

    fn remove(&mut self, who: Who) -> bool {
        let cleans_up = std::mem::take(&mut self.actors[who].about_to_unlink);
        let Some(inode) = self.path else { return false };
        let is_excused = self.check_ownership(who, inode);
        self.path = None;
        self.inode(inode).linked = false;
        for victim in 0..self.actors.len() {
            let theirs = self.actors[victim].owns == Some(inode) || self.owns(victim, inode);
            if victim != who && is_excused && theirs && self.actors[victim].life == Life::Running {
                self.actors[victim].lost = true;
                self.inode(inode).robbed = true;
                self.note_loss(victim, cleans_up);
            }
            if self.actors[victim].owns == Some(inode) {
                self.actors[victim].owns = None;
            }
        }
        self.forget_if_unused(inode);
        true
    }

    fn note_loss(&mut self, victim: Who, as_stale: bool) {
        let Actor { inside, took_over, .. } = self.actors[victim];
        if self.actors[victim].is_old() || !inside {
            return;
        }
        self.violations.add(if took_over && as_stale {
            Violation::LockRemovedAfterTakeOver
        } else {
            Violation::LockRemoved
        });
    }

    /// Notes it when a process changes what is at the path without being the lock's owner.
    /// `true`: it is one of those who may, or the one window in which it cannot know.
    fn check_ownership(&mut self, who: Who, inode: usize) -> bool {
        let actor = &self.actors[who];
        if actor.is_old() || actor.is_outsider() || self.path != Some(inode) {
            return true;
        }
        // There is no unlink by inode: whoever lost its lock between its last look and its unlink removes
        // what has come in its place. That window is named in `docs/design/protocol.md`, and no other.
        if actor.looked && self.is_robbed(who) {
            self.violations.add(Violation::ReleaseRace);
            return true;
        }
        let peer = self.actors.iter().any(|peer| peer.owns == Some(inode) && peer.life == Life::Running);
        if peer {
            self.violations.add(Violation::LegacyLockModified);
        }
        if !self.owns(who, inode) {
            self.violations.add(Violation::ForeignFileModified);
        }
        false
    }

    fn owns(&self, who: Who, inode: usize) -> bool {
        let open = self.inodes[inode].as_ref().expect("an inode");
        match self.filesystem {
            // There the one who created the file owns it: nothing is ever taken over.
            Filesystem::Lockless => self.actors[who].files.contains(&Some(inode)),
            _ => open.locks.iter().any(|lock| lock.who == who && lock.exclusive),
        }
    }

    /// Whether the file of the lock that a process holds was removed by somebody else.
    fn is_robbed(&self, who: Who) -> bool {
        let actor = &self.actors[who];
        let robbed = |inode: &usize| {
            self.inodes[*inode].as_ref().is_some_and(|open| open.robbed) && self.owns(who, *inode)
        };
        (actor.is_old() && actor.lost) || actor.files.iter().flatten().any(robbed)
    }

    fn at_path(&self) -> Option<&Inode> {
        self.inodes[self.path?].as_ref()
    }

    /// Whether a process other than `who` holds the lock: it has the exclusive kernel lock on the file that
    /// the path names, or it is a legacy process that created it, or the record there names a live process.
    #[must_use]
    pub fn is_held_by_other(&self, who: Who) -> bool {
        let Some(inode) = self.at_path() else { return false };
        // By the first invariant a breaker owns the lock while it removes it. An inspector must never.
        let owner = |lock: &&KernelLock| lock.exclusive && self.actors[lock.who].role != Role::Inspect;
        let kernel = inode.locks.iter().filter(owner).any(|lock| lock.who != who);
        let old = self.actors.iter().enumerate().any(|(index, peer)| {
            index != who && peer.owns == self.path && matches!(peer.life, Life::Running | Life::Dying)
        });
        kernel || old || self.names_a_live_process(&inode.data, who)
    }

    /// Whether a process other than `who` holds the lock in shared mode.
    fn is_read_by_other(&self, who: Who) -> bool {
        let reads = |actor: &Actor| actor.role == Role::Read && actor.inside;
        self.actors.iter().enumerate().any(|(other, actor)| other != who && reads(actor))
    }

    /// By the judging table of `docs/design/protocol.md`, written again here.
    fn names_a_live_process(&self, data: &Data, who: Who) -> bool {
        let Some(record) = &data.0.1 else { return false };
        if self.is_copy(record) {
            return false;
        }
        if record.pid == pid(who) {
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

    /// What a process can know of another.
    #[must_use]
    pub fn process_as_seen(&self, who: Who, other: u32) -> ProcessState {
        if self.in_namespaces && other != pid(who) { ProcessState::Dead } else { self.process(other) }
    }

    fn process(&self, pid: u32) -> ProcessState {
        if pid == UNRELATED_PID {
            return ProcessState::Alive { start: Some(1) };
        }
        let who = pid.checked_sub(FIRST_PID).map(|who| who as usize);
        let Some((who, actor)) = who.and_then(|who| Some((who, self.actors.get(who)?))) else {
            return ProcessState::Dead;
        };
        match actor.life {
            Life::Running | Life::Dying => ProcessState::Alive { start: Some(start(who)) },
            Life::Zombie => ProcessState::Zombie,
            Life::Dead => ProcessState::Dead,
            Life::Reused => ProcessState::Alive { start: Some(1) },
        }
    }

    /// A legacy process has asked whether the process of the record lives.
    pub fn old_peer_asked(&mut self, who: Who, lives: bool) {
        if self.actors[who].is_old() {
            self.actors[who].about_to_unlink = !lives;
        }
    }

    /// The filesystem's kind.
    #[must_use]
    pub fn fs_kind(&self) -> FsKind {
        if self.filesystem == Filesystem::Shared { FsKind::Shared } else { FsKind::Local }
    }

    /// Kills a process. Its files are open until [`World::close_all`], and until then somebody works under its lock.
    pub fn kill(&mut self, who: Who) {
        self.killed += 1;
        let actor = &mut self.actors[who];
        actor.life = Life::Dying;
        actor.asks = false;
        actor.seen = Seen::default();
        actor.about_to_unlink = false;
    }

    /// Whether a child of a process that was killed has its files.
    #[must_use]
    pub fn has_heir(&self, who: Who) -> bool {
        self.actors[who].life != Life::Running && self.has_files(who)
    }

    /// The kernel closes the files of a process that was killed, or of its child.
    pub fn close_all(&mut self, who: Who) {
        let inside = self.actors[who].inside;
        if let Some(path) = self.path
            && inside
            && self.owns(who, path)
        {
            self.inode(path).left_half_way = true;
        }
        for file in 0..self.actors[who].files.len() {
            self.close(who, file);
        }
        self.actors[who].inside = false;
    }

    /// Enters the critical section.
    pub fn enter(&mut self, who: Who, took_over: bool) {
        let file = self.only_file(who).map(|(_, inode)| inode);
        if let Some(inode) = file.filter(|_| !self.actors[who].is_old()) {
            let left_half_way = std::mem::take(&mut self.inode(inode).left_half_way);
            if left_half_way && !took_over {
                self.violations.add(Violation::CrashNotReported);
            }
        }
        self.actors[who].took_over = took_over;
        if took_over && self.actors[who].found_released {
            self.violations.add(Violation::FalseTakeOver);
        }
        let reads = |who: Who| self.actors[who].role == Role::Read;
        if reads(who) && !took_over && self.at_path().is_some_and(|inode| inode.left_half_way) {
            self.violations.add(Violation::CrashNotReported);
        }
        let owner = |other: Who| {
            other != who
                && self.actors[other].inside
                && !self.is_robbed(other)
                && !(reads(who) && reads(other))
        };
        if (0..self.actors.len()).any(owner) && !self.is_robbed(who) {
            self.violations.add(Violation::TwoOwners);
        }
        self.actors[who].inside = true;
    }

    /// The call has been answered: what was the case?
    pub fn answered(&mut self, who: Who) -> Seen {
        self.actors[who].asks = false;
        std::mem::take(&mut self.actors[who].seen)
    }

    /// Leaves the critical section.
    pub fn leave(&mut self, who: Who) {
        self.actors[who].inside = false;
        self.actors[who].looked = false;
    }

    /// A round of a process has ended.
    pub fn end(&mut self, who: Who) {
        self.actors[who].lost = false;
        self.actors[who].looked = false;
        self.actors[who].took_over = false;
        self.actors[who].found_released = false;
    }

    /// The only file that a process has open, and its inode.
    #[must_use]
    pub fn only_file(&self, who: Who) -> Option<(usize, usize)> {
        let files = &self.actors[who].files;
        let mut open = files.iter().enumerate().filter_map(|(file, inode)| inode.map(|inode| (file, inode)));
        open.next().filter(|_| open.next().is_none())
    }

    /// A world without a lock, in which the next file that this process creates gets these numbers.
    #[must_use]
    pub fn with_inode_first(&self, who: Who, file: usize, inode: usize) -> Self {
        let actors = self.actors.iter().map(|actor| Actor::new(actor.role)).collect();
        let mut world = Self::new(self.filesystem, actors, None, (false, false));
        for _ in 0..inode {
            world.inodes.push(Some(Inode { linked: false, opens: 1, ..Inode::new(Data::default(), 0) }));
        }
        if file > 0 {
            world.inodes.push(None);
            world.inodes.push(Some(Inode { linked: false, opens: 1, ..Inode::new(Data::default(), 0) }));
            world.actors[who].files = vec![Some(inode + 1); file];
        }
        world
    }

    /// A new round of a process begins.
    pub fn begin(&mut self, who: Who) {
        let gone = |actor: &Actor| u8::from(actor.life == Life::Dead);
        let gone = self.actors.iter().enumerate().fold(0, |all, (who, actor)| all | (gone(actor) << who));
        let actor = &mut self.actors[who];
        actor.asks = !actor.is_old();
        if actor.asks {
            actor.seen.gone = gone;
        }
        self.look();
    }

    /// Notes for every process what is the case now.
    pub fn look(&mut self) {
        for who in 0..self.actors.len() {
            if !self.actors[who].asks {
                continue;
            }
            let held = self.is_held_by_other(who);
            let being_created = self.has_file_being_created();
            let free = !self.has_file() || (self.is_released() && !held);
            let stale = !free && !held;
            let is_read = self.is_read_by_other(who);
            let actor = &mut self.actors[who];
            let seen = &mut actor.seen;
            seen.held |= held || (is_read && actor.role != Role::Read);
            seen.without_readers |= !is_read;
            seen.free |= free;
            seen.being_created |= being_created;
            seen.stale |= stale;
        }
    }

    /// Whether the filesystem has no kernel locks.
    #[must_use]
    pub fn has_no_kernel_locks(&self) -> bool {
        self.filesystem == Filesystem::Lockless
    }

    /// Whether there is an empty file, younger than the time of birth.
    #[must_use]
    pub fn has_file_being_created(&self) -> bool {
        self.at_path().is_some_and(|inode| inode.data.is_empty() && inode.modified == self.clock)
    }

    /// Whether the file says that its lock was released in place.
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

    /// Whether readers take part. Otherwise no process can change that there is no file of readers.
    #[must_use]
    pub fn knows_readers(&self) -> bool {
        self.actors.iter().any(|actor| actor.role == Role::Read)
    }

    /// Whether a legacy process stands between creating its file and writing to it.
    #[must_use]
    pub fn is_giving_birth(&self, who: Who) -> bool {
        self.actors[who]
            .owns
            .is_some_and(|inode| self.inodes[inode].as_ref().is_some_and(|inode| inode.data.is_empty()))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "two seconds")]
const CREATION_GRACE_MS: u64 = CREATION_GRACE.as_millis() as u64;
