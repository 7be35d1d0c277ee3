//! Arguments. Whatever is wrong with them is said before anything is touched on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use napi::bindgen_prelude::{FromNapiValue, JsObjectValue, Object, Unknown};
use napi::{Env, JsString, JsValue, Result, ValueType};

use super::failure::{pending, thrown};
use crate::target::{LockOptions, Target};

/// Which options a function takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// A directory alone.
    Directory,
    /// `LockOptions`.
    Lock,
    /// `AcquireOptions`.
    Acquire,
    /// `BreakOptions`.
    Break,
}

impl Allowed {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Directory => &[],
            Self::Lock => &["cwd", "file", "message"],
            Self::Acquire => &["cwd", "file", "message", "timeout", "signal", "onWait"],
            Self::Break => &["cwd", "file", "message", "force"],
        }
    }
}

/// What a call asks for.
pub(super) struct Request {
    pub(super) target: Target,
    pub(super) timeout: Duration,
    pub(super) force: bool,
}

impl Request {
    pub(super) fn parse(env: &Env, value: Unknown<'_>, allowed: Allowed) -> Result<Self> {
        let mut parsed = Parsed { env, lock: LockOptions::default(), timeout: Duration::ZERO, force: false };
        match value.get_type()? {
            ValueType::Undefined => {}
            ValueType::String => parsed.lock.cwd = Some(parsed.path("cwd", value)?),
            ValueType::Object if allowed != Allowed::Directory && !value.is_array()? => {
                parsed.options(&Object::from_unknown(value)?, allowed)?;
            }
            _ if allowed == Allowed::Directory => return parsed.wrong_type("cwd", "of type string", value),
            _ => return parsed.wrong_type("options", "of type string or an object", value),
        }
        let target = parsed.lock.resolve().map_err(|error| thrown(env, error))?;
        if target.path.to_str().is_none() {
            return parsed.wrong_value("The current directory's name is not valid UTF-8");
        }
        Ok(Self { target, timeout: parsed.timeout, force: parsed.force })
    }
}

struct Parsed<'env> {
    env: &'env Env,
    lock: LockOptions,
    timeout: Duration,
    force: bool,
}

impl Parsed<'_> {
    fn options(&mut self, options: &Object<'_>, allowed: Allowed) -> Result<()> {
        let mut signal = None;
        for name in Object::keys(options)? {
            if !allowed.names().contains(&name.as_str()) {
                return self.wrong_value(&format!(
                    "The option \"{name}\" is unknown. Known options: {}",
                    allowed.names().join(", ")
                ));
            }
            let value: Unknown<'_> = options.get_named_property_unchecked(&name)?;
            if value.get_type()? == ValueType::Undefined {
                continue;
            }
            match name.as_str() {
                "cwd" => self.lock.cwd = Some(self.path("options.cwd", value)?),
                "file" => self.lock.file = self.path("options.file", value)?,
                "message" => self.lock.message = self.text("options.message", value)?.into(),
                "timeout" => self.timeout = self.duration("options.timeout", value)?,
                "force" => self.force = self.boolean("options.force", value)?,
                "onWait" if value.get_type()? != ValueType::Function => {
                    return self.wrong_type("options.onWait", "of type function", value);
                }
                "onWait" => {}
                _ => signal = Some(self.signal("options.signal", value)?),
            }
        }
        match signal {
            Some(signal)
                if signal.get_named_property_unchecked::<Unknown<'_>>("aborted")?.coerce_to_bool()? =>
            {
                self.env.throw(signal.get_named_property_unchecked::<Unknown<'_>>("reason")?)?;
                Err(pending())
            }
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str, value: Unknown<'_>) -> Result<PathBuf> {
        self.text(name, value).map(PathBuf::from)
    }

    /// A string without lone surrogates, which would arrive on disk as other characters.
    fn text(&self, name: &str, value: Unknown<'_>) -> Result<String> {
        if value.get_type()? != ValueType::String {
            return self.wrong_type(name, "of type string", value);
        }
        let text = JsString::from_unknown(value)?.into_utf16()?;
        text.as_str()
            .or_else(|_| self.wrong_value(&format!("The \"{name}\" argument is not well-formed Unicode")))
    }

    fn duration(&self, name: &str, value: Unknown<'_>) -> Result<Duration> {
        if value.get_type()? != ValueType::Number {
            return self.wrong_type(name, "of type number", value);
        }
        let milliseconds = f64::from_unknown(value)?;
        if milliseconds.is_nan() || milliseconds < 0.0 {
            let message =
                format!("The value of \"{name}\" is out of range. It must be >= 0. Received {milliseconds}");
            self.env.throw_range_error(&message, Some("ERR_OUT_OF_RANGE"))?;
            return Err(pending());
        }
        Ok(Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::MAX))
    }

    fn boolean(&self, name: &str, value: Unknown<'_>) -> Result<bool> {
        if value.get_type()? != ValueType::Boolean {
            return self.wrong_type(name, "of type boolean", value);
        }
        bool::from_unknown(value)
    }

    fn signal<'a>(&self, name: &str, value: Unknown<'a>) -> Result<Object<'a>> {
        if value.get_type()? == ValueType::Object {
            let signal = Object::from_unknown(value)?;
            if signal.has_named_property("aborted")? && signal.has_named_property("addEventListener")? {
                return Ok(signal);
            }
        }
        self.wrong_type(name, "an instance of AbortSignal", value)
    }

    fn wrong_type<T>(&self, name: &str, expected: &str, value: Unknown<'_>) -> Result<T> {
        let received = match value.get_type()? {
            kind @ (ValueType::Null | ValueType::Undefined) => format!("{kind}").to_ascii_lowercase(),
            ValueType::Number => format!("type number ({})", f64::from_unknown(value)?),
            ValueType::Object if value.is_array()? => "an instance of Array".to_owned(),
            kind => format!("type {kind}").to_ascii_lowercase(),
        };
        let message = format!("The \"{name}\" argument must be {expected}. Received {received}");
        self.env.throw_type_error(&message, Some("ERR_INVALID_ARG_TYPE"))?;
        Err(pending())
    }

    fn wrong_value<T>(&self, message: &str) -> Result<T> {
        self.env.throw_type_error(message, Some("ERR_INVALID_ARG_VALUE"))?;
        Err(pending())
    }
}

/// A path for JavaScript. Every path that comes here was checked to be UTF-8 when it was made.
pub(super) fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
