//! Arguments. `lib/options.ts` has checked them; a directory, a file, a message and settings remain.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use napi::bindgen_prelude::{FromNapiValue, Unknown};
use napi::{JsString, Result, ValueType};

use crate::protocol::error::Error;
use crate::protocol::options::LockOptions;
use crate::protocol::target::Target;

/// The settings of a lock, as `settingsOf` of `lib/options.ts` packs them: the mode, and these bits above it.
const LEGACY: u32 = 1 << 9;
const DURABLE: u32 = 1 << 10;
const SHARED: u32 = 1 << 11;
const MODE: u32 = LEGACY - 1;

/// The lock that a call is about. The outer error is the engine's.
pub(super) fn target_of(
    cwd: Option<Unknown<'_>>,
    file: Unknown<'_>,
    message: Option<Unknown<'_>>,
    settings: Option<u32>,
) -> Result<std::result::Result<Target, Error>> {
    let (cwd, file, message) = (text("cwd", cwd)?, text("file", Some(file))?, text("message", message)?);
    Ok(options_of(cwd, file, message).and_then(|mut options| {
        if let Some(settings) = settings {
            options.legacy = settings & LEGACY != 0;
            options.durable = settings & DURABLE != 0;
            options.mode = settings & MODE;
            options.shared = settings & SHARED != 0;
        }
        resolve(&options)
    }))
}

/// The lock that a call is about, or the call ends with the array of a failure.
macro_rules! target {
    ($env:expr, $cwd:expr, $file:expr, $message:expr, $settings:expr) => {
        match target_of($cwd, $file, $message, $settings)? {
            Ok(target) => target,
            Err(error) => return to_js($env, &State::of($env)?.create.failure, error),
        }
    };
}
pub(super) use target;

type Text = std::result::Result<Option<String>, Error>;

fn options_of(cwd: Text, file: Text, message: Text) -> std::result::Result<LockOptions, Error> {
    let mut options = LockOptions { cwd: cwd?.map(PathBuf::from), ..LockOptions::default() };
    if let Some(file) = file? {
        options.file = PathBuf::from(file);
    }
    if let Some(message) = message? {
        options.message = Cow::Owned(message);
    }
    Ok(options)
}

fn resolve(options: &LockOptions) -> std::result::Result<Target, Error> {
    let target = options.resolve()?;
    if target.path.to_str().is_none() {
        let reason = "the name of the current directory is not valid UTF-8";
        return Err(Error::Unsupported { path: target.path, reason });
    }
    Ok(target)
}

/// A string, if there is one, without lone surrogates: they would arrive on disk as other characters.
fn text(name: &str, value: Option<Unknown<'_>>) -> Result<Text> {
    let Some(value) = value else { return Ok(Ok(None)) };
    if value.get_type()? == ValueType::Undefined {
        return Ok(Ok(None));
    }
    let string = JsString::from_unknown(value)?;
    let utf8 = string.into_utf8()?;
    // For a lone surrogate the engine writes U+FFFD, whose first byte this is. To convert UTF-16 takes longer.
    if !utf8.as_slice().contains(&0xEF)
        && let Ok(text) = utf8.as_str()
    {
        return Ok(Ok(Some(text.to_owned())));
    }
    let ill_formed = || Error::InvalidArgument(format!("The \"{name}\" argument is not well-formed Unicode"));
    Ok(string.into_utf16()?.as_str().map(Some).map_err(|_| ill_formed()))
}

/// A path for JavaScript. Every path that comes here was checked to be UTF-8 when it was made.
pub(super) fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
