//! The signing keys, and the next steps of their rotation.

use nas_cron_protocol::admin_api::{KeyOverview, PublishedKey};

use crate::domain::{KeyRecord, StoredKey};
use crate::keys::rotation::{self, RotationPolicy};
use crate::keys::sweep::records;
use crate::operations::keys::step;

/// Returns the published keys of all keys, and the planned steps.
pub(super) fn overview(keys: &[StoredKey], policy: &RotationPolicy) -> KeyOverview {
    let keys = records(keys);
    let mut planned = rotation::plan(&keys, policy);
    planned.sort_by_key(|one| one.at);
    let upcoming = planned.iter().map(step).collect();
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
