//! Lists the keys with their next steps.

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::relative;
use nas_cron_protocol::admin_api::{KeyId, KeyStep, KeyStepKind};
use nas_cron_protocol::words;

use super::KeyOperations;
use crate::domain::{KeyState, PrivateHalf, SigningAlg, StoredKey};
use crate::keys::rotation::{self, Planned, RotationPolicy, Step};
use crate::keys::sweep::records;
use crate::operations::OperationResult;
use crate::operations::phrase::Phrase;

words!(
    /// The decider about the times of rotations.
    #[derive(utoipa::ToSchema)]
    pub enum Rotation {
        /// The service.
        Automatic = "automatic",
        /// The operator, because an imported key is in use.
        ByHand = "by_hand",
    }
);

words!(
    /// The place of a private key.
    #[derive(utoipa::ToSchema)]
    pub enum PrivateKeyPlace {
        /// In the database, encrypted.
        Database = "database",
        /// In a file on every replica.
        File = "file",
        /// Nowhere: the key is gone.
        Erased = "erased",
    }
);

/// The keys and what happens next.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct KeyList {
    /// Time of the list by the database's clock.
    pub now: DateTime<Utc>,
    /// The decider about the times of rotations.
    pub rotation: Rotation,
    /// The keys, the oldest first.
    pub keys: Vec<Key>,
    /// The next steps of the service.
    pub upcoming: Vec<KeyStep>,
}

/// A signing key without its private half.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Key {
    /// Its ID in token headers and in the JWKS.
    #[schema(value_type = KeyId)]
    pub kid: String,
    /// Its algorithm.
    pub alg: SigningAlg,
    /// Its state.
    pub state: KeyState,
    /// True if it was imported from the portal: such keys rotate by hand.
    pub imported: bool,
    /// The place of its private half.
    pub private_key: PrivateKeyPlace,
    /// The file with its private half, if that is in one.
    pub pem_path: Option<String>,
    /// Time at which it entered the service's JWKS.
    pub published_at: DateTime<Utc>,
    /// Time at which it started to sign.
    pub activated_at: Option<DateTime<Utc>>,
    /// Time at which it stopped signing.
    pub retired_at: Option<DateTime<Utc>>,
    /// Time at which it left the JWKS.
    pub gone_at: Option<DateTime<Utc>>,
    /// Time at which it was first seen in the JWKS that agents fetch; checked only when keys rotate by hand.
    pub seen_at: Option<DateTime<Utc>>,
    /// Time from which it may be activated by hand; `null` unless it is such a next key that agents see.
    pub activatable_at: Option<DateTime<Utc>>,
    /// The service's next step with it.
    pub upcoming: Option<KeyStep>,
}

/// Returns a planned step as operators see it.
pub(in crate::operations) fn step(planned: &Planned) -> KeyStep {
    KeyStep {
        kind: match planned.step {
            Step::Generate { .. } => KeyStepKind::Generate,
            Step::Activate { .. } => KeyStepKind::Activate,
            Step::Remove { .. } => KeyStepKind::Remove,
        },
        step: planned.step.to_string(),
        kid: planned.step.kid().map(str::to_owned),
        at: (planned.at != DateTime::<Utc>::MIN_UTC).then_some(planned.at),
        reason: planned.step.reason().to_string(),
    }
}

impl KeyOperations {
    /// Lists the published keys, or with `all` also the removed ones.
    pub async fn list(&self, all: bool) -> OperationResult<KeyList> {
        let (now, keys) = self.db.signing_keys_now().await?;
        Ok(view(now, &keys, &self.policy, all))
    }
}

fn view(now: DateTime<Utc>, keys: &[StoredKey], policy: &RotationPolicy, all: bool) -> KeyList {
    let public = records(keys);
    let planned = rotation::plan(&public, policy);
    let by_hand = rotation::is_by_hand(&public);
    let shown = keys.iter().filter(|key| all || key.record.is_published());
    KeyList {
        now,
        rotation: if by_hand { Rotation::ByHand } else { Rotation::Automatic },
        keys: shown.map(|key| one(key, &planned, by_hand, policy)).collect(),
        upcoming: planned.iter().map(step).collect(),
    }
}

/// Returns the next step with a key, for people; `None` if nothing is to come.
pub fn next_step(now: DateTime<Utc>, key: &Key, by_hand: bool) -> Option<Phrase> {
    if let Some(step) = &key.upcoming {
        let words = match step.kind {
            KeyStepKind::Generate => "successor published ",
            KeyStepKind::Activate => "signs ",
            KeyStepKind::Remove => "removed ",
        };
        return Some(Phrase::from(words).due(step.at, now));
    }
    match (key.state, key.activatable_at) {
        (KeyState::Next, None) if by_hand => Some("by hand: add it to the agents' JWKS".into()),
        (KeyState::Next, at @ Some(_)) => Some(Phrase::from("by hand: may be activated ").due(at, now)),
        (KeyState::Active, _) if by_hand => Some("by hand".into()),
        _ => None,
    }
}

/// Returns the time of a step, relative to now.
pub fn when(now: DateTime<Utc>, at: Option<DateTime<Utc>>) -> String {
    at.filter(|at| *at > now).map_or_else(|| "now".to_owned(), |at| relative(now, at))
}

fn one(key: &StoredKey, planned: &[Planned], by_hand: bool, policy: &RotationPolicy) -> Key {
    let record = &key.record;
    let (private_key, pem_path) = match &key.private {
        PrivateHalf::Sealed(_) => (PrivateKeyPlace::Database, None),
        PrivateHalf::File(path) => (PrivateKeyPlace::File, Some(path.display().to_string())),
        PrivateHalf::Erased => (PrivateKeyPlace::Erased, None),
    };
    let upcoming = planned.iter().find(|one| match &one.step {
        // Generating a successor is a step of the active key.
        Step::Generate { .. } => record.state == KeyState::Active,
        step => step.kid() == Some(&record.kid),
    });
    let waits = by_hand && record.state == KeyState::Next;
    Key {
        kid: record.kid.clone(),
        alg: record.alg,
        state: record.state,
        imported: record.imported,
        private_key,
        pem_path,
        published_at: record.published_at,
        activated_at: record.activated_at,
        retired_at: record.retired_at,
        gone_at: record.gone_at,
        seen_at: record.seen_at,
        activatable_at: record.seen_at.filter(|_| waits).map(|seen| seen + policy.lead()),
        upcoming: upcoming.map(step),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::KeyRecord;
    use crate::domain::sealed::Sealed;

    #[test]
    fn list_has_states_and_next_steps_and_no_key_material() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let key = |kid: &str, state| StoredKey {
            record: KeyRecord {
                kid: kid.to_owned(),
                alg: SigningAlg::Es256,
                state,
                imported: false,
                public_jwk: serde_json::json!({"x": "public"}),
                published_at: now - TimeDelta::days(90),
                activated_at: Some(now - TimeDelta::hours(50)),
                retired_at: None,
                gone_at: None,
                seen_at: None,
            },
            private: PrivateHalf::Sealed(Sealed {
                nonce: b"nonce".to_vec(),
                ciphertext: b"ciphertext".to_vec(),
            }),
        };
        let mut next = key("key-2", KeyState::Next);
        next.record.published_at = now - TimeDelta::seconds(10);
        let mut gone = key("key-0", KeyState::Gone);
        gone.private = PrivateHalf::Erased;
        let keys = [gone, key("key-1", KeyState::Active), next];
        let list = view(now, &keys, &RotationPolicy::default(), false);
        assert_eq!(list.keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["key-1", "key-2"]);
        let step = list.keys[1].upcoming.as_ref().unwrap();
        assert_eq!((step.kind, step.at), (KeyStepKind::Activate, Some(now + TimeDelta::seconds(900))));
        assert_eq!(view(now, &keys, &RotationPolicy::default(), true).keys.len(), 3);
        let text = serde_json::to_string(&list).unwrap();
        assert!(
            !text.contains("nonce") && !text.contains("ciphertext") && !text.contains("public\""),
            "{text}"
        );
    }
}
