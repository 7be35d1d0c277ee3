//! Copies of the protocol with one fault each, written by `build.rs`.

use crate::mutations::Mutation;
use crate::programs::Protocol;

/// A broken protocol.
pub struct Mutant {
    /// The fault.
    pub mutation: &'static Mutation,
    /// Whether the source contains the text that the mutation replaces.
    pub fits: bool,
    /// The functions.
    pub protocol: Protocol,
}

include!(concat!(env!("OUT_DIR"), "/mutants.rs"));

/// The mutant of this name.
///
/// # Panics
/// If there is none, or if it does not fit the source any more.
#[must_use]
pub fn mutant(name: &str) -> &'static Mutant {
    let mutant = MUTANTS.iter().find(|mutant| mutant.mutation.name == name);
    let mutant = mutant.unwrap_or_else(|| panic!("there is no mutant {name}"));
    assert!(mutant.fits, "model/mutations.rs: {name} does not fit src/protocol/ any more; change the entry");
    mutant
}
