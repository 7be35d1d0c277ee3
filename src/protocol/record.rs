//! The record: the JSON object in a lock file that names its holder.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};

use miniserde::json;

use fields::Fields;

use crate::platform::{FileId, FsKind, ProcessIdentity};

/// The length of every record, so that one write replaces another completely.
pub const RECORD_LEN: usize = 512;

/// `PID_MAX_LIMIT` of Linux (`include/linux/threads.h`), above the limit of macOS too. Windows names none, and has
/// no numbers that address groups.
pub const PID_LIMIT: u32 = if cfg!(windows) { u32::MAX } else { 4 * 1024 * 1024 };

/// `HOST_NAME_MAX` of Linux is 64; a longer name would not fit in a record.
const HOST_LEN: usize = 64;

/// The current or previous holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// When it acquired the lock, in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// The host that it runs on; legacy records name none.
    pub host: Option<String>,
    /// The worker thread, 0 for the main thread; legacy records name none.
    pub thread: Option<u32>,
}

/// A record as it stands in the file.
///
/// `pid` and `createdAt` come first: the legacy lock writes and reads only those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The holder's process.
    pub pid: u32,
    /// When the lock was acquired, in milliseconds since the Unix epoch.
    pub created_at: Option<u64>,
    /// The holder's host.
    pub host: Option<String>,
    /// The boot that the holder runs on; `None` in a legacy record, or if the system hides it.
    pub boot_id: Option<String>,
    /// When the holder started, in its system's own unit counted from boot.
    pub start_time: Option<u64>,
    /// The holder's pid namespace.
    pub pid_ns: Option<u64>,
    /// The holder's worker thread, 0 for the main thread.
    pub thread: Option<u32>,
    /// `local` or `shared`: the kind of filesystem for the holder.
    pub fs: Option<String>,
    /// The file that the holder wrote it to, as [`FileId`] prints. Another file is a copy.
    pub file: Option<String>,
    /// The version of this format.
    pub v: Option<u32>,
}

impl Record {
    /// The record of this process.
    #[must_use]
    pub fn of(identity: &ProcessIdentity, thread: u32, created_at: u64, fs: FsKind) -> Self {
        Self {
            pid: identity.pid,
            created_at: Some(created_at),
            host: identity.host.as_deref().map(|host| shortened(host).to_owned()),
            boot_id: identity.boot.clone(),
            start_time: identity.start,
            pid_ns: identity.pid_namespace,
            thread: Some(thread),
            fs: Some(if fs == FsKind::Local { "local" } else { "shared" }.to_owned()),
            file: None,
            v: Some(1),
        }
    }

    /// The same record for this file.
    #[must_use]
    pub fn in_file(self, file: FileId) -> Self {
        Self { file: Some(file.to_string()), ..self }
    }

    /// Whether the record names another file than this one.
    #[must_use]
    pub fn names_another_file(&self, file: FileId) -> bool {
        self.file.as_ref().is_some_and(|named| *named != file.to_string())
    }

    /// Whether the record names a file of another mount. Some filesystems of FUSE change the number of a file in one mount,
    /// but not the device.
    #[must_use]
    pub fn names_another_mount(&self, file: FileId) -> bool {
        let device = file.device.to_string();
        self.file.as_ref().is_some_and(|named| named.split(':').next() != Some(device.as_str()))
    }

    /// The bytes of the file: JSON, padded with spaces and ended by a newline.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_LEN] {
        let mut text = self.text(self.host.as_deref());
        if text.length >= RECORD_LEN {
            // Only a host name with many characters that JSON escapes is this long. It is informative, so drop it.
            text = self.text(None);
        }
        text.bytes[RECORD_LEN - 1] = b'\n';
        text.bytes
    }

    fn text(&self, host: Option<&str>) -> Text {
        let mut text = Text { bytes: [b' '; RECORD_LEN], length: 0 };
        text.push("{\"pid\":");
        text.push_integer(u64::from(self.pid));
        text.put_integer(",\"createdAt\":", self.created_at);
        text.put_string(",\"host\":", host);
        text.put_string(",\"bootId\":", self.boot_id.as_deref());
        text.put_integer(",\"startTime\":", self.start_time);
        text.put_integer(",\"pidNs\":", self.pid_ns);
        text.put_integer(",\"thread\":", self.thread.map(u64::from));
        text.put_string(",\"fs\":", self.fs.as_deref());
        text.put_string(",\"file\":", self.file.as_deref());
        text.put_integer(",\"v\":", self.v.map(u64::from));
        text.push("}");
        text
    }

    /// Parses a record. `None`: the bytes are not a record.
    ///
    /// Unknown keys are ignored, and so is a known key of the wrong type, except `pid`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        // The parser would take more time for the padding than for the record.
        let end = bytes.iter().rposition(|byte| !matches!(byte, b' ' | b'\n'))?;
        let fields: Fields = json::from_str(str::from_utf8(&bytes[..=end]).ok()?).ok()?;
        let pid = fields.pid.small().filter(|pid| (1..=PID_LIMIT).contains(pid))?;
        Some(Self {
            pid,
            created_at: fields.created_at.integer(),
            host: fields.host.text().as_deref().map(escape_host),
            boot_id: fields.boot_id.text(),
            start_time: fields.start_time.integer(),
            pid_ns: fields.pid_ns.integer(),
            thread: fields.thread.small(),
            fs: fields.fs.text(),
            file: fields.file.text(),
            v: fields.v.small(),
        })
    }

    /// Whether the filesystem was local to the kernel of the holder.
    #[must_use]
    pub fn on_local_fs(&self) -> bool {
        self.fs.as_deref() == Some("local")
    }

    /// Whether the record is a copy from another file, if this file is on a local filesystem too.
    #[must_use]
    pub fn is_copy(&self, file: FileId) -> bool {
        self.on_local_fs() && self.names_another_file(file)
    }

    /// The holder, of a record that was made by [`Record::of`].
    #[must_use]
    pub fn into_holder(self) -> Holder {
        Holder {
            pid: self.pid,
            created_at: self.created_at.unwrap_or_default(),
            host: self.host,
            thread: self.thread,
        }
    }

    /// The holder; `modified` (milliseconds since the epoch) replaces a missing time.
    #[must_use]
    pub fn holder(&self, modified: u64) -> Holder {
        Holder {
            pid: self.pid,
            created_at: self.created_at.unwrap_or(modified),
            host: self.host.clone(),
            thread: self.thread,
        }
    }
}

/// The JSON of a record, without the writer of miniserde, whose code for all types is larger.
struct Text {
    bytes: [u8; RECORD_LEN],
    /// Counts beyond the end of the bytes, if the text is too long.
    length: usize,
}

impl Text {
    fn push(&mut self, piece: &str) {
        let end = self.length + piece.len();
        if let Some(free) = self.bytes.get_mut(self.length..end) {
            free.copy_from_slice(piece.as_bytes());
        }
        self.length = end;
    }

    fn push_integer(&mut self, integer: u64) {
        self.push(itoa::Buffer::new().format(integer));
    }

    fn put_integer(&mut self, key: &str, value: Option<u64>) {
        if let Some(integer) = value {
            self.push(key);
            self.push_integer(integer);
        }
    }

    fn put_string(&mut self, key: &str, value: Option<&str>) {
        let Some(string) = value else { return };
        self.push(key);
        self.push("\"");
        if string.bytes().any(|byte| needs_escape(byte.into())) {
            self.push_escaped(string);
        } else {
            self.push(string);
        }
        self.push("\"");
    }

    fn push_escaped(&mut self, string: &str) {
        for piece in string.split_inclusive(needs_escape) {
            let last = piece.chars().next_back().filter(|char| needs_escape(*char));
            self.push(&piece[..piece.len() - last.map_or(0, char::len_utf8)]);
            // Never fails: `push` takes everything.
            let _ = match last {
                Some(char @ ('"' | '\\')) => write!(self, "\\{char}"),
                Some(char) => write!(self, "\\u{:04x}", u32::from(char)),
                None => Ok(()),
            };
        }
    }
}

impl Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.push(piece);
        Ok(())
    }
}

fn needs_escape(char: char) -> bool {
    char < ' ' || matches!(char, '"' | '\\')
}

/// Escapes control characters: a process that can write the file must not control the terminal of its reader.
fn escape_host(host: &str) -> String {
    shortened(host).escape_debug().to_string()
}

fn shortened(host: &str) -> &str {
    host.char_indices().nth(HOST_LEN).map_or(host, |(end, _)| &host[..end])
}

/// The content of a file whose lock was released and that could not be removed.
pub const RELEASED: [u8; RECORD_LEN] = {
    let mut bytes = [b' '; RECORD_LEN];
    (bytes[0], bytes[1], bytes[RECORD_LEN - 1]) = (b'{', b'}', b'\n');
    bytes
};

/// The content of a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A record.
    Record(Record),
    /// [`RELEASED`].
    Released,
    /// Nothing, NUL bytes, or the beginning of a record, as an interrupted acquire or release or a power cut leaves it.
    Remnant,
    /// Content that no lock leaves.
    Foreign,
}

impl Content {
    /// Classifies the first [`RECORD_LEN`] bytes of a file.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if let Some(record) = Record::parse(bytes) {
            return Self::Record(record);
        }
        if bytes == RELEASED {
            return Self::Released;
        }
        if is_remnant(bytes) { Self::Remnant } else { Self::Foreign }
    }
}

/// Whether a record can begin with these bytes. A legacy record may have blanks between its tokens.
fn is_remnant(bytes: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"{\"pid\":";
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut words = bytes[..end].iter().filter(|byte| !byte.is_ascii_whitespace()).peekable();
    if words.peek().is_none() {
        return end == 0;
    }
    for expected in BEGINNING {
        match words.next() {
            None => return true,
            Some(byte) if byte == expected => {}
            Some(_) => return false,
        }
    }
    let mut pid = words.skip_while(|byte| byte.is_ascii_digit());
    matches!(pid.next(), None | Some(b',' | b'}'))
}

mod fields;
#[cfg(test)]
mod tests;
