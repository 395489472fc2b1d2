//! JSON from other programs.
//!
//! Two programs may read the same JSON differently: the first or the last of two equal names counts, a large integer is
//! exact or rounded, half of a surrogate pair is kept or replaced. If one of them checks a request and the other acts on
//! it, the difference is a hole. [`from_slice`] is therefore the only function that reads JSON from outside, and refuses
//! such JSON wherever the part is, also if nothing reads it (docs/contract.md#json).

mod field_names;
mod names;
mod numbers;
mod scan;
mod unsound;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use serde_json::{Map, Value};

pub use self::field_names::field_names;
pub use self::numbers::MAX_INTEGER;
pub use self::scan::MAX_DEPTH;
pub use self::unsound::{Problem, Unsound};

/// JSON was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two readers could read it differently.
    #[error(transparent)]
    Unsound(#[from] Unsound),
    /// It is not JSON, or not of the expected type.
    #[error(transparent)]
    Serde(#[from] serde_json::Error),
}

impl Error {
    /// Returns the line, from 1; 0 if unknown.
    pub fn line(&self) -> usize {
        match self {
            Self::Unsound(unsound) => unsound.line,
            Self::Serde(error) => error.line(),
        }
    }

    /// Returns the column in bytes, from 1; 0 if unknown.
    pub fn column(&self) -> usize {
        match self {
            Self::Unsound(unsound) => unsound.column,
            Self::Serde(error) => error.column(),
        }
    }

    /// True if it is JSON, but not of the expected type.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Serde(error) if error.is_data())
    }

    /// True if the JSON is incomplete.
    pub fn is_eof(&self) -> bool {
        matches!(self, Self::Serde(error) if error.is_eof())
    }

    /// Returns the reason if two readers could read it differently.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            Self::Unsound(unsound) => Some(unsound.problem),
            Self::Serde(_) => None,
        }
    }
}

/// Parses JSON that every reader reads in the same way. A struct is read only from an object; its fields' names are
/// known names.
pub fn from_slice<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Error> {
    let known = field_names::<T>();
    let text = check(json, known)?;
    // serde's derive would also accept an array.
    if !known.is_empty() && text.trim_start().starts_with('[') {
        return Err(Unsound { problem: Problem::Array, field: None, index: None, line: 1, column: 1 }.into());
    }
    Ok(serde_json::from_str(text)?)
}

/// Parses the log of a trusted server that quotes texts of other programs. One of them must not be able to hide the
/// entries of all others with half of a surrogate pair or a NUL character. Only UTF-8 and what is read are checked.
pub fn from_log<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Error> {
    Ok(serde_json::from_str(text(json)?)?)
}

/// Parses an object whose fields are looked up by name. `known` are their names.
pub fn object(json: &[u8], known: &[&str]) -> Result<Map<String, Value>, Error> {
    Ok(serde_json::from_str(check(json, known)?)?)
}

/// Checks that `json` is valid JSON that every reader reads in the same way, and returns it as text. `known` are the
/// names that the reader knows in the outermost object: others must not differ from them by case only.
///
/// Linear, and without an allocation unless an object has more than 16 names or a string has escapes.
pub fn check<'a>(json: &'a [u8], known: &[&str]) -> Result<&'a str, Error> {
    let text = text(json)?;
    match scan::scan(text, known) {
        Ok(()) => Ok(text),
        Err(Some(unsound)) => Err(unsound.into()),
        Err(None) => {
            let found = serde_json::from_str::<IgnoredAny>(text).err();
            Err(found.unwrap_or_else(|| serde_json::Error::custom("invalid JSON")).into())
        }
    }
}

/// Returns the JSON as text. The error has the position of invalid UTF-8.
fn text(json: &[u8]) -> Result<&str, serde_json::Error> {
    std::str::from_utf8(json).map_err(|invalid| {
        // Reading all of it finds the position.
        let found = serde_json::from_slice::<Value>(json).err();
        found.unwrap_or_else(|| serde_json::Error::custom(invalid))
    })
}

#[cfg(test)]
mod tests;
