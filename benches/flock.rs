//! Waits for an exclusive `flock` on a file and prints when it acquired it: the lower bound of a hand-over.
//!
//! `flock call PATH` sleeps in flock(2) itself. `flock command PATH` starts flock(1) on an open descriptor,
//! as `flock 9` in a shell script does, and holds the lock when that command has ended. A shell is not
//! faster, and has no monotonic clock. Like `tools/bench/worker.mjs`, it reads the orders `hold` and
//! `release` from standard input.
//! With other arguments, e.g. those of `cargo bench`, it acquires once in its own directory.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, thread};

use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};

/// The clock of `process.hrtime.bigint()`.
fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Prints a line in one write, so that the reader does not get a part of it.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

fn call(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    say(&format!("asked {}", process::id()))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn command(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    // The lock belongs to the open file, which the command shares as its standard input.
    let mut child = Command::new("flock").arg("0").stdin(file.try_clone()?).spawn()?;
    say(&format!("asked {}", child.id()))?;
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("flock 0: {status}")));
    }
    Ok(file)
}

/// Acquires and releases as ordered, until standard input ends.
fn obey(hold: fn(&Path) -> io::Result<File>, path: &Path) -> io::Result<()> {
    let mut locked = None;
    say(&format!("ready {}", now()))?;
    for order in io::stdin().lock().lines() {
        match order?.as_str() {
            "hold" => {
                let file = hold(path)?;
                let at = now();
                locked = Some(file);
                say(&format!("held {at}"))?;
            }
            "release" => {
                let at = now();
                drop(locked.take());
                say(&format!("released {at}"))?;
            }
            order => return Err(io::Error::other(format!("unknown order: {order}"))),
        }
    }
    Ok(())
}

/// Measures one hand-over between two threads.
fn demonstrate() -> io::Result<()> {
    let directory: PathBuf = env::temp_dir().join(format!("reconcile-lock-flock-{}", process::id()));
    // Fails if the directory exists, so that only our own is removed below.
    fs::create_dir(&directory)?;
    let path = directory.join("flock.lock");
    let result = open(&path).and_then(|other| {
        flock(&other, FlockOperation::LockExclusive)?;
        let waiter = thread::spawn(move || call(&path).map(|_| now()));
        let at = now();
        drop(other);
        let held = waiter.join().map_err(|_| io::Error::other("the waiter panicked"))??;
        println!("flock: held {} ns after the release", held - at);
        Ok(())
    });
    fs::remove_dir_all(&directory)?;
    result
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    match args.iter().map(OsString::as_os_str).collect::<Vec<_>>().as_slice() {
        [kind, path] if *kind == "call" => obey(call, Path::new(path))?,
        [kind, path] if *kind == "command" => obey(command, Path::new(path))?,
        _ => demonstrate()?,
    }
    Ok(())
}
