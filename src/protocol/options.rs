//! The options of a lock, and the path that they name.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::env;
use std::ffi::OsStr;
use std::iter;
use std::path::{Component, Path, PathBuf};

use super::error::Error;
use super::target::{DEFAULT_FILE, PRIVATE, Target, beside};

/// The default message of contention.
pub const DEFAULT_MESSAGE: &str = "Another reconcile run is in progress";

/// As the option `slots` of JavaScript has it.
const MAX_SLOTS: u16 = 1000;

/// The lock file, the message of its contention error, and how to acquire it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOptions {
    /// The directory; the current one if `None`.
    pub cwd: Option<PathBuf>,
    /// The file in it, or an absolute path.
    pub file: PathBuf,
    /// The whole text of the contention error.
    pub message: Cow<'static, str>,
    /// Whether processes of a legacy lock may use the file: one that writes its pid into it as JSON and takes no kernel
    /// lock. `true` by default. With `false` a take-over skips its pause of 5 ms. A legacy process that does use the file
    /// can then remove a lock that was just taken over.
    pub legacy: bool,
    /// Whether an acquire syncs the record to the disk before it returns, so that a process after a power failure reads
    /// it; `false` by default. An acquire whose sync fails is rolled back and returns [`Error::System`]. On Windows it
    /// syncs the file, but not its directory.
    pub durable: bool,
    /// The permission bits of the lock file, whatever the umask; `0o600` by default. Each user with both the read and
    /// the write bit can acquire, inspect, take over and release the lock, and is trusted with it: a file of another user
    /// in a directory with the sticky bit is accepted. All processes should have the same mode.
    pub mode: u32,
    /// Whether other processes may hold the lock in shared mode too; `false` by default. No process holds it exclusively
    /// meanwhile. The file is named as the lock with `.readers` behind it. A process of the legacy lock does not read
    /// that file, so the default file name also needs `legacy: false`. Network filesystems, and filesystems without
    /// kernel locks, return [`Error::Unsupported`]. It excludes `slots` and `durable`.
    pub shared: bool,
    /// How many can hold the lock at once, from 1, the default, to 1000. Each slot is a lock of its own: the first one is
    /// the lock file, the others are the files with `.slot1`, `.slot2` and so on behind its name. An acquire gets the first
    /// slot that is free. All calls should have the same number.
    pub slots: u16,
}

impl Default for LockOptions {
    fn default() -> Self {
        Self {
            cwd: None,
            file: PathBuf::from(DEFAULT_FILE),
            message: Cow::Borrowed(DEFAULT_MESSAGE),
            legacy: true,
            durable: false,
            mode: PRIVATE,
            shared: false,
            slots: 1,
        }
    }
}

impl LockOptions {
    /// The default lock of a directory.
    pub fn in_directory(cwd: impl Into<PathBuf>) -> Self {
        Self { cwd: Some(cwd.into()), ..Self::default() }
    }

    /// The absolute path, with `.` and `..` removed by name alone, as `path.join` of Node.js does:
    /// a legacy process must resolve the same file.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `file` names no file, a path holds a NUL byte, `mode` lacks a permission of the owner
    /// or has another bit than those to read and write, `slots` is out of range, or two options exclude each other;
    /// [`Error::Unsupported`] for a `mode` on Windows, and for `shared` if legacy processes may use the file;
    /// [`Error::System`] if the current directory is gone.
    pub fn resolve(&self) -> Result<Target, Error> {
        self.check()?;
        let cwd = self.cwd.as_deref().unwrap_or(Path::new(""));
        let path = cwd.join(&self.file);
        let path = if path.is_absolute() { path } else { current_directory()?.join(path) };
        if cfg!(windows) && !path.is_absolute() {
            return Err(Error::InvalidArgument(format!(
                "The path of a lock must not be relative to the current directory of a drive. Received '{}'",
                path.display()
            )));
        }
        let Self { legacy, durable, mode, shared, .. } = *self;
        if cfg!(windows) && mode != PRIVATE {
            return Err(Error::Unsupported {
                path,
                reason: "Windows has no mode of a file, but access lists",
            });
        }
        let target =
            Target { path: normalized(&path), message: self.message.clone(), legacy, durable, mode, shared };
        if shared && legacy && target.has_default_name() {
            return Err(Error::Unsupported {
                path: target.path,
                reason: "a legacy process would acquire this lock beside its readers; shared mode needs another file \
                         name, or legacy: false if no such process uses it",
            });
        }
        Ok(target)
    }

    /// Checks what does not depend on the current directory.
    fn check(&self) -> Result<(), Error> {
        let names_a_file = self.file.file_name().is_some() && !ends_like_a_directory(&self.file);
        if !names_a_file {
            return Err(Error::InvalidArgument(format!(
                "The \"file\" option must name a file. Received '{}'",
                self.file.display()
            )));
        }
        if self.mode & !0o666 != 0 || self.mode & PRIVATE != PRIVATE {
            let mode = self.mode;
            return Err(Error::InvalidArgument(format!("The \"mode\" option must not be 0o{mode:o}")));
        }
        if !(1..=MAX_SLOTS).contains(&self.slots) {
            let slots = self.slots;
            return Err(Error::InvalidArgument(format!(
                "The \"slots\" option must be from 1 to {MAX_SLOTS}. Received {slots}"
            )));
        }
        for (other, is_set) in [("slots", self.slots > 1), ("durable", self.durable)] {
            if self.shared && is_set {
                return Err(Error::InvalidArgument(format!(
                    "The options \"shared\" and \"{other}\" exclude each other"
                )));
            }
        }
        if self.cwd.as_deref().is_some_and(|cwd| has_nul(cwd.as_os_str())) || has_nul(self.file.as_os_str()) {
            return Err(Error::InvalidArgument("The path of a lock must not hold a NUL byte".to_owned()));
        }
        if cfg!(windows) && is_reserved(&self.file) {
            return Err(Error::InvalidArgument(format!(
                "The \"file\" option must not have any of : < > \" | ? * in its name, nor a dot or a space at its end. \
                 Received '{}'",
                self.file.display()
            )));
        }
        Ok(())
    }

    /// The target of a call that does not acquire. It ignores the mode in which the lock would be acquired.
    pub(crate) fn resolve_any(&self) -> Result<Target, Error> {
        Self { shared: false, ..self.clone() }.resolve()
    }

    /// The target of each slot.
    pub(crate) fn resolve_slots(&self) -> Result<Vec<Target>, Error> {
        let first = self.resolve()?;
        let path = |slot| beside(&first.path, &format!(".slot{slot}"));
        let others = (1..self.slots).map(|slot| Target { path: path(slot), ..first.clone() });
        Ok(iter::once(first.clone()).chain(others).collect())
    }
}

fn current_directory() -> Result<PathBuf, Error> {
    env::current_dir().map_err(|source| Error::System { syscall: "getcwd", path: PathBuf::from("."), source })
}

/// `Path` hides a trailing separator or dot, which for a system call means "a directory".
fn ends_like_a_directory(file: &Path) -> bool {
    let bytes = file.as_os_str().as_encoded_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || (cfg!(windows) && bytes.ends_with(b"\\"))
}

fn has_nul(text: &OsStr) -> bool {
    text.as_encoded_bytes().contains(&0)
}

/// Windows reads the text after a colon as the name of a stream, removes dots and spaces at the end, by which one file would
/// have several names, and refuses the other characters only later.
fn is_reserved(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    name.iter().any(|byte| *byte < 0x20 || b":<>\"|?*".contains(byte))
        || matches!(name.last(), Some(b'.' | b' '))
}

fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::with_capacity(path.as_os_str().len());
    for part in path.components() {
        if part == Component::ParentDir {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(cwd: &str, file: &str) -> Result<PathBuf, Error> {
        let options = LockOptions { cwd: Some(cwd.into()), file: file.into(), ..LockOptions::default() };
        options.resolve().map(|target| target.path)
    }

    #[test]
    #[cfg(unix)]
    fn joins_as_node_does() {
        for (cwd, file, expected) in [
            ("/a/b", "l", "/a/b/l"),
            ("/a/b/", "./l", "/a/b/l"),
            ("/a//b/./c/../d", "l", "/a/b/d/l"),
            ("/a", "../../../l", "/l"),
            ("/a", "/x/l", "/x/l"),
            ("/a", "s/l", "/a/s/l"),
        ] {
            assert_eq!(path(cwd, file).expect(file), Path::new(expected));
        }
    }

    #[test]
    #[cfg(windows)]
    fn joins_as_node_does() {
        for (cwd, file, expected) in [
            (r"C:\a\b", "l", r"C:\a\b\l"),
            ("C:/a/b/", "./l", r"C:\a\b\l"),
            (r"C:\a\.\c\..\d", "l", r"C:\a\d\l"),
            (r"C:\a", r"..\..\..\l", r"C:\l"),
            (r"C:\a", r"D:\x\l", r"D:\x\l"),
            (r"C:\a", r"\x\l", r"C:\x\l"),
            (r"\\host\share\a", r"..\l", r"\\host\share\l"),
        ] {
            assert_eq!(path(cwd, file).expect(file), Path::new(expected));
        }
    }

    #[test]
    fn reserved_names_are_refused_on_windows() {
        for name in ["lock:1", "a/l:stream", "l?", "l*", "<l>", "a|b", "\"l\"", "a\tb", "l.", "l "] {
            assert!(is_reserved(Path::new(name)), "{name}");
            assert_eq!(path("a", name).is_err(), cfg!(windows), "{name}");
        }
        assert!(!is_reserved(Path::new(DEFAULT_FILE)) && !is_reserved(Path::new("a:b/ü 'l'")));
    }

    #[test]
    fn a_relative_directory_is_resolved_against_the_current_one() {
        let identity = env::current_dir().expect("a directory");
        assert_eq!(path("s", "l").expect("a path"), identity.join("s/l"));
        assert_eq!(LockOptions::default().resolve().expect("a path").path, identity.join(DEFAULT_FILE));
    }

    #[test]
    fn refuses_paths_that_name_no_file() {
        for file in ["", ".", "..", "/", "a/", "a/.", "a/..", "nul\0byte"] {
            assert!(matches!(path("/a", file), Err(Error::InvalidArgument(_))), "{file:?}");
        }
        assert!(matches!(path("/a\0", "l"), Err(Error::InvalidArgument(_))));
    }
}
