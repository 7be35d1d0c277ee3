//! The violations that the checker checks for in every state.

use stateright::{Model, Property};

/// A state that has violations, or none.
pub(crate) trait HasViolations {
    /// Its violations.
    fn violations(&self) -> Violations;
}

macro_rules! violations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A property that does not hold. Some scenarios expect one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Violation { $($(#[$doc])* $name,)* }

        impl Violation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
            /// Their names, in the same order.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];
        }

        pub(crate) fn properties<M: Model<State: HasViolations>>() -> Vec<Property<M>> {
            vec![$(Property::always(stringify!($name), |_, state: &M::State| {
                !state.violations().has(Violation::$name)
            })),*]
        }
    };
}

violations! {
    /// Two processes are in their critical sections, and no process removed the lock of either.
    TwoOwners,
    /// A process removed or rewrote a file without being the lock's owner.
    ForeignFileModified,
    /// A native process removed or rewrote the lock of a live legacy process.
    LegacyLockModified,
    /// An acquire was refused although no process held the lock at any moment of the call.
    SpuriousRefusal,
    /// The holder is gone, and the next process does not acquire the lock.
    LostLock,
    /// A call returned an error or a result that its documentation does not name.
    WrongAnswer,
    /// A call that runs alone does not end.
    NonTermination,
    /// No process was killed, and yet all wait for the creator of an empty file.
    UnneededWait,
    /// A holder was killed in its critical section, and the next one does not report it.
    CrashNotReported,
    /// A holder released its lock, and the next one reports a take-over.
    FalseTakeOver,
    /// A file was written while it had another name.
    SnapshotWritten,
    /// A program outside the protocol removed the file of a live lock. Nothing can prevent that.
    LockRemoved,
    /// A legacy process did so because it had read the file before the take-over. The recheck of step 8 prevents that.
    LockRemovedAfterTakeOver,
    /// A process that lost its lock between its last check and its unlink removed the file that had replaced its
    /// own: the window that `docs/design/protocol.md` names.
    ReleaseRace,
}

/// A set of violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Violations(u16);

impl Violations {
    /// Adds one.
    pub fn add(&mut self, violation: Violation) {
        self.0 |= 1 << violation as u16;
    }

    /// Whether it is among them.
    #[must_use]
    pub fn has(self, violation: Violation) -> bool {
        self.0 & (1 << violation as u16) != 0
    }
}
