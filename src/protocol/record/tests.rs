//! Tests of the record.

use super::*;

fn identity() -> ProcessIdentity {
    ProcessIdentity {
        pid: 4711,
        start: Some(99),
        boot: Some("8a2f".into()),
        pid_namespace: Some(4_026_531_836),
        host: Some("ledger".into()),
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let record = Record::of(&identity(), 3, 1_764_000_000_000, FsKind::Local);
    let bytes = record.encode();
    assert!(bytes.starts_with(br#"{"pid":4711,"createdAt":1764000000000,"#));
    assert_eq!(bytes.last(), Some(&b'\n'));
    assert_eq!(Record::parse(&bytes), Some(record));
}

#[test]
fn a_record_names_its_file() {
    let file = FileId { device: u64::MAX, inode: u128::MAX };
    let long = ProcessIdentity { host: Some("x".repeat(64)), ..identity() };
    let record = Record::of(&long, u32::MAX, u64::MAX, FsKind::Shared).in_file(file);
    assert_eq!(Record::parse(&record.encode()).as_ref(), Some(&record));
    assert!(!record.names_another_file(file));
    assert!(record.names_another_file(FileId { device: 1, ..file }));
    assert!(record.names_another_file(FileId { inode: 1, ..file }));
    assert!(!Record::of(&identity(), 0, 1, FsKind::Local).names_another_file(file), "an older record");
}

#[test]
fn content_is_classified_as_record_remnant_or_foreign() {
    let record = Record::of(&identity(), 0, 1, FsKind::Local).encode();
    assert!(matches!(Content::of(&record), Content::Record(_)));
    assert_eq!(Content::of(&RELEASED), Content::Released);
    for length in 0..record.iter().position(|byte| *byte == b' ').expect("padded") - 1 {
        let mut torn = record[..length].to_vec();
        assert_eq!(Content::of(&torn), Content::Remnant, "{length} bytes");
        torn.resize(RECORD_LEN, 0);
        assert_eq!(Content::of(&torn), Content::Remnant, "{length} bytes and NUL bytes");
    }
    for remnant in [r#"{ "pid": 77, "crea"#, r#"{"pid":0}"#, "{\n  \"p"] {
        assert_eq!(Content::of(remnant.as_bytes()), Content::Remnant, "{remnant}");
    }
    for foreign in
        ["id,amount\n", "#!/bin/sh\n", "{}", " ", "\n", "[", "{\"name\":1}", "{\"pid\":\"7\"}", "{\"pid\":7x"]
    {
        assert_eq!(Content::of(foreign.as_bytes()), Content::Foreign, "{foreign}");
    }
    assert_eq!(Content::of(b"\0\0x"), Content::Foreign);
}

#[test]
fn a_long_host_name_keeps_the_record_valid() {
    for host in ["x".repeat(300), "\u{1}".repeat(300), "ü".repeat(300)] {
        let record = Record::of(&ProcessIdentity { host: Some(host), ..identity() }, 0, 1, FsKind::Shared);
        let read = Record::parse(&record.encode()).expect("readable");
        assert_eq!((read.pid, read.boot_id), (4711, Some("8a2f".into())));
    }
}

#[test]
fn an_impossible_pid_is_not_a_record() {
    for pid in ["0", "-1", "1.5", "4294967296", "9007199254740992", "\"7\"", "null", "[]", "1e999"] {
        let text = format!(r#"{{"pid":{pid},"createdAt":1}}"#);
        assert_eq!(Record::parse(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn a_pid_above_the_limit_is_not_a_record() {
    for pid in [4_194_305_u32, 1 << 31, u32::MAX] {
        let text = format!(r#"{{"pid":{pid},"createdAt":1}}"#);
        assert_eq!(Record::parse(text.as_bytes()).is_some(), cfg!(windows), "{text}");
    }
}

#[test]
fn other_json_is_not_a_record() {
    let deep = "[".repeat(500);
    for text in
        ["", "{}", "[]", "[7,1]", "7", "\"x\"", "{\"pid\":7", "{\"pid\":7}}", "\u{feff}{\"pid\":7}", &deep]
    {
        assert_eq!(Record::parse(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Record::parse(&[0xff, 0xfe, 0, 7]), None);
}

#[test]
fn legacy_and_newer_records_are_read() {
    let legacy = Record::parse(br#"{ "pid": 7, "createdAt": 12 }"#).expect("a record");
    assert_eq!((legacy.pid, legacy.created_at, legacy.boot_id), (7, Some(12), None));
    let newer = Record::parse(br#"{"pid":1e3,"createdAt":12,"host":5,"bootId":"b","v":9,"lease":{}}"#);
    let newer = newer.expect("a record");
    assert_eq!((newer.pid, newer.host, newer.boot_id, newer.v), (1000, None, Some("b".into()), Some(9)));
}

#[test]
fn the_last_of_two_values_counts() {
    for (values, boot) in [
        (r#""bootId":"a","bootId":"b""#, Some("b")),
        (r#""bootId":5,"bootId":"b""#, Some("b")),
        (r#""boot\u0049d":"b""#, Some("b")),
        (r#""bootId":"a","bootId":5"#, None),
        (r#""bootId":"a","bootId":-5"#, None),
        (r#""bootId":"a","bootId":0.5"#, None),
        (r#""bootId":"a","bootId":null"#, None),
        (r#""bootId":"a","bootId":true"#, None),
        (r#""bootId":"a","bootId":[["c"]]"#, None),
        (r#""bootId":"a","bootId":{"bootId":"c"}"#, None),
    ] {
        let text = format!(r#"{{"pid":6,"pid":7,{values}}}"#);
        let record = Record::parse(text.as_bytes()).expect(values);
        assert_eq!((record.pid, record.boot_id.as_deref()), (7, boot), "{values}");
    }
}

#[test]
fn a_written_host_name_is_json() {
    let host = "a\"b\\c\u{0}\n\u{1f}\u{7f}ü\u{1f600}";
    let quoted = |string| {
        let mut text = Text { bytes: [0; RECORD_LEN], length: 0 };
        text.put_string("", Some(string));
        String::from_utf8(text.bytes[..text.length].to_vec()).expect("UTF-8")
    };
    assert_eq!(json::from_str::<String>(&quoted(host)).expect("JSON"), host);
    assert_eq!(quoted("\u{1f}\""), r#""\u001f\"""#);
    assert_eq!(quoted(""), r#""""#);
}

#[test]
fn control_characters_of_a_host_name_are_escaped() {
    for (host, shown) in [
        (r"\u001b[2J\r\nok", r"\u{1b}[2J\r\nok"),
        (r"a\u2028b\u202ec\u009b", r"a\u{2028}b\u{202e}c\u{9b}"),
        ("büro-7.example", "büro-7.example"),
        (&"h".repeat(400), &"h".repeat(HOST_LEN)),
    ] {
        let text = format!(r#"{{"pid":7,"host":"{host}"}}"#);
        assert_eq!(Record::parse(text.as_bytes()).expect("a record").host.as_deref(), Some(shown));
    }
}

#[test]
fn a_missing_time_is_the_file_time() {
    assert_eq!(Record::parse(br#"{"pid":7}"#).expect("a record").holder(42).created_at, 42);
}
