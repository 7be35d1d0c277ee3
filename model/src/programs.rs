//! The program of each role, and the checks of its results.

use std::sync::LazyLock;

use crate::platform::{Access, Opened, System};
use crate::protocol;
use crate::protocol::error::Error;
use crate::protocol::options::LockOptions;
use crate::protocol::record::Record;
use crate::protocol::target::Target;
use crate::replay::{Call, Round, Simulated};
use crate::role::Role;
use crate::violation::Violation;
use crate::world::{CallFacts, Place, World};

/// The functions of one version of `src/protocol/`: the real one, or a mutant.
#[derive(Clone, Copy)]
pub struct Protocol {
    /// Acquires, is in the critical section, releases.
    pub run: fn(&Simulated, &Target),
    /// Checks whether an owner still refuses it.
    pub repeat_refusal: fn(&Simulated),
    /// Inspects.
    pub inspect: fn(&Simulated),
    /// Breaks a stale lock, or any.
    pub break_lock: fn(&Simulated, bool),
}

/// The protocol that ships.
pub static PROTOCOL: Protocol = crate::protocol!(protocol);

/// The program that a process runs in each of its rounds.
#[derive(Clone, Copy)]
pub struct Program {
    /// The role of the process.
    pub role: Role,
    /// The version of the protocol.
    pub protocol: &'static Protocol,
}

impl Round for Program {
    fn run(&self, system: &Simulated) {
        match self.role {
            Role::Run => (self.protocol.run)(system, target()),
            Role::NativeRun => (self.protocol.run)(system, native_target()),
            Role::Read => (self.protocol.run)(system, shared_target()),
            Role::Refused => (self.protocol.repeat_refusal)(system),
            Role::Inspect => (self.protocol.inspect)(system),
            Role::Break => (self.protocol.break_lock)(system, false),
            Role::ForceBreak => (self.protocol.break_lock)(system, true),
            Role::Remove => drop(system.unlink_path()),
            Role::LegacyProcess => legacy_process(system),
        }
    }

    fn begins_attempt(&self, world: &World) -> Option<Call> {
        match self.role {
            Role::Run | Role::NativeRun if world.readers_take_part() => Some(Call::StatPath(Place::Readers)),
            Role::Run | Role::NativeRun => Some(Call::Create(Place::Lock)),
            Role::Read | Role::Inspect | Role::Break | Role::ForceBreak => Some(Call::Open(Place::Lock)),
            Role::Refused | Role::Remove | Role::LegacyProcess => None,
        }
    }
}

/// The lock that all processes acquire.
#[must_use]
pub(crate) fn target() -> &'static Target {
    static TARGET: LazyLock<Target> =
        LazyLock::new(|| LockOptions::in_directory("/model").resolve().expect("a path"));
    &TARGET
}

/// The same lock with `legacy: false`.
fn native_target() -> &'static Target {
    static TARGET: LazyLock<Target> = LazyLock::new(|| Target { legacy: false, ..target().clone() });
    &TARGET
}

/// The same lock in shared mode.
fn shared_target() -> &'static Target {
    static TARGET: LazyLock<Target> = LazyLock::new(|| Target { shared: true, ..native_target().clone() });
    &TARGET
}

/// The functions of a module that holds a version of `src/protocol/`.
#[macro_export]
macro_rules! protocol {
    ($module:ident) => {
        $crate::programs::Protocol {
            run: |system, target| {
                use $crate::programs;
                match $module::acquire(system, target, 0) {
                    Ok(held) => {
                        programs::acquired(system, held.taken_over.is_some());
                        system.leave();
                        programs::released(system, &$module::release(system, held));
                    }
                    Err(error) => programs::refused(system, &error),
                }
            },
            repeat_refusal: |system| {
                use $crate::programs;
                match $module::still_refused(system, programs::target()) {
                    Some(error) => programs::refused(system, &error),
                    None => programs::undecided(system),
                }
            },
            inspect: |system| {
                use $crate::programs::{self, Found};
                let status = $module::inspect(system, programs::target());
                let found = status.ok().map(|status| match status.state {
                    $module::LockState::Free => Found::Free,
                    $module::LockState::Held => Found::Held,
                    $module::LockState::Stale => Found::Stale,
                });
                programs::inspected(system, found);
            },
            break_lock: |system, force| {
                use $crate::programs;
                let broken = $module::break_lock(system, programs::target(), force);
                programs::broken(system, force, &broken);
            },
        }
    };
}

/// The state that an inspector reports.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// No lock file.
    Free,
    /// A holder.
    Held,
    /// A stale lock.
    Stale,
}

pub(crate) fn acquired(system: &Simulated, took_over: bool) {
    system.observe(move |world, process| {
        world.end_call(process);
        world.enter(process, took_over);
    });
}

pub(crate) fn refused(system: &Simulated, error: &Error) {
    let is_out_of_retries = system.is_out_of_retries();
    let is_stale = matches!(error, Error::Stale { .. });
    let contention = match error {
        Error::Contention { holder, .. } => Some(holder.as_ref().map(|holder| holder.pid)),
        _ => None,
    };
    system.observe(move |world, process| {
        let facts = world.end_call(process);
        let CallFacts { held, stale, .. } = facts;
        // Without kernel locks no lock is taken over, and only a provable end of the holder is reported.
        let is_refused = held || (stale && world.has_no_kernel_locks());
        match contention {
            Some(holder) => {
                if !is_refused {
                    world.violations.add(Violation::SpuriousRefusal);
                }
                // Before the retry budget is used up, a refusal names a holder that existed during the call.
                let names_a_process = holder.is_some_and(|pid| facts.existed(pid));
                if !names_a_process && !is_out_of_retries && !world.has_no_kernel_locks() {
                    world.violations.add(Violation::WrongAnswer);
                }
            }
            None if is_stale && stale && world.has_no_kernel_locks() => {}
            None => world.violations.add(Violation::WrongAnswer),
        }
    });
}

pub(crate) fn undecided(system: &Simulated) {
    system.observe(|world, process| {
        let _ = world.end_call(process);
    });
}

pub(crate) fn released(system: &Simulated, result: &Result<(), Error>) {
    let (is_ok, is_lost) = (result.is_ok(), matches!(result, Err(Error::Lost { .. })));
    system.observe(move |world, process| {
        if is_ok {
            world.released();
        }
        let actor = &world.actors[process];
        // It does not detect a loss after its last check.
        let is_right = if is_ok { !actor.lost || actor.checked } else { is_lost && actor.lost };
        if !is_right {
            world.violations.add(Violation::WrongAnswer);
        }
    });
}

pub(crate) fn inspected(system: &Simulated, found: Option<Found>) {
    system.observe(move |world, process| {
        let CallFacts { held, free, being_created, stale, without_readers, .. } = world.end_call(process);
        let is_right = match found {
            // The path and the readers are checked one after the other.
            Some(Found::Free) => free && without_readers,
            Some(Found::Held) => held || being_created,
            Some(Found::Stale) => stale && without_readers,
            None => false,
        };
        if !is_right {
            world.violations.add(Violation::WrongAnswer);
        }
    });
}

pub(crate) fn broken(system: &Simulated, force: bool, result: &Result<bool, Error>) {
    let is_broken = result.as_ref().ok().copied();
    let is_contention = matches!(result, Err(Error::Contention { .. }));
    system.observe(move |world, process| {
        let CallFacts { held, free, stale, without_readers, .. } = world.end_call(process);
        let is_right = match is_broken {
            Some(true) => stale || force,
            Some(false) => free && without_readers,
            None => is_contention && held && !force,
        };
        if !is_right {
            world.violations.add(Violation::WrongAnswer);
        }
    });
}

/// The calls of a legacy process.
fn legacy_process(system: &Simulated) {
    let path = &target().path;
    if let Ok(Some(_)) = system.stat_path(path)
        && let Ok(Opened::File(file)) = system.open(path, Access::Read)
    {
        let mut buffer = [0; 1024];
        let length = system.read(&file, &mut buffer).unwrap_or(0);
        drop(file);
        let record = Record::parse(&buffer[..length]);
        if record.is_some_and(|record| system.process_exists(record.pid)) {
            return;
        }
        // The file is gone: it fails with ENOENT.
        let true = system.unlink_path() else { return };
    }
    // The file exists: it fails with EEXIST.
    let Ok(Some(file)) = system.create(path) else { return };
    let record = format!("{{\"pid\":{},\"createdAt\":1}}", system.identity().pid);
    let _ = system.write(&file, record.as_bytes());
    drop(file);
    acquired(system, false);
    system.leave();
    system.unlink_path();
}
