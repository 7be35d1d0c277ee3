//! Processes as every Unix has them: `kill(2)`, and the host of `uname(2)`.
#![forbid(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// `kill(pid, 0)`: only ESRCH means that there is no such process; EPERM means that there is one.
pub(in crate::platform) fn process_exists(pid: u32) -> bool {
    // 0 and negative numbers address process groups; no such number may reach the call.
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
        return false;
    };
    test_kill_process(pid) != Err(Errno::SRCH)
}

/// The words of a command line, each of which ends with a NUL, in one line.
pub(in crate::platform) fn joined(words: &[u8]) -> String {
    let end = words.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    String::from_utf8_lossy(&words[..end]).replace('\0', " ")
}

/// The words in the buffer of `KERN_PROCARGS2` of macOS: after their count come the path of the program, NULs, the words
/// and the environment. `None` if there are fewer.
///
/// The count goes too far if the first word is empty, because it is read as padding, or if the process has overwritten
/// its words. So they end before the first of the form `NAME=value`, which may be of the environment.
#[cfg(any(target_os = "macos", test))]
pub(in crate::platform) fn words_in(buffer: &[u8]) -> Option<&[u8]> {
    let (count, rest) = buffer.split_first_chunk()?;
    let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
    let path = rest.iter().position(|byte| *byte == 0)?;
    let padding = rest[path..].iter().position(|byte| *byte != 0)?;
    let words = &rest[path + padding..];
    let mut end = 0;
    for _ in 0..count {
        let length = words[end..].iter().position(|byte| *byte == 0)?;
        let word = &words[end..end + length];
        if word.contains(&b'=') && !word.starts_with(b"-") {
            break;
        }
        end += length + 1;
    }
    Some(&words[..end])
}

/// The host's name.
pub(in crate::platform) fn host() -> Option<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(host).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::types::ProcessDetails;

    #[test]
    fn words_end_before_the_environment() {
        let buffer = |count: i32, text: &[u8]| [&count.to_ne_bytes(), text].concat();
        let text = b"/bin/sh\0\0\0\0\0sh\0-c\0\0true\0SECRET=1\0";
        assert_eq!(words_in(&buffer(4, text)).map(joined).as_deref(), Some("sh -c  true"));
        assert_eq!(words_in(&buffer(1, text)).map(joined).as_deref(), Some("sh"));
        // The process has overwritten its words, the first word is empty, or there are no words.
        for (count, text, words) in [
            (4, &b"/bin/sh\0a long title\0SECRET=1\0:_auth=2\0"[..], "a long title"),
            (i32::MAX, b"/bin/sh\0sh\0SECRET=1\0", "sh"),
            (2, b"/bin/sh\0\0\0\0--a=b\0SECRET=1\0", "--a=b"),
            (1, b"/bin/sh\0\0\0SECRET=1\0", ""),
            (0, b"/bin/sh\0\0\0SECRET=1\0", ""),
        ] {
            assert_eq!(words_in(&buffer(count, text)).map(joined).as_deref(), Some(words), "{count}");
        }
        for (count, text) in [
            (-1, &text[..]),
            (5, b"/bin/sh\0sh\0-c\0"),
            (2, b"/bin/sh\0sh\0no end"),
            (1, b"/bin/sh"),
            (1, b"/bin/sh\0\0"),
            (1, b""),
        ] {
            assert_eq!(words_in(&buffer(count, text)), None, "{count} {text:?}");
        }
        for bytes in [&b""[..], b"\0\0", b"\0\0\0\0"] {
            assert_eq!((words_in(bytes), joined(bytes)), (None, String::new()));
        }
    }

    #[test]
    fn command_line_is_cut_after_4096_characters() {
        let of = |count| ProcessDetails::new(Some("ä".repeat(count)), Some(String::new()));
        assert_eq!(of(4096), ProcessDetails { command: Some("ä".repeat(4096)), user: None });
        assert_eq!(of(4097).command, Some("ä".repeat(4095) + "…"));
        assert_eq!(of(0), ProcessDetails::default());
    }
}
