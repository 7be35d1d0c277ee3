//! The lower bound of the cost of a lock file: open with `O_EXCL`, write a record, close, unlink.
//!
//! `floor PATH ITERATIONS` prints the total in nanoseconds; `tools/bench.mjs` divides everything else by it.
//! With other arguments, e.g. those of `cargo bench`, it runs a short loop in its own directory.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, process};

/// As long as a record.
const RECORD: [u8; 512] = [b' '; 512];

fn measure(path: &Path, iterations: u32) -> io::Result<Duration> {
    let start = Instant::now();
    for _ in 0..iterations {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&RECORD)?;
        drop(file);
        fs::remove_file(path)?;
    }
    Ok(start.elapsed())
}

fn demonstrate(iterations: u32) -> io::Result<()> {
    let directory = env::temp_dir().join(format!("reconcile-lock-floor-{}", process::id()));
    // Fails if the directory exists, so that only our own is removed below.
    fs::create_dir(&directory)?;
    let result = measure(&directory.join("floor.lock"), iterations);
    fs::remove_dir_all(&directory)?;
    let each = result?.as_nanos() / u128::from(iterations.max(1));
    println!("floor: {each} ns per open, write, close and unlink in {}", env::temp_dir().display());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    if let [path, iterations] = args.as_slice()
        && let Some(Ok(iterations)) = iterations.to_str().map(str::parse)
    {
        println!("{}", measure(Path::new(path), iterations)?.as_nanos());
    } else {
        demonstrate(1000)?;
    }
    Ok(())
}
