//! The table of all settings. Flags, help, environment variables, TOML keys, the table in docs/configuration.md and the
//! example file are generated from it.

use super::sections::{
    administration, backends, database, events, fires, history, identity, keys, leases, listening, logs,
    portal, quotas, retries, stopping, traces,
};
use super::setting::Setting;

/// Rows of each section, in display order.
const SECTIONS: &[&[&[Setting]]] = &[
    &[database::SETTINGS, listening::SETTINGS],
    portal::TABLES,
    &[keys::SETTINGS, identity::SETTINGS, administration::SETTINGS],
    &[quotas::SETTINGS, fires::SETTINGS, retries::SETTINGS, leases::SETTINGS],
    backends::TABLES,
    &[events::SETTINGS, history::SETTINGS, stopping::SETTINGS, logs::SETTINGS, traces::SETTINGS],
];

/// All settings, in display order.
pub const SETTINGS: &[Setting] = &joined::<{ count() }>();

impl Setting {
    /// Returns the setting with this key.
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

const fn count() -> usize {
    let (mut count, mut section) = (0, 0);
    while section < SECTIONS.len() {
        let mut table = 0;
        while table < SECTIONS[section].len() {
            count += SECTIONS[section][table].len();
            table += 1;
        }
        section += 1;
    }
    count
}

const fn joined<const COUNT: usize>() -> [Setting; COUNT] {
    let mut all = [SECTIONS[0][0][0]; COUNT];
    let (mut at, mut section) = (0, 0);
    while section < SECTIONS.len() {
        let mut table = 0;
        while table < SECTIONS[section].len() {
            let mut row = 0;
            while row < SECTIONS[section][table].len() {
                all[at] = SECTIONS[section][table][row];
                at += 1;
                row += 1;
            }
            table += 1;
        }
        section += 1;
    }
    all
}
