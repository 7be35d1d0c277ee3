//! Writes a broken copy of `src/protocol/` for every entry of `mutations.rs`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

#[path = "mutations.rs"]
mod mutations;
use mutations::{MUTATIONS, Mutation};

const PROTOCOL: &str = "../src/protocol";

/// The modules that every copy shares with the protocol itself.
const SHARED: [&str; 5] = ["error", "judge", "options", "record", "target"];

fn main() {
    if env::var_os("CARGO_FEATURE_MUTANTS").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed={PROTOCOL}");
    println!("cargo::rerun-if-changed=mutations.rs");
    let source = in_one_file();
    let mut out = String::new();
    let mut table = String::new();
    for (index, mutation) in MUTATIONS.iter().enumerate() {
        // If a mutation does not fit any more, the copy has no fault, and the test of the mutant fails and reports it.
        let broken = broken(&source, mutation);
        let fits = broken.is_some();
        let text = broken.unwrap_or_else(|| source.clone());
        let name = mutation.name;
        let _ = writeln!(out, "#[allow(missing_docs, dead_code, unused, clippy::all, clippy::pedantic)]");
        let _ = writeln!(out, "mod {name} {{\n{text}\n}}");
        let _ = writeln!(
            table,
            "Mutant {{ mutation: &crate::mutations::MUTATIONS[{index}], fits: {fits}, protocol: crate::protocol!({name}) }},"
        );
    }
    let _ = writeln!(out, "/// Every mutant.\npub const MUTANTS: &[Mutant] = &[{table}];");
    let path = Path::new(&env::var_os("OUT_DIR").expect("set by cargo")).join("mutants.rs");
    fs::write(path, out).expect("the build directory can be written to");
}

/// The source of the protocol, with each of its own modules inlined.
fn in_one_file() -> String {
    let read = |name: &str| {
        let path = Path::new(PROTOCOL).join(name).with_extension("rs");
        without_inner_attributes(&fs::read_to_string(path).expect("the protocol's source"))
    };
    let mut text = String::new();
    for line in read("mod").lines() {
        let declared = line.strip_suffix(';').and_then(|line| line.split_once("mod ")).map(|(_, name)| name);
        let _ = match declared {
            Some(name) if SHARED.contains(&name) => writeln!(text, "use crate::protocol::{name};"),
            Some(name) => writeln!(text, "mod {name} {{\n{}\n}}", read(name)),
            None => writeln!(text, "{line}"),
        };
    }
    text
}

fn broken(source: &str, mutation: &Mutation) -> Option<String> {
    let mut text = source.to_owned();
    for (find, replace) in mutation.edits {
        if text.matches(find).count() != 1 {
            return None;
        }
        text = text.replace(find, replace);
    }
    Some(text)
}

/// `//!` and `#![…]` may stand only at the beginning of a file.
fn without_inner_attributes(text: &str) -> String {
    let inner = |line: &&str| line.starts_with("//!") || line.starts_with("#![");
    text.lines().filter(|line| !inner(line)).collect::<Vec<_>>().join("\n")
}
