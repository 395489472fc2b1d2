//! The finding about the signing keys.

use super::Finding;
use crate::domain::{KeyRecord, KeyState};

/// Reports whether a key is active. That it can be decrypted is for the caller to check.
pub fn active_key<'a>(mut keys: impl Iterator<Item = &'a KeyRecord>) -> Finding {
    match keys.find(|key| key.state == KeyState::Active) {
        Some(active) => Finding::ok(format!("{} ({}) is active and usable", active.kid, active.alg)),
        None => Finding::wrong(
            "no key is active: fires could not be signed",
            "`nas-cron keys list` shows the reason; `nas-cron keys activate KID` activates a key",
        ),
    }
}
