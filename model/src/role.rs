//! The roles of processes.

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Acquires, works, releases.
    Run,
    /// The same with the option `legacy: false`.
    NativeRun,
    /// Acquires in shared mode, works, releases.
    Read,
    /// Inspects.
    Inspect,
    /// Breaks a stale lock.
    Break,
    /// Breaks whatever is there.
    ForceBreak,
    /// Removes the file, as `rm` does.
    Remove,
    /// The old TypeScript lock: acquires, works, releases.
    LegacyProcess,
}
