//! The properties that hold for every content of a lock file. The fuzz target checks generated inputs,
//! `tests/corpus.rs` the stored ones.
//!
//! An input is the content of a lock file. The bytes after a byte 0x1e determine our side: names and numbers.

use reconcile_lock::judge::{Evidence, Verdict, judge};
use reconcile_lock::record::{Content, RECORD_LEN, Record};
use reconcile_lock::{FileId, FsKind, ProcessIdentity, ProcessState};

/// The limit of Linux, the highest of the Unix systems.
const HIGHEST_PID: u32 = if cfg!(windows) { u32::MAX } else { 4_194_304 };

/// The length of a boot id, a UUID, in characters.
const BOOT_ID: usize = 36;

/// Reads one input, and judges it with at most `cases` kinds of evidence.
///
/// # Panics
/// If a property does not hold.
pub fn check(input: &[u8], cases: usize) {
    let cut = input.iter().position(|byte| *byte == 0x1e);
    let (content, ours) = cut.map_or((input, &[][..]), |at| (&input[..at], &input[at + 1..]));
    let ours = Ours::new(ours);
    // The protocol reads at most the length of a record.
    let within = &content[..content.len().min(RECORD_LEN)];
    for content in [Some(within), (within != content).then_some(content)].into_iter().flatten() {
        let record = Record::parse(content);
        check_reading(content, record.as_ref());
        if let Some(record) = &record {
            check_holder(record);
            check_writing(&like(record), record.created_at.unwrap_or(0), record.thread.unwrap_or(0));
        }
        assert_eq!(record.is_some(), matches!(Content::of(content), Content::Record(_)));
        check_verdicts(record.as_ref(), &ours, cases);
    }
    check_writing(&ours.identity, ours.number, ours.identity.pid);
}

/// The part of our side that the input determines.
struct Ours {
    number: u64,
    identity: ProcessIdentity,
}

impl Ours {
    fn new(bytes: &[u8]) -> Self {
        let mut number = [0; 8];
        for (to, from) in number.iter_mut().zip(bytes) {
            *to = *from;
        }
        let number = u64::from_le_bytes(number);
        let text = String::from_utf8_lossy(bytes.get(8..).unwrap_or_default()).into_owned();
        let identity = ProcessIdentity {
            pid: u32::try_from(number % u64::from(HIGHEST_PID)).unwrap_or(0) + 1,
            start: (number % 3 != 0).then_some(number),
            boot: boot_id(&text),
            pid_namespace: (number % 5 != 0).then_some(number.rotate_left(32)),
            host: (!text.is_empty()).then_some(text),
        };
        Self { number, identity }
    }
}

fn boot_id(text: &str) -> Option<String> {
    Some(text.chars().take(BOOT_ID).collect()).filter(|id: &String| !id.is_empty())
}

/// A process that would write nearly the same record.
fn like(record: &Record) -> ProcessIdentity {
    ProcessIdentity {
        pid: record.pid,
        start: record.start_time,
        boot: record.boot_id.as_deref().and_then(boot_id),
        pid_namespace: record.pid_ns,
        host: record.host.clone(),
    }
}

fn is_harmless(text: &str) -> bool {
    // Control characters move the cursor, separators end a line, bidi marks reorder the text.
    text.chars().all(|char| {
        !char.is_control() && !matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    })
}

/// Compares the record with the result of an ordinary JSON reader, the witness.
fn check_reading(content: &[u8], record: Option<&Record>) {
    if let Some(record) = record {
        assert!((1..=HIGHEST_PID).contains(&record.pid), "the pid {} came out", record.pid);
    }
    let Ok(witness) = serde_json::from_slice::<serde_json::Value>(content) else { return };
    let pid = witness.as_object().and_then(|fields| fields.get("pid"));
    if let Some(record) = record {
        let float = pid.and_then(serde_json::Value::as_f64);
        assert_eq!(float, Some(f64::from(record.pid)), "another pid came out");
    }
    if pid.and_then(serde_json::Value::as_u64).is_some_and(|pid| (1..=HIGHEST_PID.into()).contains(&pid)) {
        // Not of `content`: the witness accepts a key that comes twice.
        let again = Record::parse(witness.to_string().as_bytes());
        assert_eq!(again.map(|record| u64::from(record.pid)), pid.and_then(serde_json::Value::as_u64));
    }
}

fn check_holder(record: &Record) {
    for modified in [0, 1, u64::MAX] {
        let holder = record.holder(modified);
        assert_eq!((holder.pid, holder.thread), (record.pid, record.thread));
        assert_eq!(holder.created_at, record.created_at.unwrap_or(modified));
        let host = holder.host.as_deref().unwrap_or("-");
        assert!(!host.is_empty() && is_harmless(host), "a host for people: {host:?}");
    }
}

fn check_writing(identity: &ProcessIdentity, created_at: u64, thread: u32) {
    for fs in [FsKind::Local, FsKind::Shared] {
        let record = Record::of(identity, thread, created_at, fs);
        let bytes = record.encode();
        assert_eq!(bytes.len(), RECORD_LEN);
        assert!(bytes.starts_with(b"{\"pid\":"));
        assert_eq!(bytes.iter().position(|byte| *byte == b'\n'), Some(RECORD_LEN - 1), "one line");
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok(), "readable for a legacy process");
        let Some(read) = Record::parse(&bytes) else { panic!("not readable: {record:?}") };
        assert_eq!(
            (read.pid, &read.boot_id, read.start_time, read.pid_ns),
            (identity.pid, &identity.boot, identity.start, identity.pid_namespace),
        );
        assert_eq!((read.created_at, read.thread, read.v), (Some(created_at), Some(thread), Some(1)));
        assert_eq!(read.on_local_fs(), fs == FsKind::Local);
        check_holder(&read);
        let host = identity.host.as_deref().unwrap_or_default();
        if host.len() <= 64 && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        {
            assert_eq!(read.host.as_deref().unwrap_or_default(), host, "an ordinary name stays what it is");
        }
    }
}

/// The judged file.
const FILE: FileId = FileId { device: 64_769, inode: 42 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    BeingCreated,
    Free,
    Held,
    Stale,
}

fn check_verdicts(record: Option<&Record>, ours: &Ours, cases: usize) {
    let theirs = record.map(like).unwrap_or_default();
    let other = |theirs: Option<u64>| theirs.map_or(ours.number, |theirs| theirs ^ ours.number.max(1));
    let other_boot = match (&ours.identity.boot, record.and_then(|record| record.boot_id.as_ref())) {
        (Some(boot), theirs) if Some(boot) != theirs => boot.clone(),
        (_, theirs) => format!("{}x", theirs.map_or("", String::as_str)),
    };
    let processes = [
        ProcessState::Dead,
        ProcessState::Zombie,
        ProcessState::Alive { start: None },
        ProcessState::Alive { start: theirs.start },
        ProcessState::Alive { start: Some(other(theirs.start)) },
        ProcessState::Replaced,
    ];
    let namespaces = [None, theirs.pid_namespace, Some(other(theirs.pid_namespace))];
    let boots = [None, record.and_then(|record| record.boot_id.clone()), Some(other_boot)];
    let kinds = boots.len() * namespaces.len() * processes.len();
    let first = usize::try_from(ours.number % kinds as u64).unwrap_or(0);
    for kind in (first..kinds).chain(0..first).take(cases) {
        let (boot, namespace, process) = (kind % 3, kind / 3 % 3, kind / 9);
        let identity = ProcessIdentity {
            boot: boots[boot].clone(),
            pid_namespace: namespaces[namespace],
            ..ours.identity.clone()
        };
        for bits in 0..64_u8 {
            let bit = |number: u8| bits >> number & 1 == 1;
            check_verdict(&Evidence {
                record,
                file: FILE,
                empty: bit(0),
                released: bit(4),
                young: bit(1),
                process: processes[process],
                identity: &identity,
                fs: if bit(2) { FsKind::Local } else { FsKind::Shared },
                kernel_locks: bit(3),
                by_another_mount: bit(5),
            });
        }
    }
}

fn check_verdict(evidence: &Evidence<'_>) {
    let (found, reason) = match judge(evidence) {
        Verdict::BeingCreated => (Expected::BeingCreated, "-".to_owned()),
        Verdict::Free => (Expected::Free, "-".to_owned()),
        Verdict::Held(reason) => (Expected::Held, reason),
        Verdict::Stale(reason) => (Expected::Stale, reason),
    };
    assert_eq!(found, expected(evidence), "{evidence:?}");
    assert!(!reason.trim().is_empty() && is_harmless(&reason), "{reason:?}");
    // Checked again without the table of `expected`, in case that is wrong.
    match found {
        Expected::BeingCreated => {
            assert!(evidence.record.is_none() && evidence.empty && evidence.young, "{evidence:?}");
        }
        Expected::Stale => {
            assert!(!may_be_the_holder(evidence), "a live holder's lock was called stale: {evidence:?}");
            assert!(evidence.kernel_locks || is_dead_on_this_boot(evidence), "without proof: {evidence:?}");
        }
        Expected::Free => assert!(evidence.released && evidence.kernel_locks, "{evidence:?}"),
        Expected::Held => {}
    }
}

/// The table of the protocol, row by row. A value that one side lacks counts as equal.
fn expected(evidence: &Evidence<'_>) -> Expected {
    let stale_if = |stale: bool| if stale { Expected::Stale } else { Expected::Held };
    let Some(record) = evidence.record else {
        if evidence.released && evidence.kernel_locks {
            return Expected::Free;
        }
        // An empty, young file is being created. Any other one is stale, but only kernel locks prove that.
        if evidence.empty && evidence.young {
            return Expected::BeingCreated;
        }
        return stale_if(evidence.kernel_locks);
    };
    if !evidence.kernel_locks {
        return stale_if(is_dead_on_this_boot(evidence));
    }
    let is_local_to_both = record.fs.as_deref() == Some("local") && evidence.fs == FsKind::Local;
    match (&record.boot_id, &evidence.identity.boot) {
        // A legacy record.
        (None, _) if record.v.is_none() => stale_if(!is_alive(evidence.process)),
        (Some(theirs), Some(ours)) if theirs == ours => {
            stale_if(!may_be_the_holder(evidence) && !may_hold_another_mount(evidence))
        }
        (Some(_), Some(_)) => stale_if(is_local_to_both),
        _ => stale_if(is_local_to_both && !may_be_the_holder(evidence) && !may_hold_another_mount(evidence)),
    }
}

/// Whether the process of the record runs here and is not known to be a later process with the same pid.
fn may_be_the_holder(evidence: &Evidence<'_>) -> bool {
    let (record, start) = match (evidence.record, evidence.process) {
        (Some(record), ProcessState::Alive { start }) => (record, start),
        // Another copy of the package in the same process may hold it, which the kernel lock shows.
        (Some(record), ProcessState::Replaced) if !evidence.kernel_locks => (record, None),
        _ => return false,
    };
    let has_boots = record.boot_id.is_some() && evidence.identity.boot.is_some();
    (!has_boots || is_this_boot(record, evidence.identity))
        && is_this_namespace(record, evidence.identity)
        && !is_copy(record, evidence)
        && (record.start_time == start || record.start_time.is_none() || start.is_none())
}

/// Whether the process of the record is not visible here, and its kernel lock may be one of another mount.
fn may_hold_another_mount(evidence: &Evidence<'_>) -> bool {
    evidence.by_another_mount
        && evidence
            .record
            .is_some_and(|record| !is_this_namespace(record, evidence.identity) && !is_copy(record, evidence))
}

fn is_copy(record: &Record, evidence: &Evidence<'_>) -> bool {
    let is_local_to_both = record.fs.as_deref() == Some("local") && evidence.fs == FsKind::Local;
    is_local_to_both
        && record.file.as_ref().is_some_and(|file| *file != format!("{}:{}", FILE.device, FILE.inode))
}

fn is_dead_on_this_boot(evidence: &Evidence<'_>) -> bool {
    evidence.record.is_some_and(|record| {
        is_this_boot(record, evidence.identity)
            && (is_this_namespace(record, evidence.identity) || is_copy(record, evidence))
            && !may_be_the_holder(evidence)
    })
}

fn is_this_boot(record: &Record, identity: &ProcessIdentity) -> bool {
    record.boot_id.is_some() && record.boot_id == identity.boot
}

fn is_this_namespace(record: &Record, identity: &ProcessIdentity) -> bool {
    record.pid_ns == identity.pid_namespace || record.pid_ns.is_none() || identity.pid_namespace.is_none()
}

fn is_alive(process: ProcessState) -> bool {
    matches!(process, ProcessState::Alive { .. } | ProcessState::Replaced)
}
