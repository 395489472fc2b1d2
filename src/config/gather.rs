//! The layers a value can come from, laid over each other: flag over environment over file over default.
//!
//! Text in, text out: what a value means is read later, and only by who needs it. What cannot wait is found
//! here: names nobody knows, and secrets set twice.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::parse;
use super::problem::{Origin, Problem, Wrong};
use super::settings::{ENV_PREFIX, Kind, OTHER_VARIABLES, Preset, SETTINGS, Setting};

/// Names closer than this are offered as what was meant.
const ALIKE: f64 = 0.6;

/// A value as it was written.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Raw {
    One(String),
    Many(Vec<String>),
}

/// What the outside says. The process's own environment and disk, or a test's.
pub struct Sources<'a> {
    /// What the command line says, by key (or by key of a secret's file).
    pub flags: Vec<(String, Vec<String>)>,
    /// The configuration file that the command line names.
    pub config: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Reads a whole file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// A value and where it came from.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// What was gathered, and what was wrong with it. `Debug` shows no secret.
pub struct Settings {
    given: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(SETTINGS.iter().map(|setting| (setting.key, self.shown(setting)))).finish()
    }
}

impl Settings {
    /// Lays the layers over each other. Never fails: what is wrong is told by whoever reads it.
    pub fn gather(sources: &Sources<'_>) -> Self {
        let mut settings = Self { given: BTreeMap::new(), problems: Vec::new() };
        let environment = settings.environment(&sources.environment);
        let named = sources.config.clone().or_else(|| {
            environment.iter().find(|(key, ..)| key == "config").map(|(_, raw, _)| PathBuf::from(raw.flat()))
        });
        if let Some(path) = named {
            let file = settings.file(&path, sources.read);
            settings.lay(file, sources.read);
        }
        settings.lay(environment.into_iter().filter(|(key, ..)| !is_other(key)).collect(), sources.read);
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

    /// What is wrong with names, files and secrets, whatever the values are.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The value that holds: given, default, or derived. `None`: unset.
    pub(super) fn effective(&self, setting: &Setting) -> Option<Given> {
        if let Some(given) = self.given.get(setting.key) {
            return Some(given.clone());
        }
        match setting.default {
            Preset::Required { .. } | Preset::Unset { .. } => None,
            Preset::Value(value) => Some(Given { raw: Raw::One(value.to_owned()), origin: Origin::Default }),
            Preset::Derived { unless: Some(other), .. } if self.given.contains_key(other) => None,
            Preset::Derived { from, suffix, .. } => {
                let base = self.effective(Setting::find(from)?)?.raw.flat();
                let text = if suffix.is_empty() {
                    base
                } else {
                    format!("{}{suffix}", base.strip_suffix('/').unwrap_or(&base))
                };
                Some(Given { raw: Raw::One(text), origin: Origin::Derived(from) })
            }
        }
    }

    /// Whether somebody set it.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// The value that holds, as it may be shown: of a secret, that it is there. `None`: unset.
    pub fn shown(&self, setting: &Setting) -> Option<String> {
        self.effective(setting).map(|given| given.shown(setting))
    }

    /// One layer over what is there.
    fn lay(&mut self, layer: Vec<(String, Raw, Origin)>, read: &dyn Fn(&Path) -> io::Result<String>) {
        let mut here: BTreeMap<&'static str, Given> = BTreeMap::new();
        for (key, raw, origin) in layer {
            let own = Setting::find(&key);
            let by_file = || SETTINGS.iter().find(|setting| setting.secret && setting.file_key() == key);
            let Some(setting) = own.or_else(by_file) else {
                self.problems.push(unknown(&key, &origin));
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
                // Editors and `echo` end a file with a newline that is not part of the secret.
                let text = text.trim_end_matches(['\r', '\n']);
                if !text.is_empty() {
                    let origin = Origin::SecretFile { path, named_by: Box::new(named_by) };
                    return Some(Given { raw: Raw::One(text.to_owned()), origin });
                }
                Wrong::new("the file is empty", "write the secret into it")
            }
            Err(error) => Wrong::new(
                format!("the file cannot be read: {error}"),
                "mend the path or its permissions for the user that nas-cron runs as",
            ),
        };
        let origin = Origin::SecretFile { path, named_by: Box::new(named_by) };
        self.problems.push(Problem::about(setting.key, None, &origin, wrong));
        None
    }

    /// What our prefix names. An empty variable counts as unset: compose files write `${X:-}`.
    fn environment(&mut self, variables: &[(OsString, OsString)]) -> Vec<(String, Raw, Origin)> {
        let mut found = Vec::new();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
            if is_service_link(key, &value.to_string_lossy()) || value.is_empty() {
                continue;
            }
            let origin = Origin::Environment(name.clone().into_owned());
            match value.to_str() {
                Some(value) => {
                    found.push((key.to_ascii_lowercase(), Raw::One(value.to_owned()), origin));
                }
                None => self
                    .problems
                    .push(Problem::other(name, Wrong::new("is not valid UTF-8", "set it to text"))),
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    }

    fn file(
        &mut self,
        path: &Path,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Vec<(String, Raw, Origin)> {
        let name = path.display();
        let text = match read(path) {
            Ok(text) => text,
            Err(error) => {
                let wrong = Wrong::new(
                    format!("the configuration file cannot be read: {error}"),
                    "mend --config or NAS_CRON_CONFIG; `nas-cron config example` prints a file to start from",
                );
                self.problems.push(Problem::other(name.to_string(), wrong));
                return Vec::new();
            }
        };
        let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let table = match DeTable::parse(&text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                // Not the error's own text: it quotes the line, and the line may hold a secret.
                let line = error.span().map_or(1, |span| line_of(span.start));
                let wrong = Wrong::new(
                    format!("is not TOML: {}", error.message()),
                    "write one `key = value` a line, text in quotes",
                );
                self.problems.push(Problem::other(format!("{name} line {line}"), wrong));
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for (key, value) in table {
            let origin = Origin::File { path: path.to_owned(), line: line_of(key.span().start) };
            match raw_of(value.get_ref()) {
                Ok(raw) => found.push((key.get_ref().to_string(), raw, origin)),
                Err(wrong) => self.problems.push(Problem::about(key.get_ref(), None, &origin, wrong)),
            }
        }
        found
    }
}

impl Raw {
    /// As one text.
    pub(super) fn flat(&self) -> String {
        match self {
            Self::One(text) => text.clone(),
            Self::Many(parts) => parts.join(","),
        }
    }

    fn trimmed(self) -> Self {
        match self {
            Self::One(text) => Self::One(text.trim().to_owned()),
            many @ Self::Many(_) => many,
        }
    }

    /// As a list: texts are split at commas.
    pub(super) fn parts(&self) -> Vec<String> {
        let texts = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        };
        let parts = texts.iter().flat_map(|text| text.split(','));
        parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    }
}

impl Given {
    /// As it may be shown.
    pub(super) fn shown(&self, setting: &Setting) -> String {
        let text = self.raw.flat();
        match setting.kind {
            _ if setting.secret => "***".to_owned(),
            // A token in the place of its hash is a secret that went astray.
            Kind::Hashes => {
                let shown = |part: String| if parse::hash(&part).is_ok() { part } else { "***".to_owned() };
                self.raw.parts().into_iter().map(shown).collect::<Vec<_>>().join(",")
            }
            Kind::BaseUrl | Kind::Url => parse::without_credentials(&text),
            _ => text,
        }
    }
}

fn raw_of(value: &DeValue<'_>) -> Result<Raw, Wrong> {
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.to_string()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| scalar(item.get_ref())).collect();
            texts
                .map(Raw::Many)
                .ok_or_else(|| Wrong::new("is a list of other than text", "put quotes around its values"))
        }
        DeValue::Table(_) => Err(Wrong::new(
            "is a table, and settings have no sections",
            "write the settings flat, `key = value`",
        )),
        other => scalar(other).map(Raw::One).ok_or_else(|| {
            Wrong::new(format!("is a {}, which no setting is", other.type_str()), "put quotes around it")
        }),
    }
}

/// Kubernetes puts `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_8080_TCP_ADDR` and their like into the environment
/// of every pod beside a Service: one that is called `nas-cron` would look like settings of ours.
fn is_service_link(key: &str, value: &str) -> bool {
    let key = format!("_{key}");
    let numbered = |rest: &str| {
        let mut words = rest.split('_');
        words.next().is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
            && words.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
    };
    let is_url = || ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    key.ends_with("_SERVICE_HOST")
        || key.ends_with("_SERVICE_PORT")
        || key.contains("_SERVICE_PORT_")
        || (key.ends_with("_PORT") && is_url())
        || key.match_indices("_PORT_").any(|(at, found)| numbered(&key[at + found.len()..]))
}

/// Whether a variable of our prefix is no setting, but means something to us.
fn is_other(key: &str) -> bool {
    let plain = |name: &str| name[ENV_PREFIX.len()..].to_ascii_lowercase();
    OTHER_VARIABLES.iter().any(|(name, _)| plain(name) == key)
}

/// A name nobody knows, and the one that was probably meant, both in the spelling of where it stands.
fn unknown(key: &str, origin: &Origin) -> Problem {
    let spell: fn(&str) -> String = match origin {
        Origin::Environment(_) => |key| format!("{ENV_PREFIX}{}", key.to_ascii_uppercase()),
        Origin::Flag(_) => |key| format!("--{}", key.replace('_', "-")),
        _ => str::to_owned,
    };
    let others = OTHER_VARIABLES.iter().filter(|_| matches!(origin, Origin::Environment(_)));
    let others = others.map(|(name, _)| name[ENV_PREFIX.len()..].to_ascii_lowercase());
    let names = SETTINGS
        .iter()
        .flat_map(|setting| {
            let file = setting.secret.then(|| setting.file_key());
            [Some(setting.key.to_owned()), file]
        })
        .flatten()
        .chain(others);
    let plain = key.to_ascii_lowercase().replace('-', "_");
    let closest = names
        .map(|name| (strsim::normalized_damerau_levenshtein(&plain, &name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let mend = closest.map_or_else(
        || "remove it, or see `nas-cron config table` for all settings".to_owned(),
        |(_, name)| format!("did you mean {}?", spell(&name)),
    );
    let subject = match origin {
        Origin::Environment(name) | Origin::Flag(name) => name.clone(),
        _ => format!("{key} ({origin})"),
    };
    Problem::other(subject, Wrong::new("there is no such setting", mend))
}
