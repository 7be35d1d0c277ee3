//! Drives the protocol of `reconcile-lock` through every interleaving of its operations.
//!
//! `src/protocol/` and what it uses are compiled into this crate unchanged, from the same files, over a
//! simulated system ([`world`]). The explorer is `stateright`. A state of the search is the world and, for
//! each process, the answers that its current call has got so far ([`replay`]). The code is deterministic, so
//! these answers determine the state of the process, and two schedules that lead to the same answers and the
//! same world are one state. [`checker`] defines the possible actions and the violations.
//!
//! The module `mutants` has copies of the protocol with one fault each. The checker has to find each fault.

#[allow(dead_code, unreachable_pub)]
mod platform;
#[allow(missing_docs, dead_code, unreachable_pub, unused_imports)]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

pub mod checker;
#[cfg(feature = "mutants")]
pub mod mutants;
#[path = "../mutations.rs"]
pub mod mutations;
pub mod programs;
pub mod replay;
pub mod role;
pub mod violation;
pub mod world;
