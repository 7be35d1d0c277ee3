//! The possible actions, and the checks after each.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use crate::programs::{Program, Protocol};
use crate::protocol::record::RELEASED;
use crate::replay::{self, Answer, Call, Continuations, Position, Until};
use crate::role::Role;
use crate::violation::{HasViolations, Violation, Violations, properties};
use crate::world::{Actor, Filesystem, Life, ProcessIndex, World};

/// The processes to explore, and their surroundings.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone)]
pub struct Scenario {
    /// The role of each process, and how many times it runs.
    pub processes: Vec<(Role, u8)>,
    /// The states of the path to begin with.
    pub starts: Vec<Start>,
    /// The kind of filesystem.
    pub filesystem: Filesystem,
    /// Whether each process has its own pid namespace.
    pub in_namespaces: bool,
    /// Whether no process can remove the file: it is a mount point.
    pub stays: bool,
    /// How many processes may be killed, each at any operation.
    pub crashes: u8,
    /// Whether a process is killed only in its critical section, and leaves a child that has inherited the file and
    /// works on.
    pub children_survive: bool,
    /// The possible states of a process after it was killed.
    pub fates: Vec<Life>,
    /// How many times two seconds may pass at any operation. While all processes pause, this is not limited.
    pub ticks: u8,
    /// Whether a legacy process unlinks the path within 5 ms after it has opened a file that it classifies as stale.
    pub legacy_unlinks_in_time: bool,
    /// Whether each process must end if it runs alone from any state.
    pub ends_alone: bool,
    /// The protocol that all of them follow.
    pub protocol: &'static Protocol,
}

/// The shortest way for a process to acquire a file with these numbers.
type Shortest = HashMap<(ProcessIndex, usize, usize), Vec<Answer>>;

/// A state of the path to begin with.
#[derive(Clone)]
pub struct Start {
    name: &'static str,
    content: Option<Vec<u8>>,
    is_young: bool,
    is_linked_elsewhere: bool,
}

impl Start {
    /// No file.
    #[must_use]
    pub fn nothing() -> Self {
        Self { name: "no file", content: None, is_young: false, is_linked_elsewhere: false }
    }

    /// A file older than the creation grace period.
    #[must_use]
    pub fn file(name: &'static str, content: &str) -> Self {
        Self { name, content: Some(content.into()), is_young: false, is_linked_elsewhere: false }
    }

    /// A file whose lock was released in place.
    #[must_use]
    pub fn released(name: &'static str) -> Self {
        Self { content: Some(RELEASED.to_vec()), ..Self::file(name, "") }
    }

    /// The same, just created.
    #[must_use]
    pub fn young(self) -> Self {
        Self { is_young: true, ..self }
    }

    /// The same, with another name elsewhere.
    #[must_use]
    pub fn linked_elsewhere(self) -> Self {
        Self { is_linked_elsewhere: true, ..self }
    }
}

/// A state of the search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The state that the processes share.
    pub world: World,
    positions: Vec<Position>,
    rounds: Vec<u8>,
    crashes: u8,
    ticks: u8,
    start: usize,
}

impl HasViolations for State {
    fn violations(&self) -> Violations {
        self.world.violations
    }
}

/// A step of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A process does its next operation.
    Step(ProcessIndex),
    /// A process repeats its attempt until its retry budget is used up, while the others do nothing.
    ExhaustRetries(ProcessIndex),
    /// A process is killed.
    Kill(ProcessIndex),
    /// A process is killed, and its child works on.
    KillAlone(ProcessIndex),
    /// Such a child ends.
    EndChild(ProcessIndex),
    /// The pid of a killed process is free, a zombie's, or another process'.
    Bury(ProcessIndex, Life),
    /// Two seconds pass.
    Tick,
}

impl Scenario {
    /// Processes that follow a protocol on a local filesystem. No process is killed, and no time passes.
    #[must_use]
    pub fn new(protocol: &'static Protocol, processes: Vec<(Role, u8)>, starts: Vec<Start>) -> Self {
        Self {
            processes,
            starts,
            filesystem: Filesystem::Local,
            in_namespaces: false,
            stays: false,
            crashes: 0,
            children_survive: false,
            fates: vec![Life::Dead, Life::Zombie],
            ticks: 0,
            legacy_unlinks_in_time: true,
            ends_alone: false,
            protocol,
        }
    }
}

/// A search through a [`Scenario`].
pub struct Search {
    scenario: Scenario,
    shortest: Mutex<Shortest>,
    continuations: Vec<Continuations>,
}

impl Search {
    fn program(&self, process: ProcessIndex) -> Program {
        // One more process acquires the lock when all others have ended.
        let role = self.scenario.processes.get(process).map_or(Role::Run, |(role, _)| *role);
        Program { role, protocol: self.scenario.protocol }
    }

    fn running<'a>(&'a self, state: &'a State) -> impl Iterator<Item = ProcessIndex> + 'a {
        (0..self.scenario.processes.len()).filter(|process| is_running(state, *process))
    }

    fn first(&self, world: &World, process: ProcessIndex) -> Position {
        replay::run(&self.program(process), process, world.clone(), Position::start(), Until::FirstCall).1
    }

    fn can_step(&self, state: &State, process: ProcessIndex) -> bool {
        let waits_for_legacy_processes = matches!(state.positions[process].next, Call::Pause(_))
            && state.world.has_files(process)
            && self.scenario.legacy_unlinks_in_time;
        let late = |actor: &Actor| actor.life == Life::Running && actor.about_to_unlink;
        !(waits_for_legacy_processes && state.world.actors.iter().any(late))
    }

    /// `true`: the round has ended.
    fn step(&self, mut state: State, process: ProcessIndex, until: Until) -> (State, bool) {
        let position = std::mem::replace(&mut state.positions[process], Position::start());
        let program = self.program(process);
        let (world, position, ended) = match until {
            Until::NextCall => {
                replay::step(&program, process, state.world, position, &self.continuations[process])
            }
            _ => replay::run(&program, process, state.world, position, until),
        };
        state.world = world;
        state.positions[process] = position;
        if state.positions[process].next == Call::Leave && !state.world.actors[process].is_legacy() {
            self.forget_how_it_was_acquired(&mut state, process);
        }
        if ended {
            state.world.end(process);
            state.rounds[process] -= 1;
            if state.rounds[process] > 0 {
                state.positions[process] = self.first(&state.world, process);
            }
        }
        (state, ended)
    }

    /// `release` depends on the file alone, so all ways to acquire the same file become one state.
    fn forget_how_it_was_acquired(&self, state: &mut State, process: ProcessIndex) {
        let Some((file, inode)) = state.world.only_file(process) else { return };
        let key = (process, file, inode);
        let mut shortest = self.shortest.lock().unwrap_or_else(PoisonError::into_inner);
        let history = shortest.entry(key).or_insert_with(|| {
            let mut world = state.world.with_inode_first(process, file, inode);
            let mut position = Position::start();
            while position.next != Call::Leave {
                let ended;
                (world, position, ended) =
                    replay::run(&self.program(process), process, world, position, Until::NextCall);
                assert!(!ended, "a free lock is acquired");
            }
            position.history
        });
        state.positions[process] = Position::at(history.clone(), Call::Leave);
    }

    /// The next process acquires the lock after all others have ended.
    fn check_the_next(&self, state: &mut State) {
        let next = self.scenario.processes.len();
        if self.running(state).next().is_some()
            || (0..next).any(|process| state.world.actors[process].life == Life::Dying)
        {
            return;
        }
        let until = Until::End { with_time: true };
        let (world, _, ended) =
            replay::run(&self.program(next), next, state.world.clone(), Position::start(), until);
        let had_to_wait = state.world.is_held_by_other(next) || world.has_no_kernel_locks();
        let is_left =
            world.has_file_of_readers() || (world.has_file() && !(world.stays && world.is_released()));
        if !ended || (!had_to_wait && is_left) || world.violations != state.world.violations {
            state.world.violations.add(Violation::LostLock);
        }
    }

    /// All processes may wait two seconds for an empty file only if its creator was killed.
    fn check_for_a_stall(&self, state: &mut State) {
        let content = &self.scenario.starts[state.start].content;
        let empty_at_first = content.as_ref().is_some_and(Vec::is_empty);
        if state.world.has_file_being_created()
            && state.world.killed == 0
            && !empty_at_first
            && self.running(state).next().is_some()
            && self.running(state).all(|process| is_pausing(state, process))
        {
            state.world.violations.add(Violation::UnneededWait);
        }
    }

    /// A run from any other state passes through one of these, because no process loops within an attempt.
    fn check_that_each_ends(&self, state: &mut State) {
        let repeats =
            |position: &Position| position.history.is_empty() || matches!(position.next, Call::Pause(_));
        let repeating = self.running(state).filter(|process| repeats(&state.positions[*process]));
        for process in repeating.collect::<Vec<_>>() {
            let until = Until::End { with_time: true };
            let (program, position) = (self.program(process), state.positions[process].clone());
            if !replay::run(&program, process, state.world.clone(), position, until).2 {
                state.world.violations.add(Violation::NonTermination);
            }
        }
    }
}

fn is_running(state: &State, process: ProcessIndex) -> bool {
    state.world.actors[process].life == Life::Running && state.positions[process].next != Call::End
}

fn is_pausing(state: &State, process: ProcessIndex) -> bool {
    matches!(state.positions[process].next, Call::Pause(_)) && !state.world.has_files(process)
}

/// Whether a process that holds the path pauses for readers, and not for a legacy process.
fn awaits_readers(state: &State, process: ProcessIndex) -> bool {
    matches!(state.positions[process].next, Call::Pause(1)) && state.world.has_files(process)
}

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = |(number, start): (usize, &Start)| {
            let roles = self.scenario.processes.iter().map(|(role, _)| *role).chain([Role::Run]);
            let actors: Vec<Actor> = roles.map(Actor::new).collect();
            let kind = (start.is_young, start.is_linked_elsewhere);
            let mut world = World::new(self.scenario.filesystem, actors, start.content.as_deref(), kind);
            world.stays = self.scenario.stays;
            world.in_namespaces = self.scenario.in_namespaces;
            State {
                positions: (0..self.scenario.processes.len())
                    .map(|process| self.first(&world, process))
                    .collect(),
                rounds: self.scenario.processes.iter().map(|(_, rounds)| *rounds).collect(),
                crashes: self.scenario.crashes,
                ticks: self.scenario.ticks,
                start: number,
                world,
            }
        };
        self.scenario.starts.iter().enumerate().map(state).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for process in self.running(state) {
            if self.can_step(state, process) {
                actions.push(Action::Step(process));
            }
            // An inspector could use up that budget only if it were stopped during 100 attempts.
            if (is_pausing(state, process) || awaits_readers(state, process))
                && !state.world.is_inspected()
                && !state.world.is_checked_for_readers()
                && !state.world.has_file_being_created()
            {
                actions.push(Action::ExhaustRetries(process));
            }
            if state.crashes > 0 {
                if !self.scenario.children_survive {
                    actions.push(Action::Kill(process));
                } else if state.world.actors[process].inside {
                    actions.push(Action::KillAlone(process));
                }
            }
        }
        for process in 0..self.scenario.processes.len() {
            if state.world.has_child(process) {
                actions.push(Action::EndChild(process));
            }
            match state.world.actors[process].life {
                Life::Dying => {
                    actions.extend(self.scenario.fates.iter().map(|fate| Action::Bury(process, *fate)));
                }
                // A process that has done its work ends, sooner or later.
                Life::Running if state.positions[process].next == Call::End => {
                    actions.push(Action::Bury(process, Life::Dead));
                }
                _ => {}
            }
        }
        // A legacy process writes to the file that it has created within two seconds.
        let is_being_written = (0..self.scenario.processes.len()).any(|process| {
            state.world.actors[process].life == Life::Running
                && state.world.has_created_without_writing(process)
        });
        // Only the age of an empty file depends on time.
        let may_pass = state.ticks > 0 || self.running(state).all(|process| is_pausing(state, process));
        if state.world.has_file_being_created() && !is_being_written && may_pass {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(process) => state = self.step(state, process, Until::NextCall).0,
            Action::ExhaustRetries(process) => {
                let (after, ended) = self.step(state, process, Until::End { with_time: false });
                if !ended {
                    return None;
                }
                state = after;
            }
            Action::Kill(process) | Action::KillAlone(process) => {
                state.crashes -= 1;
                state.world.kill(process);
                if matches!(action, Action::Kill(_)) {
                    state.world.close_all(process);
                }
                state.positions[process] = Position::at(Vec::new(), Call::End);
                state.world.record_facts();
            }
            Action::EndChild(process) => {
                state.world.close_all(process);
                state.world.record_facts();
            }
            Action::Bury(process, fate) => {
                state.world.actors[process].life = fate;
                state.world.record_facts();
            }
            Action::Tick => {
                state.ticks = state.ticks.saturating_sub(1);
                state.world.clock += 1;
            }
        }
        self.check_for_a_stall(&mut state);
        self.check_the_next(&mut state);
        if self.scenario.ends_alone {
            self.check_that_each_ends(&mut state);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

/// A schedule that leads to a violation.
pub struct Schedule<'a> {
    scenario: &'a Scenario,
    violation: &'static str,
    path: Path<State, Action>,
}

impl fmt::Display for Schedule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<(State, Option<Action>)> = self.path.clone().into_vec();
        writeln!(f, "  at first: {}", self.scenario.starts[steps[0].0.start].name)?;
        for (number, pair) in steps.windows(2).enumerate() {
            let ((before, Some(action)), (after, _)) = (&pair[0], &pair[1]) else { continue };
            write!(f, "  {:3}. ", number + 1)?;
            match action {
                Action::Step(process) => {
                    let role = self.scenario.processes[*process].0;
                    let call = &before.positions[*process].next;
                    writeln!(
                        f,
                        "{} {process}: {call}{}",
                        name(role),
                        describe_effect(before, after, *process)
                    )?;
                }
                Action::ExhaustRetries(process) => {
                    writeln!(f, "process {process} retries until its retry budget is used up")?;
                }
                Action::Kill(process) => writeln!(f, "process {process} is killed: its files are closed")?,
                Action::KillAlone(process) => writeln!(f, "process {process} is killed: its child works on")?,
                Action::EndChild(process) => writeln!(f, "the child of process {process} ends")?,
                Action::Bury(process, Life::Dead) => writeln!(f, "process {process} has ended")?,
                Action::Bury(process, Life::Zombie) => writeln!(f, "process {process} is a zombie")?,
                Action::Bury(process, _) => {
                    writeln!(f, "process {process} has ended, and another process has its pid")?;
                }
                Action::Tick => writeln!(f, "two seconds pass")?,
            }
            let now = |violation: Violation| {
                after.world.violations.has(violation) && !before.world.violations.has(violation)
            };
            for violation in Violation::ALL.iter().copied().filter(|violation| now(*violation)) {
                let name = Violation::NAMES[violation as usize];
                writeln!(f, "       -> {name}")?;
                if name == self.violation {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Run => "process",
        Role::NativeRun => "process without the pause",
        Role::Read => "reader",
        Role::Refused => "process that was refused",
        Role::Inspect => "inspector",
        Role::Break => "breaker",
        Role::ForceBreak => "forced break",
        Role::Remove => "rm",
        Role::LegacyProcess => "legacy process",
    }
}

fn describe_effect(before: &State, after: &State, process: ProcessIndex) -> String {
    let answers = &after.positions[process].history;
    let answer = answers.get(before.positions[process].history.len());
    let (was, is) = (&before.world.actors[process], &after.world.actors[process]);
    let answer = answer.map(|answer| format!(" = {answer}")).unwrap_or_default();
    let entered = if is.inside && !was.inside { "; it has the lock" } else { "" };
    let ended = if answers.is_empty() { "; the call ends" } else { "" };
    format!("{answer}{entered}{ended}")
}

/// The result of a search.
pub struct Outcome<'a> {
    /// Distinct states.
    pub states: usize,
    /// Transitions between them.
    pub steps: usize,
    /// The longest schedule.
    pub depth: usize,
    /// The violations, each with a schedule that leads to it.
    pub found: Vec<(&'static str, Schedule<'a>)>,
}

impl Scenario {
    /// Visits every state, or those up to the first violation in `until`.
    #[must_use]
    pub fn explore(&self, until: &[Violation]) -> Outcome<'_> {
        let until = until.iter().map(|violation| Violation::NAMES[*violation as usize]).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let continuations = self.processes.iter().map(|_| Continuations::default()).collect();
        let search = Search { scenario: self.clone(), shortest: Mutex::default(), continuations };
        let checker = search.checker().threads(threads);
        let checker = checker.finish_when(HasDiscoveries::AnyOf(until)).spawn_bfs().join();
        let mut found: Vec<_> = checker
            .discoveries()
            .into_iter()
            .map(|(violation, path)| (violation, Schedule { scenario: self, violation, path }))
            .collect();
        found.sort_by_key(|(name, _)| *name);
        Outcome {
            states: checker.unique_state_count(),
            steps: checker.state_count(),
            depth: checker.max_depth(),
            found,
        }
    }
}
