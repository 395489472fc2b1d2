//! Unknown names.

use super::super::problem::{Origin, Problem, Wrong};
use super::super::setting::{ENV_PREFIX, OTHER_VARIABLES, Setting};

/// Minimum similarity of a suggested name.
const ALIKE: f64 = 0.6;

/// Creates the problem of an unknown name, with a suggestion in the spelling of the same layer.
pub(super) fn unknown(key: &str, origin: &Origin, table: &[Setting]) -> Problem {
    let spell: fn(&str) -> String = match origin {
        Origin::Environment(_) => |key| format!("{ENV_PREFIX}{}", key.to_ascii_uppercase()),
        Origin::Flag(_) => |key| format!("--{}", key.replace('_', "-")),
        _ => str::to_owned,
    };
    let others = OTHER_VARIABLES.iter().filter(|_| matches!(origin, Origin::Environment(_)));
    let others = others.map(|(name, _)| name[ENV_PREFIX.len()..].to_ascii_lowercase());
    let names = table
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
    let fix = closest.map_or_else(
        || "remove it; `nas-cron config table` lists all settings".to_owned(),
        |(_, name)| format!("did you mean {}?", spell(&name)),
    );
    let subject = match origin {
        Origin::Environment(name) | Origin::Flag(name) => name.clone(),
        _ => format!("{key} ({origin})"),
    };
    Problem::other(subject, Wrong::new("is not a setting", fix))
}
