//! The system of a simulation: files, watches, tickets of other processes, and chance.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::platform::HolderEvent;
use crate::wait::job::{self, Platform, Ticket};
use crate::wait::request::WaiterId;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap_or(0) % bound
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        self.below(u32::try_from(length).unwrap_or(u32::MAX)) as usize
    }

    pub(super) fn millis(&mut self, bound: u32) -> Duration {
        Duration::from_millis(self.below(bound).into())
    }

    pub(super) fn micros(&mut self, bound: u32) -> Duration {
        Duration::from_micros(self.below(bound).into())
    }

    pub(super) fn one_in(&mut self, bound: u32) -> bool {
        self.below(bound) == 0
    }
}

/// The holder of a lock: a waiter of this process, or another process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    Ours(WaiterId),
    Process(u32),
}

pub(super) struct File {
    pub(super) holder: Option<Holder>,
    /// Changes with each change of the file.
    pub(super) version: u64,
    /// Since when the lock is free, a waiter exists and the disk does not stall.
    pub(super) vacant_since: Option<Instant>,
    /// An event has reported that.
    pub(super) is_reported: bool,
    pub(super) others_ahead: u32,
    /// Several were, since the last change.
    pub(super) was_crowded: bool,
}

/// The state of the simulated kernel, which watches and tickets share.
pub(super) struct World {
    pub(super) files: Vec<File>,
    pub(super) watches: BTreeMap<u64, (usize, Option<u32>)>,
    pub(super) pending: BTreeMap<u64, HolderEvent>,
    /// Events that the sleeping thread had before the watch was in use.
    pub(super) missed: BTreeMap<u64, HolderEvent>,
    pub(super) next: u64,
}

pub(super) type Shared = Rc<RefCell<World>>;

pub(super) struct Watch {
    pub(super) id: u64,
    pub(super) world: Shared,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        world.watches.remove(&self.id);
        world.pending.remove(&self.id);
        world.missed.remove(&self.id);
    }
}

impl job::Watch for Watch {
    fn missed(&self) -> Option<HolderEvent> {
        self.world.borrow().missed.get(&self.id).copied()
    }
}

pub(super) struct SimulatedTicket {
    pub(super) path: usize,
    pub(super) world: Shared,
}

impl Ticket<u64> for SimulatedTicket {
    fn take(&mut self, _: u64) {}

    fn is_first(&self) -> bool {
        self.ahead(1) == 0
    }

    fn ahead(&self, most: u32) -> u32 {
        self.world.borrow().files.get(self.path).map_or(0, |file| file.others_ahead).min(most)
    }
}

pub(super) struct Simulated;

impl Platform for Simulated {
    type Call = usize;
    type Arrival = u64;
    type Ticket = SimulatedTicket;
    type File = u64;
    type Watch = Watch;
}

impl World {
    /// The file changes: its watches have an event, unless it is a change without an event.
    pub(super) fn change(
        &mut self,
        path: usize,
        holder: Option<Holder>,
        event: Option<HolderEvent>,
        now: Instant,
    ) {
        let Some(file) = self.files.get_mut(path) else { return };
        file.holder = holder;
        // A process that is killed leaves its file as it is.
        file.version += u64::from(event != Some(HolderEvent::Ended));
        (file.vacant_since, file.is_reported) = (holder.is_none().then_some(now), false);
        file.was_crowded = false;
        let Some(event) = event else { return };
        for (id, (_, process)) in self.watches.iter().filter(|(_, (watched, _))| *watched == path) {
            // The end of a process that is not watched is not an event.
            if event != HolderEvent::Ended || process.is_some() {
                self.pending.insert(*id, event);
                file.is_reported = true;
            }
        }
    }
}
