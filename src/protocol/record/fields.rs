//! The known keys of a record, as miniserde reads them. Its own `Value` would bring the code of a B-tree.
#![forbid(unsafe_code)]

use miniserde::de::{Deserialize, Map, Seq, Visitor};
use miniserde::{Result, make_place};

make_place!(Place);

/// The value of a known key. The last of several with one key counts.
#[derive(Default)]
pub(super) enum Field {
    /// There is none, or one of another type.
    #[default]
    Other,
    Text(String),
    Integer(u64),
}

impl Field {
    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<u64> {
        if let Self::Integer(integer) = self { Some(*integer) } else { None }
    }

    pub(super) fn small(&self) -> Option<u32> {
        self.integer().and_then(|integer| u32::try_from(integer).ok())
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the methods of a visitor return it")]
    fn set(&mut self, value: Self) -> Result<()> {
        *self = value;
        Ok(())
    }
}

impl Visitor for Field {
    fn null(&mut self) -> Result<()> {
        self.set(Self::Other)
    }

    fn boolean(&mut self, _: bool) -> Result<()> {
        self.set(Self::Other)
    }

    fn string(&mut self, text: &str) -> Result<()> {
        self.set(Self::Text(text.to_owned()))
    }

    fn negative(&mut self, _: i64) -> Result<()> {
        self.set(Self::Other)
    }

    fn nonnegative(&mut self, integer: u64) -> Result<()> {
        self.set(Self::Integer(integer))
    }

    /// An integer as in JavaScript: `1e3` and `1.0` are integers too.
    fn float(&mut self, float: f64) -> Result<()> {
        const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
        let is_integer = float.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&float);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
        self.set(if is_integer { Self::Integer(float as u64) } else { Self::Other })
    }

    fn seq(&mut self) -> Result<Box<dyn Seq + '_>> {
        *self = Self::Other;
        <dyn Visitor>::ignore().seq()
    }

    fn map(&mut self) -> Result<Box<dyn Map + '_>> {
        *self = Self::Other;
        <dyn Visitor>::ignore().map()
    }
}

/// The object.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) pid: Field,
    pub(super) created_at: Field,
    pub(super) host: Field,
    pub(super) boot_id: Field,
    pub(super) start_time: Field,
    pub(super) pid_ns: Field,
    pub(super) thread: Field,
    pub(super) fs: Field,
    pub(super) file: Field,
    pub(super) v: Field,
}

impl Deserialize for Fields {
    fn begin(out: &mut Option<Self>) -> &mut dyn Visitor {
        Place::new(out)
    }
}

impl Visitor for Place<Fields> {
    fn map(&mut self) -> Result<Box<dyn Map + '_>> {
        Ok(Box::new(Builder(self.out.insert(<Fields as Default>::default()))))
    }
}

struct Builder<'a>(&'a mut Fields);

impl Map for Builder<'_> {
    fn key(&mut self, key: &str) -> Result<&mut dyn Visitor> {
        let fields = &mut *self.0;
        Ok(match key {
            "pid" => &mut fields.pid,
            "createdAt" => &mut fields.created_at,
            "host" => &mut fields.host,
            "bootId" => &mut fields.boot_id,
            "startTime" => &mut fields.start_time,
            "pidNs" => &mut fields.pid_ns,
            "thread" => &mut fields.thread,
            "fs" => &mut fields.fs,
            "file" => &mut fields.file,
            "v" => &mut fields.v,
            _ => <dyn Visitor>::ignore(),
        })
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
