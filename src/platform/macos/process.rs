//! Processes and this boot, by `sysctl(3)`; the user of a process, by `proc_pidinfo` of `libproc.h`.
#![forbid(unsafe_code)]

use super::calls::{ProcessEntry, process_arguments, process_entry, process_info, sysctl_text, user_name};
use crate::platform::types::{ProcessDetails, ProcessIdentity, ProcessState};
use crate::platform::unix::process::{self as unix, process_exists};

/// The identity of this process.
pub(in crate::platform) fn identity() -> ProcessIdentity {
    let pid = std::process::id();
    ProcessIdentity {
        pid,
        start: process_entry(pid).map(|entry| start(&entry)),
        boot: sysctl_text(c"kern.bootsessionuuid"),
        pid_namespace: None,
        host: unix::host(),
    }
}

pub(in crate::platform) fn state(pid: u32) -> ProcessState {
    if !process_exists(pid) {
        return ProcessState::Dead;
    }
    match process_entry(pid) {
        Some(entry) if u32::from(entry.status) == libc::SZOMB => ProcessState::Zombie,
        Some(entry) => ProcessState::Alive { start: Some(start(&entry)) },
        // It ended between the two reads, or a sandbox hides it.
        None if process_exists(pid) => ProcessState::Alive { start: None },
        None => ProcessState::Dead,
    }
}

/// The command line and the effective user of a process of this user, or for root of any.
pub(crate) fn describe_process(pid: u32) -> ProcessDetails {
    let arguments = process_arguments(pid).unwrap_or_default();
    let user = process_info(pid).map(|info| info.pbi_uid);
    let name = user.map(|id| user_name(id).unwrap_or_else(|| id.to_string()));
    ProcessDetails::new(unix::words_in(&arguments).map(unix::joined), name)
}

/// Microseconds since the Unix epoch: `fork(2)` records it, and no clock step changes it.
fn start(entry: &ProcessEntry) -> u64 {
    let libc::timeval { tv_sec: seconds, tv_usec: micros } = entry.start;
    seconds.cast_unsigned().saturating_mul(1_000_000).saturating_add(micros.cast_unsigned().into())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn own_process_is_alive_since_its_start_time() {
        let identity = identity();
        assert_eq!(state(identity.pid), ProcessState::Alive { start: identity.start });
        assert!(identity.start.is_some() && identity.boot.is_some());
    }

    #[test]
    fn start_time_is_that_of_proc_pidinfo() {
        let pid = std::process::id();
        let found = process_info(pid).map(|info| info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec);
        assert_eq!(state(pid), ProcessState::Alive { start: found });
    }

    #[test]
    fn start_time_of_another_users_process_is_known() {
        // `launchd`, of root.
        assert!(matches!(state(1), ProcessState::Alive { start: Some(_) }));
    }

    #[test]
    fn ended_child_is_a_zombie_until_it_is_waited_for() {
        let mut child = Command::new("/usr/bin/true").spawn().expect("it runs");
        let until = Instant::now() + Duration::from_secs(20);
        while state(child.id()) != ProcessState::Zombie {
            assert!(Instant::now() < until, "it is not a zombie");
            thread::yield_now();
        }
        child.wait().expect("waited for");
        assert_eq!(state(child.id()), ProcessState::Dead);
    }
}
