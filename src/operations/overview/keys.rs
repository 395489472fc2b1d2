//! The signing keys, and the next steps of their rotation.

use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::{KeyOverview, PublishedKey, UpcomingKeyStep};

use crate::domain::{KeyRecord, StoredKey};
use crate::keys::rotation::{self, RotationPolicy};
use crate::keys::sweep::records;

/// Returns the published keys of all keys, and the planned steps.
pub(super) fn overview(keys: &[StoredKey], policy: &RotationPolicy) -> KeyOverview {
    let keys = records(keys);
    let mut planned = rotation::plan(&keys, policy);
    planned.sort_by_key(|one| one.at);
    let upcoming = planned.into_iter().map(|one| UpcomingKeyStep {
        step: one.step.to_string(),
        kid: one.step.kid().map(str::to_owned),
        at: (one.at != DateTime::<Utc>::MIN_UTC).then_some(one.at),
        reason: one.step.reason().to_string(),
    });
    let upcoming = upcoming.collect();
    let by_hand = rotation::is_by_hand(&keys);
    let published = keys.into_iter().filter(KeyRecord::is_published).map(|key| PublishedKey {
        alg: key.alg.to_string(),
        state: key.state.to_string(),
        published_at: key.published_at,
        activated_at: key.activated_at,
        kid: key.kid,
    });
    KeyOverview { by_hand, published: published.collect(), upcoming }
}
