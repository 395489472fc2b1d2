//! `nas-cron keys list`.

use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};

use super::KeysContext;
use crate::domain::{KeyState, PrivateHalf, StoredKey};
use crate::keys::rotation::{self, Planned, RotationPolicy, Step};
use crate::keys::sweep::records;

pub(super) async fn run(
    context: &KeysContext,
    all: bool,
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (now, keys) = context.db.signing_keys_now().await?;
    print(now, &keys, &context.policy, all, as_json, out)
}

/// Prints; pure but for `out`.
pub(super) fn print(
    now: DateTime<Utc>,
    keys: &[StoredKey],
    policy: &RotationPolicy,
    all: bool,
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let public = records(keys);
    let planned = rotation::plan(&public, policy);
    let by_hand = rotation::is_by_hand(&public);
    let shown: Vec<_> = keys.iter().filter(|key| all || key.record.is_published()).collect();
    if as_json {
        let keys: Vec<_> = shown.iter().map(|key| to_json(key, upcoming(key, &planned))).collect();
        let upcoming: Vec<_> = planned.iter().map(planned_json).collect();
        let rotation = if by_hand { "by_hand" } else { "automatic" };
        writeln!(
            out,
            "{:#}",
            json!({ "now": now, "rotation": rotation, "keys": keys, "upcoming": upcoming })
        )?;
        return Ok(());
    }
    if shown.is_empty() {
        writeln!(out, "There are no signing keys yet: `nas-cron serve` makes the first one.")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["kid", "alg", "state", "origin", "published", "active", "retired", "what is next"]);
    for key in &shown {
        let record = &key.record;
        let ago =
            |at: Option<DateTime<Utc>>| at.map_or(String::new(), |at| format!("{} ago", span(now - at)));
        table.add_row([
            record.kid.clone(),
            record.alg.to_string(),
            record.state.to_string(),
            origin(key),
            ago(Some(record.published_at)),
            ago(record.activated_at),
            ago(record.retired_at.filter(|_| record.state != KeyState::Gone)),
            what_is_next(now, key, upcoming(key, &planned), by_hand, policy),
        ]);
    }
    writeln!(out, "{table}")?;
    for Planned { at, step } in &planned {
        writeln!(out, "{}: {step}, since {}.", when(now, *at), step.reason())?;
    }
    if by_hand {
        writeln!(out, "Rotation is by hand: an imported key is in use.")?;
    }
    Ok(())
}

/// The planned step that concerns `key`; making a successor concerns the active one.
fn upcoming<'a>(key: &StoredKey, planned: &'a [Planned]) -> Option<&'a Planned> {
    planned.iter().find(|one| match &one.step {
        Step::Generate { .. } => key.record.state == KeyState::Active,
        step => step.kid() == Some(&key.record.kid),
    })
}

fn what_is_next(
    now: DateTime<Utc>,
    key: &StoredKey,
    planned: Option<&Planned>,
    by_hand: bool,
    policy: &RotationPolicy,
) -> String {
    match (planned, key.record.state) {
        (Some(Planned { at, step: Step::Generate { .. } }), _) => {
            format!("a successor is published {}", when(now, *at))
        }
        (Some(Planned { at, step: Step::Activate { .. } }), _) => format!("signs {}", when(now, *at)),
        (Some(Planned { at, step: Step::Remove { .. } }), _) => format!("removed {}", when(now, *at)),
        (None, KeyState::Next) if by_hand => match key.record.seen_at {
            None => "by hand: has to show at the agents' JWKS URL".to_owned(),
            Some(seen) => format!("by hand: may sign {}", when(now, seen + policy.lead())),
        },
        (None, KeyState::Active) if by_hand => "by hand".to_owned(),
        _ => String::new(),
    }
}

fn origin(key: &StoredKey) -> String {
    let made = if key.record.imported { "imported" } else { "generated" };
    match &key.private {
        PrivateHalf::File(path) => format!("{made}, {}", path.display()),
        PrivateHalf::Sealed { .. } | PrivateHalf::Erased => made.to_owned(),
    }
}

fn to_json(key: &StoredKey, planned: Option<&Planned>) -> Value {
    let record = &key.record;
    let (stored, path) = match &key.private {
        PrivateHalf::Sealed { .. } => ("database", None),
        PrivateHalf::File(path) => ("file", Some(path)),
        PrivateHalf::Erased => ("erased", None),
    };
    json!({
        "kid": record.kid, "alg": record.alg, "state": record.state, "imported": record.imported,
        "private_key": stored, "pem_path": path,
        "published_at": record.published_at, "activated_at": record.activated_at,
        "retired_at": record.retired_at, "gone_at": record.gone_at, "seen_at": record.seen_at,
        "upcoming": planned.map(planned_json),
    })
}

/// `at` is null for what is due at once.
fn planned_json(planned: &Planned) -> Value {
    let at = (planned.at != DateTime::<Utc>::MIN_UTC).then_some(planned.at);
    json!({ "step": planned.step.to_string(), "kid": planned.step.kid(), "at": at, "reason": planned.step.reason().to_string() })
}

fn when(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    if at <= now { "at once".to_owned() } else { format!("in {}", span(at - now)) }
}

/// The two largest units, days at most: `89d 23h`. (`humantime` counts in months of 30.44 days.)
fn span(delta: TimeDelta) -> String {
    let seconds = delta.num_seconds().max(0);
    let units =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = units.iter().position(|unit| unit.0 > 0).unwrap_or(units.len() - 1);
    let parts: Vec<_> = units[first..].iter().take(2).map(|(count, unit)| format!("{count}{unit}")).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_two_units() {
        for (seconds, text) in
            [(-5, "0s"), (0, "0s"), (59, "59s"), (310, "5m 10s"), (3600, "1h 0m"), (7_775_090, "89d 23h")]
        {
            assert_eq!(span(TimeDelta::seconds(seconds)), text);
        }
    }
}
