//! Problems of a configuration: the setting, the origin of its value, and the fix.

use std::fmt;
use std::path::PathBuf;

use super::setting::Setting;

/// Origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Command line: the flag as written.
    Flag(String),
    /// Environment: the variable's name.
    Environment(String),
    /// Configuration file.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Line number, counted from 1.
        line: usize,
    },
    /// File that contains one secret.
    SecretFile {
        /// Path of the file.
        path: PathBuf,
        /// Origin of the file's name.
        named_by: Box<Origin>,
    },
    /// The default.
    Default,
    /// A default that is derived from the setting with this key.
    Derived(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Environment(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::SecretFile { path, named_by } => write!(f, "{} named by {named_by}", path.display()),
            Self::Default => f.write_str("default"),
            Self::Derived(from) => write!(f, "default, from {from}"),
        }
    }
}

/// Reason why a value is rejected, and the fix. Never quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Reason, as a phrase.
    pub wrong: String,
    /// Fix, as a phrase.
    pub fix: String,
}

impl Wrong {
    /// Creates one from both phrases.
    pub fn new(wrong: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), fix: fix.into() }
    }
}

/// One problem of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Keys of the settings concerned; several for a rule between settings.
    pub keys: Vec<String>,
    /// The settings with values and origins, and what is wrong with them, as one clause.
    clause: String,
    fix: String,
}

impl Problem {
    /// Creates a problem of one value. `wrong` is a predicate, such as "is too short". `shown` is the value if it may be quoted, `None` for a secret.
    pub(super) fn about(key: &str, shown: Option<&str>, origin: &Origin, wrong: Wrong) -> Self {
        Self {
            keys: vec![key.to_owned()],
            clause: format!("{} {}", subject(key, shown, origin), wrong.wrong),
            fix: wrong.fix,
        }
    }

    /// Creates a problem of several settings that conflict. `wrong` is a clause.
    pub(super) fn between(parts: &[(&str, Option<String>, Origin)], wrong: Wrong) -> Self {
        let shown: Vec<_> =
            parts.iter().map(|(key, shown, origin)| subject(key, shown.as_deref(), origin)).collect();
        Self {
            keys: parts.iter().map(|part| part.0.to_owned()).collect(),
            clause: format!("{}: {}", shown.join(" and "), wrong.wrong),
            fix: wrong.fix,
        }
    }

    /// Creates a problem of a required setting that is not set.
    pub(super) fn missing(setting: &Setting) -> Self {
        let or_file = if setting.secret { format!(" or {}_FILE", setting.env()) } else { String::new() };
        Self {
            keys: vec![setting.key.to_owned()],
            clause: format!("{} is not set", setting.key),
            fix: format!(
                "set {}{or_file}, --{}, or {} in the configuration file",
                setting.env(),
                setting.flag(),
                setting.key
            ),
        }
    }

    /// Creates a problem that concerns no setting: an unreadable file, an unknown name. `wrong` is a predicate.
    pub(super) fn other(subject: impl Into<String>, wrong: Wrong) -> Self {
        Self { keys: Vec::new(), clause: format!("{} {}", subject.into(), wrong.wrong), fix: wrong.fix }
    }
}

fn subject(key: &str, shown: Option<&str>, origin: &Origin) -> String {
    match shown {
        Some(value) => format!("{key} = `{value}` ({origin})"),
        None => format!("{key} ({origin})"),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.clause, self.fix)
    }
}

/// All problems of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The problems, at least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "invalid configuration: {one}"),
            several => {
                write!(f, "invalid configuration, {} problems:", several.len())?;
                several.iter().try_for_each(|one| write!(f, "\n  - {one}"))
            }
        }
    }
}
