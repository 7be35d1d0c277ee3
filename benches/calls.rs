//! The kernel's part of a lock: the system calls of an acquire and a release, or of a refused acquire, and nothing else.
//! `strace -e trace=%file,%desc` shows those of a program.
//!
//! `calls pair PATH ITERATIONS` and `calls refused PATH ITERATIONS` print the total in nanoseconds. With other arguments,
//! e.g. those of `cargo bench`, it runs a short loop of pairs in its own directory.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::fs::{flock, fstat, fstatfs, lstat, openat, statat, unlinkat};
use rustix::io::{Errno, Result, pread, pwrite};
use rustix::process::{getpid, test_kill_process};

/// As long as a record.
const RECORD: [u8; 512] = [b' '; 512];

struct Paths<'a> {
    directory: &'a Path,
    name: &'a Path,
    path: &'a Path,
    readers: PathBuf,
}

fn check_readers(paths: &Paths) -> Result<()> {
    match lstat(&paths.readers) {
        Err(Errno::NOENT) => Ok(()),
        other => other.map(|_| ()),
    }
}

fn create(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)
}

fn acquire(paths: &Paths) -> Result<OwnedFd> {
    check_readers(paths)?;
    let file = create(paths.path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    fstat(&file)?;
    fstatfs(&file)?;
    pwrite(&file, &RECORD, 0)?;
    check_readers(paths)?;
    Ok(file)
}

fn release(paths: &Paths, file: OwnedFd) -> Result<()> {
    fstat(&file)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, paths.directory, flags, Mode::empty())?;
    statat(&directory, paths.name, AtFlags::SYMLINK_NOFOLLOW)?;
    unlinkat(&directory, paths.name, AtFlags::empty())?;
    drop(directory);
    drop(file);
    Ok(())
}

fn pair(paths: &Paths) -> Result<()> {
    release(paths, acquire(paths)?)
}

/// A call that was refused there before.
fn refused(paths: &Paths) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = openat(CWD, paths.path, flags, Mode::empty())?;
    fstat(&file)?;
    let locked = flock(&file, FlockOperation::NonBlockingLockShared);
    assert!(matches!(locked, Err(Errno::WOULDBLOCK)), "the lock is not held");
    pread(&file, &mut [0; RECORD.len()], 0)?;
    test_kill_process(getpid())
}

fn measure(kind: &str, path: &Path, iterations: u32) -> Result<Duration> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let mut readers = path.as_os_str().to_owned();
    readers.push(".readers");
    let paths = Paths { directory, name: Path::new(name), path, readers: readers.into() };
    let holder = if kind == "refused" { Some(acquire(&paths)?) } else { None };
    let work = if kind == "refused" { refused } else { pair };
    let start = Instant::now();
    for _ in 0..iterations {
        work(&paths)?;
    }
    let taken = start.elapsed();
    holder.map_or(Ok(()), |file| release(&paths, file))?;
    Ok(taken)
}

fn demonstrate(iterations: u32) -> std::result::Result<(), Box<dyn Error>> {
    let directory = env::temp_dir().join(format!("reconcile-lock-calls-{}", process::id()));
    // Fails if the directory exists, so that only our own is removed below.
    fs::create_dir(&directory)?;
    let result = measure("pair", &directory.join("calls.lock"), iterations);
    fs::remove_dir_all(&directory)?;
    let each = result?.as_nanos() / u128::from(iterations.max(1));
    println!("calls: {each} ns for those of an acquire and a release in {}", env::temp_dir().display());
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    if let [kind, path, iterations] = args.as_slice()
        && let Some(kind @ ("pair" | "refused")) = kind.to_str()
        && let Some(Ok(iterations)) = iterations.to_str().map(str::parse)
    {
        println!("{}", measure(kind, Path::new(path), iterations)?.as_nanos());
    } else {
        demonstrate(1000)?;
    }
    Ok(())
}
