//! What may happen next, and what must never be the case.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use crate::programs::{Program, Protocol};
use crate::protocol::record::RELEASED;
use crate::replay::{self, Answer, Call, Known, Position, Until};
use crate::role::Role;
use crate::violation::{HasViolations, Violation, Violations, properties};
use crate::world::{Actor, Filesystem, Life, Who, World};

/// What is explored.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone)]
pub struct Scenario {
    /// Each process: what it does, and how many times.
    pub processes: Vec<(Role, u8)>,
    /// What is at the path in the beginning.
    pub starts: Vec<Start>,
    /// The kind of filesystem.
    pub filesystem: Filesystem,
    /// Whether each process lives in a pid namespace of its own.
    pub in_namespaces: bool,
    /// Whether no process can remove the file: it is a mount point.
    pub stays: bool,
    /// How many processes may be killed, each at any operation.
    pub crashes: u8,
    /// Whether only those in their critical sections are killed, and leave a child that has inherited the file and works on.
    pub heirs: bool,
    /// What becomes of the pid of one that was killed.
    pub fates: Vec<Life>,
    /// How many times two seconds may pass at any operation. Where all processes rest they always may.
    pub ticks: u8,
    /// Whether a legacy process unlinks the path within 5 ms after it has opened a file that it judges stale.
    pub old_peers_are_quick: bool,
    /// Whether each process, left alone in any state, must come to an end.
    pub ends_alone: bool,
    /// The protocol that all of them follow.
    pub protocol: &'static Protocol,
}

/// The shortest way for a process to acquire a file with these numbers.
type Shortest = HashMap<(Who, usize, usize), Vec<Answer>>;

/// What is at the path in the beginning.
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

    /// A file, older than the time of birth.
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
    /// What the processes share.
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

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A process does its next operation.
    Step(Who),
    /// A process repeats its attempt until its patience ends, while the others rest.
    ExhaustRetries(Who),
    /// A process is killed.
    Kill(Who),
    /// A process is killed, and its child works on.
    KillAlone(Who),
    /// Such a child ends.
    EndHeir(Who),
    /// The pid of a killed process goes, or stays as a zombie, or is another's.
    Bury(Who, Life),
    /// Two seconds pass.
    Tick,
}

impl Scenario {
    /// Processes that follow a protocol on a local filesystem, where nobody is killed and no time passes.
    #[must_use]
    pub fn new(protocol: &'static Protocol, processes: Vec<(Role, u8)>, starts: Vec<Start>) -> Self {
        Self {
            processes,
            starts,
            filesystem: Filesystem::Local,
            in_namespaces: false,
            stays: false,
            crashes: 0,
            heirs: false,
            fates: vec![Life::Dead, Life::Zombie],
            ticks: 0,
            old_peers_are_quick: true,
            ends_alone: false,
            protocol,
        }
    }
}

/// A search through a [`Scenario`].
pub struct Search {
    scenario: Scenario,
    shortest: Mutex<Shortest>,
    known: Vec<Known>,
}

impl Search {
    fn program(&self, who: Who) -> Program {
        // The one after the last asks for the lock when all the others have ended.
        let role = self.scenario.processes.get(who).map_or(Role::Run, |(role, _)| *role);
        Program { role, protocol: self.scenario.protocol }
    }

    fn running<'a>(&'a self, state: &'a State) -> impl Iterator<Item = Who> + 'a {
        (0..self.scenario.processes.len()).filter(|who| is_running(state, *who))
    }

    fn first(&self, world: &World, who: Who) -> Position {
        replay::run(&self.program(who), who, world.clone(), Position::start(), Until::FirstCall).1
    }

    fn can_step(&self, state: &State, who: Who) -> bool {
        let waits_for_old_peers = matches!(state.positions[who].next, Call::Pause(_))
            && state.world.has_files(who)
            && self.scenario.old_peers_are_quick;
        let late = |peer: &Actor| peer.life == Life::Running && peer.about_to_unlink;
        !(waits_for_old_peers && state.world.actors.iter().any(late))
    }

    /// `true`: the round has ended.
    fn step(&self, mut state: State, who: Who, until: Until) -> (State, bool) {
        let position = std::mem::replace(&mut state.positions[who], Position::start());
        let program = self.program(who);
        let (world, position, ended) = match until {
            Until::NextCall => replay::step(&program, who, state.world, position, &self.known[who]),
            _ => replay::run(&program, who, state.world, position, until),
        };
        state.world = world;
        state.positions[who] = position;
        if state.positions[who].next == Call::Leave && !state.world.actors[who].is_old() {
            self.forget_how_it_was_acquired(&mut state, who);
        }
        if ended {
            state.world.end(who);
            state.rounds[who] -= 1;
            if state.rounds[who] > 0 {
                state.positions[who] = self.first(&state.world, who);
            }
        }
        (state, ended)
    }

    /// What `release` does depends on the file alone, so all ways to acquire the same file become one state.
    fn forget_how_it_was_acquired(&self, state: &mut State, who: Who) {
        let Some((file, inode)) = state.world.only_file(who) else { return };
        let key = (who, file, inode);
        let mut shortest = self.shortest.lock().unwrap_or_else(PoisonError::into_inner);
        let history = shortest.entry(key).or_insert_with(|| {
            let mut world = state.world.with_inode_first(who, file, inode);
            let mut position = Position::start();
            while position.next != Call::Leave {
                let ended;
                (world, position, ended) =
                    replay::run(&self.program(who), who, world, position, Until::NextCall);
                assert!(!ended, "a free lock is acquired");
            }
            position.history
        });
        state.positions[who] = Position::at(history.clone(), Call::Leave);
    }

    /// The next process acquires the lock after all others have ended.
    fn check_the_next(&self, state: &mut State) {
        let next = self.scenario.processes.len();
        if self.running(state).next().is_some()
            || (0..next).any(|who| state.world.actors[who].life == Life::Dying)
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

    /// An empty file keeps everybody waiting for two seconds. That may only be if its creator was killed.
    fn check_for_a_stall(&self, state: &mut State) {
        let content = &self.scenario.starts[state.start].content;
        let empty_at_first = content.as_ref().is_some_and(Vec::is_empty);
        if state.world.has_file_being_created()
            && state.world.killed == 0
            && !empty_at_first
            && self.running(state).next().is_some()
            && self.running(state).all(|who| rests(state, who))
        {
            state.world.violations.add(Violation::UnneededWait);
        }
    }

    /// From any other state, the same run passes through one of these: nobody loops within an attempt.
    fn check_that_each_ends(&self, state: &mut State) {
        let repeats =
            |position: &Position| position.history.is_empty() || matches!(position.next, Call::Pause(_));
        let repeating = self.running(state).filter(|who| repeats(&state.positions[*who]));
        for who in repeating.collect::<Vec<_>>() {
            let until = Until::End { with_time: true };
            let (program, position) = (self.program(who), state.positions[who].clone());
            if !replay::run(&program, who, state.world.clone(), position, until).2 {
                state.world.violations.add(Violation::NonTermination);
            }
        }
    }
}

fn is_running(state: &State, who: Who) -> bool {
    state.world.actors[who].life == Life::Running && state.positions[who].next != Call::End
}

fn rests(state: &State, who: Who) -> bool {
    matches!(state.positions[who].next, Call::Pause(_)) && !state.world.has_files(who)
}

/// Whether a process that holds the path pauses for readers, and not for a legacy process.
fn awaits_readers(state: &State, who: Who) -> bool {
    matches!(state.positions[who].next, Call::Pause(1)) && state.world.has_files(who)
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
                positions: (0..self.scenario.processes.len()).map(|who| self.first(&world, who)).collect(),
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
        for who in self.running(state) {
            if self.can_step(state, who) {
                actions.push(Action::Step(who));
            }
            // Only somebody who is stopped for half a minute while it looks can use up that patience.
            if (rests(state, who) || awaits_readers(state, who))
                && !state.world.is_looked_at()
                && !state.world.is_checked_for_readers()
                && !state.world.has_file_being_created()
            {
                actions.push(Action::ExhaustRetries(who));
            }
            if state.crashes > 0 {
                if !self.scenario.heirs {
                    actions.push(Action::Kill(who));
                } else if state.world.actors[who].inside {
                    actions.push(Action::KillAlone(who));
                }
            }
        }
        for who in 0..self.scenario.processes.len() {
            if state.world.has_heir(who) {
                actions.push(Action::EndHeir(who));
            }
            match state.world.actors[who].life {
                Life::Dying => {
                    actions.extend(self.scenario.fates.iter().map(|fate| Action::Bury(who, *fate)));
                }
                // A process that has done its work ends, sooner or later.
                Life::Running if state.positions[who].next == Call::End => {
                    actions.push(Action::Bury(who, Life::Dead));
                }
                _ => {}
            }
        }
        // A legacy process needs less than two seconds between creating its file and writing to it.
        let birth = (0..self.scenario.processes.len())
            .any(|who| state.world.actors[who].life == Life::Running && state.world.is_giving_birth(who));
        // Time matters to nothing but the age of an empty file.
        let may_pass = state.ticks > 0 || self.running(state).all(|who| rests(state, who));
        if state.world.has_file_being_created() && !birth && may_pass {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(who) => state = self.step(state, who, Until::NextCall).0,
            Action::ExhaustRetries(who) => {
                let (after, ended) = self.step(state, who, Until::End { with_time: false });
                if !ended {
                    return None;
                }
                state = after;
            }
            Action::Kill(who) | Action::KillAlone(who) => {
                state.crashes -= 1;
                state.world.kill(who);
                if matches!(action, Action::Kill(_)) {
                    state.world.close_all(who);
                }
                state.positions[who] = Position::at(Vec::new(), Call::End);
                state.world.look();
            }
            Action::EndHeir(who) => {
                state.world.close_all(who);
                state.world.look();
            }
            Action::Bury(who, fate) => {
                state.world.actors[who].life = fate;
                state.world.look();
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

/// A schedule that leads to a flaw.
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
                Action::Step(who) => {
                    let role = self.scenario.processes[*who].0;
                    let call = &before.positions[*who].next;
                    writeln!(f, "{} {who}: {call}{}", name(role), told(before, after, *who))?;
                }
                Action::ExhaustRetries(who) => {
                    writeln!(f, "process {who} repeats that until its patience ends")?;
                }
                Action::Kill(who) => writeln!(f, "process {who} is killed: its files are closed")?,
                Action::KillAlone(who) => writeln!(f, "process {who} is killed: its child works on")?,
                Action::EndHeir(who) => writeln!(f, "the child of process {who} ends")?,
                Action::Bury(who, Life::Dead) => writeln!(f, "process {who} has ended")?,
                Action::Bury(who, Life::Zombie) => writeln!(f, "process {who} is a zombie")?,
                Action::Bury(who, _) => writeln!(f, "process {who} has ended, and another has its pid")?,
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
        Role::Inspect => "inspector",
        Role::Break => "breaker",
        Role::ForceBreak => "forced break",
        Role::Remove => "rm",
        Role::LegacyProcess => "legacy process",
    }
}

fn told(before: &State, after: &State, who: Who) -> String {
    let answers = &after.positions[who].history;
    let answer = answers.get(before.positions[who].history.len());
    let (was, is) = (&before.world.actors[who], &after.world.actors[who]);
    let answer = answer.map(|answer| format!(" = {answer}")).unwrap_or_default();
    let entered = if is.inside && !was.inside { "; it has the lock" } else { "" };
    let ended = if answers.is_empty() { "; the call ends" } else { "" };
    format!("{answer}{entered}{ended}")
}

/// What a search came to.
pub struct Outcome<'a> {
    /// States that differ.
    pub states: usize,
    /// Transitions between them.
    pub steps: usize,
    /// The longest schedule.
    pub depth: usize,
    /// The flaws, each with a schedule that leads to it.
    pub found: Vec<(&'static str, Schedule<'a>)>,
}

impl Scenario {
    /// Visits every state, or those up to the first flaw of `until`.
    #[must_use]
    pub fn explore(&self, until: &[Violation]) -> Outcome<'_> {
        let until = until.iter().map(|violation| Violation::NAMES[*violation as usize]).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let known = self.processes.iter().map(|_| Known::default()).collect();
        let search = Search { scenario: self.clone(), shortest: Mutex::default(), known };
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
