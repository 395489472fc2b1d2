//! The state that `/healthz` and `/readyz` report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::db::Db;
use crate::db::migrate::{SchemaState, known_version, schema_state};
use crate::db_clock::DbClock;
use crate::heartbeat::Heartbeats;
use crate::http::health::{Finding, Probe};
use crate::keys::KeyRing;
use crate::scheduler::Scheduler;
use crate::shutdown::Shutdown;

/// Maximum age of the last schema check: an older one is repeated at the next probe.
const SCHEMA_AGE: Duration = Duration::from_secs(2);

/// The parts of the running service that its probes check.
#[derive(Debug)]
pub(super) struct Readiness {
    pub(super) db: Db,
    pub(super) keys: Arc<KeyRing>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) hearts: Heartbeats,
    pub(super) db_clock: Arc<DbClock>,
    pub(super) shutdown: Shutdown,
    pub(super) schema: Arc<Mutex<Schema>>,
}

/// The last check of the schema.
#[derive(Debug)]
pub(super) struct Schema {
    found: Finding,
    /// The version, 0 if the schema does not fit this release.
    version: i64,
    checked_at: Instant,
    is_being_checked: bool,
}

impl Schema {
    /// The result of the check at the start: no problem.
    pub(super) fn current() -> Self {
        let version = known_version();
        Self { found: Ok(()), version, checked_at: Instant::now(), is_being_checked: false }
    }
}

impl Readiness {
    /// Returns the schema's version by the last check, 0 if it does not fit this release.
    pub(super) fn schema_version(&self) -> i64 {
        self.schema.lock().version
    }
}

impl Probe for Readiness {
    fn database_silent_for(&self) -> Duration {
        self.db.silent_for()
    }

    /// Returns the result of the last check. A new check runs in the background: probes are unauthenticated, so they must
    /// neither wait for the database nor keep its connections busy.
    fn schema(&self) -> Finding {
        let mut schema = self.schema.lock();
        if !schema.is_being_checked && schema.checked_at.elapsed() > SCHEMA_AGE {
            schema.is_being_checked = true;
            let (db, shared) = (self.db.clone(), Arc::clone(&self.schema));
            tokio::spawn(async move {
                let state = schema_state(&db).await;
                let mut schema = shared.lock();
                schema.is_being_checked = false;
                schema.checked_at = Instant::now();
                if let Ok(state) = &state {
                    schema.version = state.version().unwrap_or(0);
                }
                match state {
                    // Ahead: a later release has migrated and will replace this one. Until then, failed requests are better
                    // than no replica.
                    Ok(SchemaState::Current | SchemaState::Ahead { .. }) => schema.found = Ok(()),
                    Ok(_) => schema.found = Err("does not fit this release"),
                    // The database's own check reports this.
                    Err(error) => tracing::debug!(%error, "reading the schema's version failed"),
                }
            });
        }
        schema.found
    }

    fn signing_key(&self) -> Finding {
        // A view that is too old to sign with is not counted here: the database's own check reports its cause.
        if self.keys.has_active_key() { Ok(()) } else { Err("no usable active key") }
    }

    fn clock(&self) -> Finding {
        if self.db_clock.offset().is_large() {
            Err("differs from the database's by more than 5 s; fires and tokens use the database's")
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
