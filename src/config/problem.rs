//! What is wrong with a configuration: which setting, where it came from, how to fix it.

use std::fmt;
use std::path::PathBuf;

use super::setting::Setting;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line: the flag as it is written.
    Flag(String),
    /// The environment: the variable's name.
    Environment(String),
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A file that holds one secret.
    SecretFile {
        /// The file.
        path: PathBuf,
        /// Who named it.
        named_by: Box<Origin>,
    },
    /// Nobody set it.
    Default,
    /// Nobody set it; it follows another setting.
    Derived(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Environment(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::SecretFile { path, named_by } => write!(f, "{} named by {named_by}", path.display()),
            Self::Default => f.write_str("default"),
            Self::Derived(from) => write!(f, "default, by {from}"),
        }
    }
}

/// Why a value cannot be accepted, and what would be right. Never quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong, as a phrase.
    pub wrong: String,
    /// What to do, as a phrase.
    pub fix: String,
}

impl Wrong {
    /// Both phrases.
    pub fn new(wrong: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), fix: fix.into() }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The keys it is about, one for most problems; several for a cross-check.
    pub keys: Vec<String>,
    /// The same with values and origins, ready to be shown.
    subject: String,
    wrong: Wrong,
}

impl Problem {
    /// About one value. `shown` is what may be quoted of it: nothing of a secret.
    pub(super) fn about(key: &str, shown: Option<&str>, origin: &Origin, wrong: Wrong) -> Self {
        Self { keys: vec![key.to_owned()], subject: subject(key, shown, origin), wrong }
    }

    /// About several settings that do not go together.
    pub(super) fn between(parts: &[(&str, Option<String>, Origin)], wrong: Wrong) -> Self {
        let shown: Vec<_> =
            parts.iter().map(|(key, shown, origin)| subject(key, shown.as_deref(), origin)).collect();
        Self {
            keys: parts.iter().map(|part| part.0.to_owned()).collect(),
            subject: shown.join(" and "),
            wrong,
        }
    }

    /// About a setting that nobody set.
    pub(super) fn missing(setting: &Setting) -> Self {
        let or_file = if setting.secret { format!(" or {}_FILE", setting.env()) } else { String::new() };
        Self {
            keys: vec![setting.key.to_owned()],
            subject: setting.key.to_owned(),
            wrong: Wrong::new(
                "is not set",
                format!(
                    "set {}{or_file}, --{}, or {} in the configuration file",
                    setting.env(),
                    setting.flag(),
                    setting.key
                ),
            ),
        }
    }

    /// About something that is no setting: a file that cannot be read, a name that is not known.
    pub(super) fn other(subject: impl Into<String>, wrong: Wrong) -> Self {
        Self { keys: Vec::new(), subject: subject.into(), wrong }
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
        write!(f, "{}: {}; {}", self.subject, self.wrong.wrong, self.wrong.fix)
    }
}

/// Everything that is wrong with a configuration, at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "the configuration is wrong: {one}"),
            several => {
                write!(f, "the configuration is wrong in {} places:", several.len())?;
                several.iter().try_for_each(|one| write!(f, "\n  - {one}"))
            }
        }
    }
}
