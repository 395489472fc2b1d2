//! From gathered texts to values. Reads everything before it complains, so that all problems are reported at once.

use std::collections::BTreeSet;

use super::layers::{Given, Raw, Settings};
use super::problem::{ConfigError, Origin, Problem, Wrong};
use super::setting::{Kind, Preset, Setting};
use super::typed_key::{Key, ListKey, OptionalKey};
use super::values::ValueType;

/// Reads settings and collects problems. In the place of a value that is wrong it gives a stand-in, which never gets
/// out: [`Reader::end`] returns nothing where there was a problem.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    problems: Vec<Problem>,
    unsound: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, problems: settings.problems().to_vec(), unsound: BTreeSet::new() }
    }

    /// The value that was read, or every problem.
    pub(super) fn end<T>(self, value: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() { Ok(value) } else { Err(ConfigError { problems: self.problems }) }
    }

    /// The value of a setting that always has one.
    pub(super) fn value<T>(&mut self, key: &Key<T>) -> T {
        self.read(key.setting, &key.value).unwrap_or_else(key.value.stand_in)
    }

    /// The value of a setting that may be unset. `None` also where it is wrong.
    pub(super) fn optional<T>(&mut self, key: &OptionalKey<T>) -> Option<T> {
        self.read(key.setting, &key.value)
    }

    /// The values of a list that are sound.
    pub(super) fn list<T>(&mut self, key: &ListKey<T>) -> Vec<T> {
        let setting = key.setting;
        let Some(given) = self.settings.effective(setting) else { return Vec::new() };
        let mut values = Vec::new();
        for part in given.raw.parts() {
            match (key.value.parse)(setting.kind, &part) {
                Ok(value) => values.push(value),
                Err(wrong) => {
                    // What should be a hash may be the token itself.
                    let shown = (setting.kind != Kind::Hashes).then_some(part.as_str());
                    self.fault(setting, shown, &given.origin, wrong);
                }
            }
        }
        values
    }

    /// The value of a setting if it is sound, without a report if it is not.
    pub(super) fn peek<T>(&self, key: &Key<T>) -> Option<T> {
        parsed(&self.settings.effective(key.setting)?, key.setting, &key.value).ok()
    }

    /// Reports a broken rule between settings. A rule is judged only where each of them is sound.
    pub(super) fn rule(&mut self, settings: &[&'static Setting], holds: bool, wrong: &str, fix: &str) {
        if holds || settings.iter().any(|setting| self.unsound.contains(setting.key)) {
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

    /// Whether the operator set it.
    pub(super) fn is_given(&self, setting: &Setting) -> bool {
        self.settings.is_given(setting)
    }

    /// Whether it has a value: given, default or derived.
    pub(super) fn has(&self, setting: &Setting) -> bool {
        self.settings.effective(setting).is_some()
    }

    fn fault(&mut self, setting: &'static Setting, shown: Option<&str>, origin: &Origin, wrong: Wrong) {
        // What a derived value is wrong about was said of the setting that it is derived from.
        if !matches!(origin, Origin::Derived(_)) {
            self.problems.push(Problem::about(setting.key, shown, origin, wrong));
        }
        self.unsound.insert(setting.key);
    }

    fn read<T>(&mut self, setting: &'static Setting, value: &ValueType<T>) -> Option<T> {
        let Some(given) = self.settings.effective(setting) else {
            // A secret file that could not be read was reported; that nothing is set would be the second half.
            let reported = |problem: &Problem| problem.keys.iter().any(|key| key == setting.key);
            if matches!(setting.default, Preset::Required { .. }) && !self.problems.iter().any(reported) {
                self.problems.push(Problem::missing(setting));
            }
            self.unsound.insert(setting.key);
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
