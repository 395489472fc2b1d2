//! What the probes look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::db::Db;
use crate::db::migrate::{SchemaState, schema_state};
use crate::db_clock::DbClock;
use crate::heartbeat::Heartbeats;
use crate::http::health::{Finding, Probe};
use crate::keys::KeyRing;
use crate::scheduler::Scheduler;
use crate::shutdown::Shutdown;

/// The schema is looked at again after this, if a probe asks.
const SCHEMA_AGE: Duration = Duration::from_secs(2);

/// The running service, as far as its probes go.
pub(super) struct Readiness {
    pub(super) db: Db,
    pub(super) keys: Arc<KeyRing>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) hearts: Heartbeats,
    pub(super) db_clock: Arc<DbClock>,
    pub(super) shutdown: Shutdown,
    pub(super) schema: Arc<Mutex<Schema>>,
}

/// The last look at the schema.
#[derive(Debug)]
pub(super) struct Schema {
    found: Finding,
    looked_at: Instant,
    is_looked_at: bool,
}

impl Schema {
    /// As it was found at the start.
    pub(super) fn current() -> Self {
        Self { found: Ok(()), looked_at: Instant::now(), is_looked_at: false }
    }
}

impl Probe for Readiness {
    fn database_silent_for(&self) -> Duration {
        self.db.silent_for()
    }

    /// Returns what the last look found. The next one is made behind the answer: probes come from anybody, and must
    /// neither wait for the database nor keep its connections busy.
    fn schema(&self) -> Finding {
        let mut schema = self.schema.lock();
        if !schema.is_looked_at && schema.looked_at.elapsed() > SCHEMA_AGE {
            schema.is_looked_at = true;
            let (db, shared) = (self.db.clone(), Arc::clone(&self.schema));
            tokio::spawn(async move {
                let state = schema_state(&db).await;
                let mut schema = shared.lock();
                schema.is_looked_at = false;
                schema.looked_at = Instant::now();
                match state {
                    // Ahead: a newer release has migrated. Migrations only add, so this one serves on until it is replaced.
                    Ok(SchemaState::Current | SchemaState::Ahead { .. }) => schema.found = Ok(()),
                    Ok(_) => schema.found = Err("not the one of this release"),
                    // What cannot be read is the database's concern.
                    Err(error) => tracing::debug!(%error, "reading the schema's version failed"),
                }
            });
        }
        schema.found
    }

    fn signing_key(&self) -> Finding {
        // A view that is too old to sign with is the database's concern.
        if self.keys.has_active_key() { Ok(()) } else { Err("none that can sign") }
    }

    fn clock(&self) -> Finding {
        if self.db_clock.offset().is_large() {
            Err("more than 5 s off the database's; fires and tokens go by the database's")
        } else {
            Ok(())
        }
    }

    fn overdue_look(&self) -> Duration {
        self.scheduler.overdue_look()
    }

    fn stopped_loops(&self) -> Vec<&'static str> {
        self.hearts.stopped()
    }

    fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }
}
