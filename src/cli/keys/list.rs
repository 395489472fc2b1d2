//! `nas-cron keys list`.

use std::io::Write;

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::{self, capital, or_dash, relative};
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

/// Writes the list to `out`.
fn print(
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
        writeln!(out, "No signing keys yet: `nas-cron serve` creates the first one at its start.")?;
        return Ok(());
    }
    let mut table = terminal::table(&[
        "KEY",
        "ALGORITHM",
        "STATE",
        "ORIGIN",
        "PUBLISHED",
        "ACTIVATED",
        "RETIRED",
        "NEXT STEP",
    ]);
    for key in &shown {
        let record = &key.record;
        let ago = |at: Option<DateTime<Utc>>| or_dash(at.map(|at| relative(now, at)));
        table.add_row([
            record.kid.clone(),
            record.alg.to_string(),
            record.state.to_string(),
            origin(key),
            ago(Some(record.published_at)),
            ago(record.activated_at),
            ago(record.retired_at.filter(|_| record.state != KeyState::Gone)),
            next_step(now, key, upcoming(key, &planned), by_hand, policy),
        ]);
    }
    out.write_all(terminal::text(table).as_bytes())?;
    if !planned.is_empty() {
        writeln!(out)?;
    }
    for Planned { at, step } in &planned {
        writeln!(out, "{}: {step} ({}).", capital(&when(now, *at)), step.reason())?;
    }
    if by_hand {
        writeln!(out, "Rotation is by hand, because an imported key is in use.")?;
    }
    Ok(())
}

/// Returns the planned step for `key`. Generating a successor is a step of the active key.
fn upcoming<'a>(key: &StoredKey, planned: &'a [Planned]) -> Option<&'a Planned> {
    planned.iter().find(|one| match &one.step {
        Step::Generate { .. } => key.record.state == KeyState::Active,
        step => step.kid() == Some(&key.record.kid),
    })
}

fn next_step(
    now: DateTime<Utc>,
    key: &StoredKey,
    planned: Option<&Planned>,
    by_hand: bool,
    policy: &RotationPolicy,
) -> String {
    match (planned, key.record.state) {
        (Some(Planned { at, step: Step::Generate { .. } }), _) => {
            format!("successor published {}", when(now, *at))
        }
        (Some(Planned { at, step: Step::Activate { .. } }), _) => format!("signs {}", when(now, *at)),
        (Some(Planned { at, step: Step::Remove { .. } }), _) => format!("removed {}", when(now, *at)),
        (None, KeyState::Next) if by_hand => match key.record.seen_at {
            None => "by hand: add it to the agents' JWKS".to_owned(),
            Some(seen) => format!("by hand: may be activated {}", when(now, seen + policy.lead())),
        },
        (None, KeyState::Active) if by_hand => "by hand".to_owned(),
        _ => "-".to_owned(),
    }
}

fn origin(key: &StoredKey) -> String {
    let made = if key.record.imported { "imported" } else { "generated" };
    match &key.private {
        PrivateHalf::File(path) => format!("{made} ({})", path.display()),
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

/// Formats a planned step as JSON. `at` is null for a step that is due at once.
fn planned_json(planned: &Planned) -> Value {
    let at = (planned.at != DateTime::<Utc>::MIN_UTC).then_some(planned.at);
    json!({ "step": planned.step.to_string(), "kid": planned.step.kid(), "at": at, "reason": planned.step.reason().to_string() })
}

fn when(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    if at <= now { "now".to_owned() } else { relative(now, at) }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::{KeyRecord, SigningAlg};

    #[test]
    fn table_matches_its_snapshot() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let key = |kid: &str, state| StoredKey {
            record: KeyRecord {
                kid: kid.to_owned(),
                alg: SigningAlg::Es256,
                state,
                imported: false,
                public_jwk: json!({}),
                published_at: now - TimeDelta::days(90),
                activated_at: Some(now - TimeDelta::hours(50)),
                retired_at: None,
                gone_at: None,
                seen_at: None,
            },
            private: PrivateHalf::Erased,
        };
        let mut next = key("key-2", KeyState::Next);
        next.record.published_at = now - TimeDelta::seconds(10);
        next.record.activated_at = None;
        let mut out = Vec::new();
        let keys = [key("key-1", KeyState::Active), next];
        print(now, &keys, &RotationPolicy::default(), false, false, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        KEY    ALGORITHM  STATE   ORIGIN     PUBLISHED  ACTIVATED    RETIRED  NEXT STEP
        key-1  ES256      active  generated  90 d ago   2 d 2 h ago  -        -
        key-2  ES256      next    generated  10 s ago   -            -        signs in 15 min

        In 15 min: activate `key-2` (it was published long enough for every cache to know it).
        ");
    }
}
