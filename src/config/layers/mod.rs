//! Sources of values, in order of precedence: flag, environment, file, default.
//!
//! Values stay text here and are parsed later, by the code that needs them. Unknown names and secrets that are set twice are
//! reported here.

mod environment;
mod file;
mod raw;
mod unknown;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use self::environment::Entry;
pub(super) use self::raw::{Given, Raw};
use super::problem::{Origin, Problem, Wrong};
use super::setting::{Preset, Setting};

/// Input: the process's own environment and file system, or a test's.
pub struct Sources<'a> {
    /// Command-line values by key, or by the key of a secret's file.
    pub flags: Vec<(String, Vec<String>)>,
    /// Configuration file named on the command line.
    pub config: Option<PathBuf>,
    /// Environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Reads a whole file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// The gathered values and their problems. `Debug` shows no secrets.
pub struct Settings {
    table: &'static [Setting],
    given: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.table.iter().map(|setting| (setting.key, self.shown(setting)))).finish()
    }
}

impl Settings {
    /// Merges the layers for the settings of this table. Never fails: problems are reported when values are read.
    pub(super) fn lay_over(table: &'static [Setting], sources: &Sources<'_>) -> Self {
        let mut settings = Self { table, given: BTreeMap::new(), problems: Vec::new() };
        let environment = environment::read(&sources.environment, &mut settings.problems);
        let named = sources.config.clone().or_else(|| {
            environment.iter().find(|(key, ..)| key == "config").map(|(_, raw, _)| PathBuf::from(raw.flat()))
        });
        if let Some(path) = named {
            let file = file::read(&path, sources.read, &mut settings.problems);
            settings.lay(file, sources.read);
        }
        settings.lay(
            environment.into_iter().filter(|(key, ..)| !environment::is_other(key)).collect(),
            sources.read,
        );
        let flags = sources.flags.iter().map(|(key, values)| {
            let raw = match values.as_slice() {
                [one] => Raw::One(one.clone()),
                several => Raw::Many(several.to_vec()),
            };
            (key.clone(), raw, Origin::Flag(format!("--{}", key.replace('_', "-"))))
        });
        settings.lay(flags.collect(), sources.read);
        settings
    }

    /// Returns the problems of names, files and secrets, independent of values.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the effective value: given, default, or derived. `None` if unset.
    pub(super) fn effective(&self, setting: &Setting) -> Option<Given> {
        if let Some(given) = self.given.get(setting.key) {
            return Some(given.clone());
        }
        match setting.default {
            Preset::Required { .. } | Preset::Unset { .. } => None,
            Preset::Value(value) => Some(Given { raw: Raw::One(value.to_owned()), origin: Origin::Default }),
            Preset::Derived { unless: Some(other), .. } if self.is_given(other) => None,
            Preset::Derived { from, suffix, .. } => {
                let base = self.effective(from)?.raw.flat();
                let text = if suffix.is_empty() {
                    base
                } else {
                    format!("{}{suffix}", base.strip_suffix('/').unwrap_or(&base))
                };
                Some(Given { raw: Raw::One(text), origin: Origin::Derived(from.key) })
            }
        }
    }

    /// True if the operator set it.
    pub(super) fn is_given(&self, setting: &Setting) -> bool {
        self.given.contains_key(setting.key)
    }

    /// True if the setting was given on the command line.
    pub fn is_flag(&self, setting: &Setting) -> bool {
        self.given.get(setting.key).is_some_and(|given| matches!(given.origin, Origin::Flag(_)))
    }

    /// Returns the effective value for display, `***` for a secret. `None` if unset.
    pub fn shown(&self, setting: &Setting) -> Option<String> {
        self.effective(setting).map(|given| given.shown(setting))
    }

    /// Adds one layer, which overrides the earlier ones.
    fn lay(&mut self, layer: Vec<Entry>, read: &dyn Fn(&Path) -> io::Result<String>) {
        let mut here: BTreeMap<&'static str, Given> = BTreeMap::new();
        for (key, raw, origin) in layer {
            let own = self.table.iter().find(|setting| setting.key == key);
            let by_file = || self.table.iter().find(|setting| setting.secret && setting.file_key() == key);
            let Some(setting) = own.or_else(by_file) else {
                self.problems.push(unknown::unknown(&key, &origin, self.table));
                continue;
            };
            if let Some(other) = here.get(setting.key) {
                self.problems.push(Problem::between(
                    &[(setting.key, None, other.origin.clone()), (&key, None, origin)],
                    Wrong::new("both are set", "keep one of them"),
                ));
                continue;
            }
            let given = if own.is_some() {
                Some(Given { raw: raw.trimmed(), origin })
            } else {
                self.secret_file(setting, &raw.flat(), origin, read)
            };
            if let Some(given) = given {
                here.insert(setting.key, given);
            }
        }
        self.given.extend(here);
    }

    fn secret_file(
        &mut self,
        setting: &Setting,
        path: &str,
        named_by: Origin,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Option<Given> {
        let path = PathBuf::from(path);
        let wrong = match read(&path) {
            Ok(text) => {
                // Editors and `echo` append a newline that is not part of the secret.
                let text = text.trim_end_matches(['\r', '\n']);
                if !text.is_empty() {
                    let origin = Origin::SecretFile { path, named_by: Box::new(named_by) };
                    return Some(Given { raw: Raw::One(text.to_owned()), origin });
                }
                Wrong::new("is empty", "write the secret into it")
            }
            Err(error) => Wrong::new(
                format!("could not be read: {error}"),
                "fix the path, or let the user that runs nas-cron read the file",
            ),
        };
        let origin = Origin::SecretFile { path, named_by: Box::new(named_by) };
        self.problems.push(Problem::about(setting.key, None, &origin, wrong));
        None
    }
}
