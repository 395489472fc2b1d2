//! `nas-cron keys list`.

use std::fmt::Write as _;
use std::io::Write;

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::{self, capital, or_dash, relative};
use nas_cron_protocol::admin_api::KeyStep;

use crate::cli::operator::Place;
use crate::domain::KeyState;
use crate::operations::keys::{Key, KeyList, KeyOperations, Rotation, next_step, when};

pub(super) async fn run(
    on: &Place<KeyOperations>,
    all: bool,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let list = on.keys(all).await?;
    if json {
        return terminal::json(out, &list);
    }
    out.write_all(text(&list).as_bytes())?;
    Ok(())
}

fn text(list: &KeyList) -> String {
    let now = list.now;
    if list.keys.is_empty() {
        return "No signing keys yet: `nas-cron serve` creates the first one at its start.\n".to_owned();
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
    let by_hand = list.rotation == Rotation::ByHand;
    for key in &list.keys {
        let ago = |at: Option<DateTime<Utc>>| or_dash(at.map(|at| relative(now, at)));
        table.add_row([
            key.kid.clone(),
            key.alg.to_string(),
            key.state.to_string(),
            origin(key),
            ago(Some(key.published_at)),
            ago(key.activated_at),
            ago(key.retired_at.filter(|_| key.state != KeyState::Gone)),
            or_dash(next_step(now, key, by_hand).map(|step| step.in_words(now))),
        ]);
    }
    let mut text = terminal::text(table);
    if !list.upcoming.is_empty() {
        text.push('\n');
    }
    for KeyStep { at, step, reason, .. } in &list.upcoming {
        let _ = writeln!(text, "{}: {step} ({reason}).", capital(&when(now, *at)));
    }
    if by_hand {
        text.push_str("Rotation is by hand, because an imported key is in use.\n");
    }
    text
}

fn origin(key: &Key) -> String {
    let made = if key.imported { "imported" } else { "generated" };
    match &key.pem_path {
        Some(path) => format!("{made} ({path})"),
        None => made.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use nas_cron_protocol::admin_api::KeyStepKind;

    use super::*;
    use crate::domain::SigningAlg;
    use crate::operations::keys::PrivateKeyPlace;

    #[test]
    fn table_matches_its_snapshot() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let key = |kid: &str, state| Key {
            kid: kid.to_owned(),
            alg: SigningAlg::Es256,
            state,
            imported: false,
            private_key: PrivateKeyPlace::Database,
            pem_path: None,
            published_at: now - TimeDelta::days(90),
            activated_at: Some(now - TimeDelta::hours(50)),
            retired_at: None,
            gone_at: None,
            seen_at: None,
            activatable_at: None,
            upcoming: None,
        };
        let step = KeyStep {
            kind: KeyStepKind::Activate,
            step: "activate `key-2`".to_owned(),
            kid: Some("key-2".to_owned()),
            at: Some(now + TimeDelta::seconds(900)),
            reason: "it was published long enough for every cache to know it".to_owned(),
        };
        let next = Key {
            published_at: now - TimeDelta::seconds(10),
            activated_at: None,
            upcoming: Some(step.clone()),
            ..key("key-2", KeyState::Next)
        };
        let list = KeyList {
            now,
            rotation: Rotation::Automatic,
            keys: vec![key("key-1", KeyState::Active), next],
            upcoming: vec![step],
        };
        insta::assert_snapshot!(text(&list), @"
        KEY    ALGORITHM  STATE   ORIGIN     PUBLISHED  ACTIVATED    RETIRED  NEXT STEP
        key-1  ES256      active  generated  90 d ago   2 d 2 h ago  -        -
        key-2  ES256      next    generated  10 s ago   -            -        signs in 15 min

        In 15 min: activate `key-2` (it was published long enough for every cache to know it).
        ");
        let path = Some("/run/secrets/portal.pem".to_owned());
        let seen = now - TimeDelta::minutes(5);
        let imported = Key { imported: true, pem_path: path, ..key("portal-1", KeyState::Active) };
        let next = Key {
            imported: true,
            seen_at: Some(seen),
            activatable_at: Some(seen + TimeDelta::seconds(910)),
            ..key("portal-2", KeyState::Next)
        };
        let list =
            KeyList { rotation: Rotation::ByHand, keys: vec![imported, next], upcoming: Vec::new(), ..list };
        insta::assert_snapshot!(text(&list), @"
        KEY       ALGORITHM  STATE   ORIGIN                              PUBLISHED  ACTIVATED    RETIRED  NEXT STEP
        portal-1  ES256      active  imported (/run/secrets/portal.pem)  90 d ago   2 d 2 h ago  -        by hand
        portal-2  ES256      next    imported                            90 d ago   2 d 2 h ago  -        by hand: may be activated in 10 min 10 s
        Rotation is by hand, because an imported key is in use.
        ");
    }
}
