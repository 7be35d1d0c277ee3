//! The waiters of one path, by arrival and by deadline. Neither needs a look at all of them, of which there can be
//! thousands.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

use super::job::{Platform, Waiter};
use super::request::WaiterId;

pub(super) struct Waiters<P: Platform> {
    /// By id, which is the order of their calls.
    queue: VecDeque<Waiter<P>>,
    /// Those of waiters that are gone, or have another one now, are removed later.
    pub(super) deadlines: BinaryHeap<Reverse<(Instant, WaiterId)>>,
}

impl<P: Platform> Waiters<P> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), deadlines: BinaryHeap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds a waiter in arrival order, which may differ from the order in which first attempts end.
    pub(super) fn insert(&mut self, waiter: Waiter<P>) {
        let (id, deadline) = (waiter.id, waiter.deadline);
        let index = self.queue.partition_point(|other| other.id < id);
        self.queue.insert(index, waiter);
        self.add_deadline(id, deadline);
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
        if let Some(waiter) = self.get_mut(id) {
            waiter.deadline = Some(deadline);
            self.add_deadline(id, Some(deadline));
        }
    }

    pub(super) fn remove(&mut self, id: WaiterId) -> Option<Waiter<P>> {
        self.index(id).and_then(|index| self.queue.remove(index))
    }

    /// Removes the waiters that match.
    pub(super) fn remove_all(&mut self, is_meant: &dyn Fn(&Waiter<P>) -> bool) -> Vec<Waiter<P>> {
        let (removed, queue): (Vec<_>, _) = self.queue.drain(..).partition(is_meant);
        self.queue = queue.into();
        removed
    }

    pub(super) fn into_vec(self) -> Vec<Waiter<P>> {
        self.queue.into()
    }

    /// The next deadline, and whose it is.
    pub(super) fn next_deadline(&mut self) -> Option<(Instant, WaiterId)> {
        while let Some(Reverse((deadline, id))) = self.deadlines.peek() {
            if is_current(&self.queue, *id, *deadline) {
                return Some((*deadline, *id));
            }
            self.deadlines.pop();
        }
        None
    }

    fn add_deadline(&mut self, id: WaiterId, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if self.deadlines.len() > 2 * self.queue.len() {
            self.deadlines.retain(|Reverse((deadline, id))| is_current(&self.queue, *id, *deadline));
        }
        self.deadlines.push(Reverse((deadline, id)));
    }

    fn index(&self, id: WaiterId) -> Option<usize> {
        index(&self.queue, id)
    }
}

fn index<P: Platform>(queue: &VecDeque<Waiter<P>>, id: WaiterId) -> Option<usize> {
    queue.binary_search_by_key(&id, |waiter| waiter.id).ok()
}

fn is_current<P: Platform>(queue: &VecDeque<Waiter<P>>, id: WaiterId, deadline: Instant) -> bool {
    index(queue, id).is_some_and(|index| queue[index].deadline == Some(deadline))
}
