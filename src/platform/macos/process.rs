//! Processes, by `proc_pidinfo` of `libproc.h`, and this boot, by `sysctl(3)`.
#![forbid(unsafe_code)]

use super::calls::{process_arguments, process_info, sysctl_text, user_name};
use crate::platform::types::{ProcessDetails, ProcessIdentity, ProcessState};
use crate::platform::unix::process::{self as unix, process_exists};

/// The identity of this process.
pub(in crate::platform) fn identity() -> ProcessIdentity {
    let pid = std::process::id();
    ProcessIdentity {
        pid,
        start: process_info(pid).map(|info| start(&info)),
        boot: sysctl_text(c"kern.bootsessionuuid"),
        pid_namespace: None,
        host: unix::host(),
    }
}

pub(in crate::platform) fn state(pid: u32) -> ProcessState {
    if !process_exists(pid) {
        return ProcessState::Dead;
    }
    match process_info(pid) {
        Some(info) if info.pbi_status == libc::SZOMB => ProcessState::Zombie,
        Some(info) => ProcessState::Alive { start: Some(start(&info)) },
        // It ended between the two reads, or is another user's.
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
fn start(info: &libc::proc_bsdinfo) -> u64 {
    info.pbi_start_tvsec.saturating_mul(1_000_000).saturating_add(info.pbi_start_tvusec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_since_its_start_time() {
        let identity = identity();
        assert_eq!(state(identity.pid), ProcessState::Alive { start: identity.start });
        assert!(identity.start.is_some() && identity.boot.is_some());
    }
}
