//! The roles of processes.

/// The role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Acquires, works, releases.
    Run,
    /// The same with the option `legacy: false`.
    NativeRun,
    /// Acquires in shared mode, works, releases.
    Read,
    /// Checks whether an owner still refuses it. A process that is not refused then acquires like another one: it keeps
    /// nothing of the check.
    Refused,
    /// Inspects.
    Inspect,
    /// Breaks a stale lock.
    Break,
    /// Breaks any lock.
    ForceBreak,
    /// Removes the file, as `rm` does.
    Remove,
    /// Acquires a legacy lock, works, releases.
    LegacyProcess,
}
