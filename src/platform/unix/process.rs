//! Processes as every Unix has them: `kill(2)`, and the host of `uname(2)`.
#![forbid(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// `kill(pid, 0)`: only ESRCH says that there is no such process; EPERM says that there is one.
pub(in crate::platform) fn process_exists(pid: u32) -> bool {
    // 0 and negative numbers address process groups; no such number may reach the call.
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
        return false;
    };
    test_kill_process(pid) != Err(Errno::SRCH)
}

/// The host's name.
pub(in crate::platform) fn host() -> Option<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(host).filter(|host| !host.is_empty())
}
