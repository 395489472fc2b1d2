//! What the probes look at.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::db::Db;
use crate::db::migrate::{SchemaState, schema_state};
use crate::db_clock::DbClock;
use crate::heartbeat::Heartbeats;
use crate::http::health::{Finding, Probe};
use crate::keys::KeyRing;
use crate::shutdown::Shutdown;

/// The running service, as far as its probes go.
pub(super) struct Readiness {
    pub(super) db: Db,
    pub(super) keys: Arc<KeyRing>,
    pub(super) hearts: Heartbeats,
    pub(super) db_clock: Arc<DbClock>,
    pub(super) shutdown: Shutdown,
}

impl Probe for Readiness {
    fn database(&self) -> BoxFuture<'_, Finding> {
        self.db.ping().map(|answer| answer.map_err(|_| "does not answer")).boxed()
    }

    fn database_silent_for(&self) -> Duration {
        self.db.silent_for()
    }

    fn schema(&self) -> BoxFuture<'_, Finding> {
        async {
            match schema_state(&self.db).await {
                // Ahead: a newer release has migrated. Migrations only add, so this one serves on until it is replaced.
                // What cannot be read is the database's concern.
                Ok(SchemaState::Current | SchemaState::Ahead { .. }) | Err(_) => Ok(()),
                Ok(_) => Err("not the one of this release"),
            }
        }
        .boxed()
    }

    fn signing_key(&self) -> Finding {
        // A view that is too old to sign with is the database's concern.
        if self.keys.has_active_key() { Ok(()) } else { Err("none that can sign") }
    }

    fn clock(&self) -> Finding {
        let large = self.db_clock.offset().is_large();
        if large {
            Err("more than 5 s off the database's; fires and tokens go by the database's")
        } else {
            Ok(())
        }
    }

    fn stopped_loops(&self) -> Vec<&'static str> {
        self.hearts.stopped()
    }

    fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }
}
