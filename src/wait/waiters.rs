//! The waiters of one path, by arrival and by deadline. Neither reads all of them, because there can be
//! thousands.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Instant;

use super::job::{Platform, Waiter};
use super::request::WaiterId;

pub(super) struct Waiters<P: Platform> {
    /// By id, which is the order of their calls.
    queue: VecDeque<Waiter<P>>,
    /// The next one last.
    deadlines: Vec<Reverse<(Instant, WaiterId)>>,
}

impl<P: Platform> Waiters<P> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), deadlines: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds a waiter in arrival order, which may differ from the order in which first attempts end.
    pub(super) fn insert(&mut self, waiter: Waiter<P>) {
        self.add_deadline(&waiter);
        let index = self.queue.partition_point(|other| other.id < waiter.id);
        self.queue.insert(index, waiter);
    }

    pub(super) fn first(&self) -> Option<&Waiter<P>> {
        self.queue.front()
    }

    pub(super) fn get(&self, id: WaiterId) -> Option<&Waiter<P>> {
        self.index(id).map(|index| &self.queue[index])
    }

    /// Its deadline is set by [`Self::set_deadline`] alone.
    pub(super) fn get_mut(&mut self, id: WaiterId) -> Option<&mut Waiter<P>> {
        self.index(id).map(|index| &mut self.queue[index])
    }

    pub(super) fn set_deadline(&mut self, id: WaiterId, deadline: Instant) {
        if let Some(mut waiter) = self.remove(id) {
            waiter.deadline = Some(deadline);
            self.insert(waiter);
        }
    }

    pub(super) fn remove(&mut self, id: WaiterId) -> Option<Waiter<P>> {
        let waiter = self.queue.remove(self.index(id)?)?;
        if let Some(deadline) = waiter.deadline
            && let Ok(index) = self.deadlines.binary_search(&Reverse((deadline, id)))
        {
            self.deadlines.remove(index);
        }
        Some(waiter)
    }

    /// Removes the waiters that match.
    pub(super) fn remove_all(&mut self, is_meant: &dyn Fn(&Waiter<P>) -> bool) -> Vec<Waiter<P>> {
        let mut ids = Vec::new();
        ids.extend(self.queue.iter().filter(|waiter| is_meant(waiter)).map(|waiter| waiter.id));
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// The next deadline, and its waiter.
    pub(super) fn next_deadline(&self) -> Option<(Instant, WaiterId)> {
        self.deadlines.last().map(|Reverse(next)| *next)
    }

    fn add_deadline(&mut self, waiter: &Waiter<P>) {
        if let Some(deadline) = waiter.deadline {
            let entry = Reverse((deadline, waiter.id));
            let index = self.deadlines.partition_point(|other| *other < entry);
            self.deadlines.insert(index, entry);
        }
    }

    fn index(&self, id: WaiterId) -> Option<usize> {
        self.queue.binary_search_by_key(&id, |waiter| waiter.id).ok()
    }
}
