//! Converts gathered texts to values. Reads everything first, so that all problems are reported at once.

use std::collections::BTreeSet;

use super::layers::{Given, Raw, Settings};
use super::problem::{ConfigError, Origin, Problem, Wrong};
use super::setting::{Kind, Preset, Setting};
use super::typed_key::{Key, ListKey, OptionalKey};
use super::urls::without_credentials;
use super::values::ValueType;

/// Reads settings and collects problems. For an invalid value it returns a placeholder that never gets out:
/// [`Reader::end`] fails if there was any problem.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    problems: Vec<Problem>,
    invalid: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, problems: settings.problems().to_vec(), invalid: BTreeSet::new() }
    }

    /// Returns the value, or every problem that was found.
    pub(super) fn end<T>(self, value: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() { Ok(value) } else { Err(ConfigError { problems: self.problems }) }
    }

    /// Returns the value of a setting that always has one.
    pub(super) fn value<T>(&mut self, key: &Key<T>) -> T {
        self.read(key.setting, &key.value).unwrap_or_else(key.value.stand_in)
    }

    /// Returns the value of a setting that may be unset; `None` also if it is invalid.
    pub(super) fn optional<T>(&mut self, key: &OptionalKey<T>) -> Option<T> {
        self.read(key.setting, &key.value)
    }

    /// Returns the valid values of a list.
    pub(super) fn list<T>(&mut self, key: &ListKey<T>) -> Vec<T> {
        let setting = key.setting;
        let Some(given) = self.settings.effective(setting) else { return Vec::new() };
        let mut values = Vec::new();
        for part in given.raw.parts() {
            match (key.value.parse)(setting.kind, &part) {
                Ok(value) => values.push(value),
                Err(wrong) => {
                    // The operator may have entered the token instead of its hash.
                    let is_shown = !setting.secret && setting.kind != Kind::Hashes;
                    let shown = is_shown.then(|| without_credentials(&part));
                    self.fault(setting, shown.as_deref(), &given.origin, wrong);
                }
            }
        }
        values
    }

    /// Returns the value of a setting if it is valid, without reporting a problem otherwise.
    pub(super) fn peek<T>(&self, key: &Key<T>) -> Option<T> {
        parsed(&self.settings.effective(key.setting)?, key.setting, &key.value).ok()
    }

    /// Like [`Self::peek`], for a setting that may be unset.
    pub(super) fn peek_optional<T>(&self, key: &OptionalKey<T>) -> Option<T> {
        parsed(&self.settings.effective(key.setting)?, key.setting, &key.value).ok()
    }

    /// Reports a broken rule between settings. The rule is only checked if each of them is valid.
    pub(super) fn rule(&mut self, settings: &[&'static Setting], holds: bool, wrong: &str, fix: &str) {
        if holds || settings.iter().any(|setting| self.invalid.contains(setting.key)) {
            return;
        }
        let part = |setting: &&'static Setting| {
            let given = self.settings.effective(setting);
            let shown = given.as_ref().map(|given| given.shown(setting));
            (setting.key, shown, given.map_or(Origin::Default, |given| given.origin))
        };
        let parts: Vec<_> = settings.iter().map(part).collect();
        self.problems.push(Problem::between(&parts, Wrong::new(wrong, fix)));
    }

    /// True if the operator set it.
    pub(super) fn is_given(&self, setting: &Setting) -> bool {
        self.settings.is_given(setting)
    }

    /// True if it has a value: given, default or derived.
    pub(super) fn has(&self, setting: &Setting) -> bool {
        self.settings.effective(setting).is_some()
    }

    fn fault(&mut self, setting: &'static Setting, shown: Option<&str>, origin: &Origin, wrong: Wrong) {
        // The setting that a derived value comes from was already reported.
        if !matches!(origin, Origin::Derived(_)) {
            self.problems.push(Problem::about(setting.key, shown, origin, wrong));
        }
        self.invalid.insert(setting.key);
    }

    fn read<T>(&mut self, setting: &'static Setting, value: &ValueType<T>) -> Option<T> {
        let Some(given) = self.settings.effective(setting) else {
            // An unreadable secret file was already reported; a missing value would only repeat that.
            let reported = |problem: &Problem| problem.keys.iter().any(|key| key == setting.key);
            if matches!(setting.default, Preset::Required { .. }) && !self.problems.iter().any(reported) {
                self.problems.push(Problem::missing(setting));
            }
            self.invalid.insert(setting.key);
            return None;
        };
        match parsed(&given, setting, value) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let shown = given.shown(setting);
                self.fault(setting, (!setting.secret).then_some(&shown), &given.origin, wrong);
                None
            }
        }
    }
}

fn parsed<T>(given: &Given, setting: &Setting, value: &ValueType<T>) -> Result<T, Wrong> {
    match &given.raw {
        Raw::One(text) => (value.parse)(setting.kind, text),
        Raw::Many(_) => Err(Wrong::new("is a list", "set one value")),
    }
}
