//! Replays the corpus of the fuzzer.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[path = "../fuzz/check.rs"]
mod check;

use std::io::Write;
use std::panic::catch_unwind;
use std::path::Path;
use std::{fs, io};

#[test]
fn every_corpus_file_passes_the_fuzz_check() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/record_and_judge");
    let mut files: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let failed: Vec<_> = files
        .iter()
        .filter(|file| {
            let input = fs::read(file).unwrap();
            catch_unwind(|| check::check(&input, usize::MAX)).is_err()
        })
        .collect();
    // Prints although the test harness captures the output of tests that pass.
    writeln!(io::stderr(), "corpus: {} files replayed, {} failed", files.len(), failed.len()).unwrap();
    assert!(!files.is_empty(), "the corpus is empty");
    assert!(failed.is_empty(), "{failed:#?}");
}
