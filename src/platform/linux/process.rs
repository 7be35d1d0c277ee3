//! Processes, by `proc(5)`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use crate::platform::types::{FileId, ProcessDetails, ProcessIdentity, ProcessState};
use crate::platform::unix::process::{self as unix, process_exists};

/// The identity of this process, as far as `/proc` shows it.
pub(in crate::platform) fn identity() -> ProcessIdentity {
    let boot = read("/proc/sys/kernel/random/boot_id", 64, u64::MAX);
    ProcessIdentity {
        pid: std::process::id(),
        start: own_stat().map(|stat| stat.start).filter(|_| !is_in_time_namespace()),
        boot: Some(String::from_utf8_lossy(&boot).trim().to_owned()).filter(|id| !id.is_empty()),
        pid_namespace: fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino()),
        host: unix::host(),
    }
}

pub(in crate::platform) fn state(pid: u32) -> ProcessState {
    if !process_exists(pid) {
        return ProcessState::Dead;
    }
    let stat = if pid == std::process::id() {
        own_stat()
    } else if proc_has_own_pids() {
        stat(&format!("/proc/{pid}/stat"))
    } else {
        None
    };
    match stat {
        Some(stat) if stat.is_zombie() => ProcessState::Zombie,
        Some(stat) => ProcessState::Alive { start: Some(stat.start) },
        // It ended between the two reads, or `/proc` hides it (`hidepid`) or has other pids.
        None if process_exists(pid) => ProcessState::Alive { start: None },
        None => ProcessState::Dead,
    }
}

/// Whether the pids in `/proc` are those of this pid namespace. After `unshare --pid` without `--mount-proc` they are those
/// of the parent namespace, so they name other processes.
fn proc_has_own_pids() -> bool {
    let own = std::process::id().to_string();
    fs::read_link("/proc/self").is_ok_and(|pid| pid.as_os_str() == own.as_str())
}

/// The command line and the effective user of a process.
pub(crate) fn describe_process(pid: u32) -> ProcessDetails {
    // A process can make its command line as long as its memory. Four bytes are the longest character.
    const MAX: u64 = 4 * ProcessDetails::MAX_COMMAND as u64 + 4;
    let read = |file| read(&format!("/proc/{pid}/{file}"), 1 << 12, MAX);
    let command = unix::joined(&read("cmdline"));
    let user = effective_user(&String::from_utf8_lossy(&read("status"))).map(user_name);
    ProcessDetails::new(Some(command), user)
}

/// The second number of `Uid:` in `/proc/<pid>/status`.
fn effective_user(status: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1).map(str::to_owned)
}

/// The name of a user; its number if `/etc/passwd` does not have it.
fn user_name(id: String) -> String {
    let users = read("/etc/passwd", 1 << 12, u64::MAX);
    let name_of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    };
    String::from_utf8_lossy(&users).lines().find_map(name_of).unwrap_or(id)
}

/// The process that holds the exclusive lock of `flock(2)` on a file, by `/proc/locks` (`proc_locks(5)`).
pub(in crate::platform) fn lock_owner(id: FileId) -> Option<u32> {
    // A line can be missed between the reads of two parts.
    (0..3).find_map(|_| locks().lines().find_map(|line| flock_owner(line, id, "WRITE")))
}

/// The processes that hold the shared lock of `flock(2)` on a file.
pub(in crate::platform) fn shared_lock_owners(id: FileId) -> Vec<u32> {
    locks().lines().filter_map(|line| flock_owner(line, id, "READ")).collect()
}

fn locks() -> String {
    if !proc_has_own_pids() {
        return String::new();
    }
    String::from_utf8(read("/proc/locks", 1 << 16, u64::MAX)).unwrap_or_default()
}

/// At most so many bytes of a file, also those before an error, such as the end of a process. One copy of this code is
/// smaller than those of the standard library for bytes and for text.
fn read(path: &str, capacity: usize, most: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    let opened = fs::File::open(path);
    let _ = opened.and_then(|opened| opened.take(most).read_to_end(&mut bytes));
    bytes
}

/// Such a line is `1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> 0 EOF`, the device in hexadecimal digits; one that
/// waits for the lock has `->` after its number.
fn flock_owner(line: &str, id: FileId, mode: &str) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "FLOCK" || fields.nth(1)? != mode {
        return None;
    }
    let (pid, file) = (fields.next()?, fields.next()?);
    let (major, minor) = (rustix::fs::major(id.device), rustix::fs::minor(id.device));
    (file == format!("{major:02x}:{minor:02x}:{}", id.inode)).then(|| pid.parse().ok()).flatten()
}

/// The fields of `/proc/<pid>/stat` that this crate reads.
#[derive(Debug, PartialEq, Eq)]
struct ProcStat {
    state: u8,
    threads: u64,
    start: u64,
}

impl ProcStat {
    /// A main thread that has ended while others run is in state `Z` too; that process is alive.
    fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }

    /// Fields 3 (state), 20 (`num_threads`) and 22 (`starttime`, clock ticks since boot) of `proc(5)`.
    fn parse(text: &[u8]) -> Option<Self> {
        // The second field is the command's name, which may hold blanks and parentheses.
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Self {
            state: *fields.next()?.as_bytes().first()?,
            threads: fields.nth(16)?.parse().ok()?,
            start: fields.nth(1)?.parse().ok()?,
        })
    }
}

fn stat(path: &str) -> Option<ProcStat> {
    ProcStat::parse(&read(path, 1 << 9, u64::MAX))
}

/// Whether `/proc` shows other start times to this process than to others (`time_namespaces(7)`).
fn is_in_time_namespace() -> bool {
    let offsets = read("/proc/self/timens_offsets", 1 << 7, u64::MAX);
    offsets.iter().any(|byte| matches!(byte, b'1'..=b'9'))
}

/// By the file of the main thread: qemu makes up `/proc/self/stat`, with another start time than other processes read.
fn own_stat() -> Option<ProcStat> {
    let main_thread = format!("/proc/self/task/{}/stat", std::process::id());
    // In a `/proc` of another pid namespace the thread has another number.
    stat(&main_thread).or_else(|| stat("/proc/self/stat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "1 2 2 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 123456 1 2";

    #[test]
    fn proc_stat_is_parsed_after_a_name_with_parentheses() {
        let text = format!("7 (a) Z 0 (b) R {TAIL}");
        assert_eq!(
            ProcStat::parse(text.as_bytes()),
            Some(ProcStat { state: b'R', threads: 9, start: 123_456 })
        );
        assert_eq!(ProcStat::parse(b"7 (\xff\xfe) R 1"), None);
        assert_eq!(ProcStat::parse(b""), None);
    }

    #[test]
    fn flock_owner_is_read_from_proc_locks() {
        let id = FileId { device: rustix::fs::makedev(0xfd, 0x1a), inode: 77 };
        let owner = |line| flock_owner(line, id, "WRITE");
        assert_eq!(owner("1: FLOCK  ADVISORY  WRITE 4711 fd:1a:77 0 EOF"), Some(4711));
        for other in [
            "1: FLOCK  ADVISORY  READ  4711 fd:1a:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 4711 fd:1a:77 0 EOF",
            "1: OFDLCK ADVISORY  WRITE -1 fd:1a:77 0 EOF",
            "1: -> FLOCK  ADVISORY  WRITE 4711 fd:1a:77 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 4711 fd:1a:770 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 4711 fd:1b:77 0 EOF",
            "1: FLOCK  ADVISORY  WRITE 4711 fe:1a:77 0 EOF",
            "1: FLOCK  ADVISORY  WRITE",
        ] {
            assert_eq!(owner(other), None, "{other}");
        }
        let reader = flock_owner("1: FLOCK  ADVISORY  READ  4711 fd:1a:77 0 EOF", id, "READ");
        assert_eq!(reader, Some(4711));
    }

    #[test]
    fn zombie_with_threads_is_alive() {
        let stat = |state, threads| ProcStat { state, threads, start: 1 };
        assert!(stat(b'Z', 1).is_zombie() && stat(b'X', 0).is_zombie());
        assert!(!stat(b'Z', 2).is_zombie() && !stat(b'S', 1).is_zombie());
    }

    #[test]
    fn own_process_is_alive_since_its_start_time() {
        let identity = identity();
        assert_eq!(state(identity.pid), ProcessState::Alive { start: identity.start });
        assert!(identity.start.is_some() && identity.boot.is_some() && identity.pid_namespace.is_some());
    }

    #[test]
    fn other_processes_read_the_same_start_time() {
        let ProcessIdentity { pid, start, .. } = identity();
        let read = std::process::Command::new("cat").arg(format!("/proc/{pid}/stat")).output();
        let stat = ProcStat::parse(&read.expect("cat runs").stdout);
        assert_eq!(stat.map(|stat| stat.start), start);
    }

    #[test]
    fn pids_that_address_groups_do_not_exist() {
        assert!(!process_exists(0) && !process_exists(u32::MAX) && !process_exists(1 << 31));
    }
}
