//! Processes, by `OpenProcess`, and this boot, by the registry.
#![forbid(unsafe_code)]

use super::calls::{self, Found};
use crate::platform::types::{ProcessDetails, ProcessIdentity, ProcessState};

/// The identity of this process.
pub(super) fn identity() -> ProcessIdentity {
    let host = calls::host();
    ProcessIdentity {
        pid: std::process::id(),
        start: calls::own_start(),
        boot: boot(host.as_deref()),
        pid_namespace: None,
        host,
    }
}

/// Windows counts its boots, which names one only together with the machine; copies of a disk share its id.
fn boot(host: Option<&str>) -> Option<String> {
    const COUNT: &str =
        r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters";
    let machine = calls::registry_text(r"SOFTWARE\Microsoft\Cryptography", "MachineGuid")?;
    let count = calls::registry_number(COUNT, "BootId")?;
    Some(format!("{machine}/{count}/{}", host?))
}

pub(super) fn state(pid: u32) -> ProcessState {
    match calls::process(pid) {
        Found::Missing => ProcessState::Dead,
        Found::Hidden => ProcessState::Alive { start: None },
        Found::Since(start) => ProcessState::Alive { start: Some(start) },
    }
}

/// The command line and the user of a process, if this one may read them.
pub(crate) fn describe_process(pid: u32) -> ProcessDetails {
    let (command, user) = calls::details(pid);
    ProcessDetails::new(command, user)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn own_process_is_alive_since_its_start_time() {
        let identity = identity();
        assert_eq!(state(identity.pid), ProcessState::Alive { start: identity.start });
        assert!(identity.host.is_some());
        // JavaScript reads it exactly.
        assert!(identity.start.is_some_and(|start| start < 1 << 53));
    }

    #[test]
    fn own_user_is_named() {
        // The command line has a test of JavaScript, because wine 8 does not support it.
        let ProcessDetails { user, .. } = describe_process(std::process::id());
        assert_eq!(user, Some(std::env::var("USERNAME").expect("a name")));
        assert_eq!(describe_process(0), ProcessDetails::default());
    }

    #[test]
    fn numbers_next_to_a_pid_are_dead() {
        // OpenProcess rounds down to a multiple of four.
        let pid = std::process::id();
        for near in [pid + 1, pid + 2, pid + 3, 0, u32::MAX] {
            assert_eq!(state(near), ProcessState::Dead, "{near}");
        }
    }

    #[test]
    fn ended_child_is_dead_though_its_handle_is_open() {
        let quiet = Stdio::null;
        let shell =
            Command::new("cmd").args(["/c", "exit"]).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
        let mut child = shell.expect("cmd runs");
        child.wait().expect("waited for");
        assert_eq!(state(child.id()), ProcessState::Dead);
    }
}
