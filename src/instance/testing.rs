//! An [`Authenticator`] for tests, without a database.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use nas_cron_base::clock::{Clock, ManualClock};
use nas_cron_jwt::testing::{Signing, jwks};

use super::{Authenticator, Issuers, KeySet, PortalKeys, TokenRules};
use crate::config;
use crate::db::{Db, DbOptions};
use crate::identity::Identities;

/// Accepts tokens of `https://portal.example` that are signed with `keys`, and assertions. Its database is unreachable.
pub(crate) fn authenticator(keys: &[&Signing]) -> Authenticator {
    let db = Db::new(&DbOptions {
        url: "postgres://nobody@127.0.0.1:1/none".to_owned().into(),
        max_connections: 1,
        acquire_timeout: Duration::from_millis(10),
    })
    .unwrap();
    let clock: Arc<dyn Clock> =
        Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
    let on =
        config::Identity { on: true, task_lifetime: Duration::from_hours(24), task_ids_encrypted: false };
    Authenticator {
        issuers: Arc::new(Issuers::portal(
            TokenRules::new("https://portal.example", []),
            PortalKeys::pinned(KeySet::from_jwks(&jwks(keys.iter().copied())).unwrap()),
        )),
        lookup: None,
        identities: Identities::configured(&on, &db, &clock),
        db,
        clock,
        refusals: Arc::default(),
        remembered: super::Remembered::default(),
    }
}
