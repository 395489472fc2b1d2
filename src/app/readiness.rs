//! What `/readyz` looks at.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::db::Db;
use crate::db::migrate::{SchemaState, schema_state};
use crate::db_clock::DbClock;
use crate::http::health::{Finding, Probe};
use crate::keys::KeyRing;
use crate::scheduler::Scheduler;
use crate::shutdown::Shutdown;

/// The running service, as far as its readiness goes.
pub(super) struct Readiness {
    pub(super) db: Db,
    pub(super) keys: Arc<KeyRing>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) db_clock: Arc<DbClock>,
    pub(super) shutdown: Shutdown,
}

impl Probe for Readiness {
    fn database(&self) -> BoxFuture<'_, Finding> {
        self.db.ping().map(|answer| answer.map_err(|_| "does not answer")).boxed()
    }

    fn schema(&self) -> BoxFuture<'_, Finding> {
        async {
            match schema_state(&self.db).await {
                // Ahead: a newer release has migrated. Migrations only add, so this one serves on until it is replaced.
                Ok(SchemaState::Current | SchemaState::Ahead { .. }) => Ok(()),
                Ok(_) => Err("not the one of this release"),
                Err(_) => Err("cannot be read"),
            }
        }
        .boxed()
    }

    fn signing_key(&self) -> Finding {
        if self.keys.ready() { Ok(()) } else { Err("none that can sign now") }
    }

    fn clock(&self) -> Finding {
        let large = self.db_clock.offset().is_large();
        if large {
            Err("more than 5 s off the database's; fires and tokens go by the database's")
        } else {
            Ok(())
        }
    }

    fn since_last_beat(&self) -> Option<Duration> {
        Some(self.scheduler.last_beat())
    }

    fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }
}
