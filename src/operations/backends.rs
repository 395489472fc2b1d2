//! The scheduler backends: their state, and the switch to another one.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::Count;
use tokio::sync::Notify;

use super::{OperationError, OperationResult};
use crate::backends::outbox::Outbox;
use crate::backends::postgres::Postgres;
use crate::backends::{Backend, Limits, SchedulerBackend};
use crate::config::backends::variables_of;
use crate::db::{Db, overview, wake_ups};
use crate::directory::again;
use crate::domain::active_backend::{ActiveBackend, BackendCounts, Left};

/// Maximum number of one-shots of a backend that a dry run counts: about a second.
pub const PLANNED: i64 = wake_ups::MOST_LEFT;

/// The operations on the scheduler backends, with those that are configured here.
#[derive(Clone, Debug)]
pub struct BackendOperations {
    db: Db,
    /// The configured backends at which wake-ups can be armed and cancelled here.
    outboxes: Vec<Arc<Outbox>>,
    /// All external backends that are configured here.
    configured: Vec<BackendName>,
    /// Signals that one-shots may have to be moved.
    moves: Arc<Notify>,
}

/// The state of the backends.
#[derive(Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct BackendStatus {
    /// The backend that gets all new one-shots.
    pub active: BackendName,
    /// Number of switches so far, plus one.
    pub generation: i32,
    /// Time at which it became active.
    pub switched_at: DateTime<Utc>,
    /// True while one-shots or wake-ups are still to be moved to it.
    pub unfinished: bool,
    /// The remaining work of the last switch.
    pub left: Left,
    /// All backends.
    pub backends: Vec<Standing>,
}

/// State of one backend.
#[derive(Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Standing {
    /// Its one-shots and outbox rows.
    #[serde(flatten)]
    pub counts: BackendCounts,
    /// True if its settings are present here.
    pub configured: bool,
    /// Its limits, if it is configured.
    pub limits: Option<Limits>,
    /// True if it was reachable just now; `null` if it cannot be reached with the settings here.
    pub answers: Option<bool>,
    /// The error, if it was unreachable.
    #[schema(example = json!(null))]
    pub error: Option<String>,
}

/// A switch to another backend, or its plan.
#[derive(Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct BackendSwitch {
    /// True if nothing was changed.
    pub dry_run: bool,
    /// The backend that was active before.
    pub from: BackendName,
    /// The new active backend.
    pub to: BackendName,
    /// False if it was active already.
    pub switched: bool,
    /// Number of switches so far, plus one.
    pub generation: i32,
    /// The remaining work. In a dry run, `to_move` is what a switch would move at most.
    pub left: Left,
    /// The error of the new backend, if it is unreachable.
    #[schema(example = json!(null))]
    pub error: Option<String>,
}

/// The effect of a switch to another backend, read before it.
#[derive(Clone, Debug)]
pub struct SwitchPreview {
    /// The active backend.
    pub from: BackendName,
    /// The other backend.
    pub to: BackendName,
    /// Number of switches so far, plus one.
    pub generation: i32,
    /// One-shots that would be moved at most.
    pub to_move: Count,
    /// The error of the other backend, if it is unreachable.
    pub error: Option<String>,
}

/// Describes what a switch would change, for people.
pub fn plan_text(from: BackendName, to: BackendName, to_move: Count) -> String {
    if from == to {
        return format!("{to} is already active. Nothing was changed.");
    }
    let moved = to_move.of("one-shot");
    format!("A switch from {from} to {to} would move up to {moved}. Nothing was changed.")
}

impl BackendOperations {
    /// Creates the operations. `moves` wakes the task that moves one-shots, if this process has one.
    pub fn new(db: Db, outboxes: Vec<Arc<Outbox>>, configured: Vec<BackendName>, moves: Arc<Notify>) -> Self {
        Self { db, outboxes, configured, moves }
    }

    /// Returns the database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Returns the outboxes of the backends that can be reached here.
    pub fn outboxes(&self) -> &[Arc<Outbox>] {
        &self.outboxes
    }

    /// Returns the backends that are not configured here.
    pub fn unconfigured(&self) -> impl Iterator<Item = BackendName> {
        BackendName::ALL.iter().copied().filter(|one| !self.has(*one))
    }

    fn has(&self, backend: BackendName) -> bool {
        backend == BackendName::Postgres || self.configured.contains(&backend)
    }

    fn outbox(&self, backend: BackendName) -> Option<&Outbox> {
        self.outboxes.iter().map(Arc::as_ref).find(|outbox| outbox.backend().name() == backend)
    }

    /// Returns the active backend. There is none before the first start of the service.
    pub async fn active(&self) -> OperationResult<ActiveBackend> {
        wake_ups::find_active(&self.db).await?.ok_or_else(|| {
            OperationError::Conflict(
                "no backend is active yet: `nas-cron serve` activates the one named by NAS_CRON_BACKEND at its first start"
                    .to_owned(),
            )
        })
    }

    /// Returns the state of all backends, and tests which of them are reachable from here.
    pub async fn status(&self) -> OperationResult<BackendStatus> {
        let active = self.active().await?;
        let left = wake_ups::left(&self.db, active.switched_at).await?;
        let counts = wake_ups::counts(&self.db).await?;
        let backends = join_all(counts.into_iter().map(|counts| self.standing(counts))).await;
        let ActiveBackend { backend, generation, switched_at } = active;
        let unfinished = left.count() > 0;
        Ok(BackendStatus { active: backend, generation, switched_at, unfinished, left, backends })
    }

    async fn standing(&self, counts: BackendCounts) -> Standing {
        let outbox = self.outbox(counts.backend);
        let health = match outbox {
            Some(outbox) => Some(outbox.backend().health().await.map_err(|error| error.to_string())),
            // The statements before have just reached the database.
            None => (counts.backend == BackendName::Postgres).then_some(Ok(())),
        };
        let limits = match counts.backend {
            BackendName::Postgres => Some(Backend::Postgres(Postgres).limits()),
            _ => outbox.map(|outbox| outbox.backend().limits()),
        };
        let answers = health.as_ref().map(Result::is_ok);
        let error = health.and_then(Result::err);
        Standing { configured: self.has(counts.backend), limits, answers, error, counts }
    }

    /// Describes a switch to `to` without changing anything. Counts at most [`PLANNED`] one-shots of each backend.
    pub async fn plan_switch(&self, to: BackendName) -> OperationResult<BackendSwitch> {
        let active = self.active().await?;
        let error = self.check_usable(to, true).await?;
        let left = if active.backend == to {
            wake_ups::left(&self.db, active.switched_at).await?
        } else {
            let to_move = overview::movable(&self.db, to, PLANNED).await?;
            Left { to_move: to_move.count, ..Left::default() }
        };
        let (from, generation) = (active.backend, active.generation);
        Ok(BackendSwitch { dry_run: true, from, to, switched: from != to, generation, left, error })
    }

    /// Returns the same as a page shows it: reads a limited number of one-shots, however many there are.
    pub async fn preview_switch(&self, to: BackendName) -> OperationResult<SwitchPreview> {
        let ActiveBackend { backend: from, generation, .. } = self.active().await?;
        let error = self.check_usable(to, true).await?;
        let to_move = overview::movable(&self.db, to, overview::COUNTED).await?;
        Ok(SwitchPreview { from, to, generation, to_move, error })
    }

    /// Activates another backend: new one-shots go to it at once. The replicas move the others. Repeating it changes
    /// nothing. Fails if the backend is not configured here or, without `force`, if it is unreachable: all its one-shots
    /// would be backend misses. With `seen`, fails unless this is the number of the latest switch, so that a page that is
    /// out of date changes nothing.
    pub async fn switch(
        &self,
        to: BackendName,
        force: bool,
        seen: Option<i32>,
    ) -> OperationResult<BackendSwitch> {
        let from = self.active().await?.backend;
        let error = self.check_usable(to, force).await?;
        let now = again(|| wake_ups::activate_after(&self.db, to, seen)).await?;
        if now.backend != to {
            return Err(OperationError::Conflict(format!(
                "the backend was switched to {} meanwhile",
                now.backend
            )));
        }
        again(|| wake_ups::try_again(&self.db)).await?;
        self.moves.notify_one();
        let left = wake_ups::left(&self.db, now.switched_at).await?;
        Ok(BackendSwitch {
            dry_run: false,
            from,
            to,
            switched: from != to,
            generation: now.generation,
            left,
            error,
        })
    }

    /// Fails if a backend cannot be used. With `force` it may be unreachable; returns its error.
    async fn check_usable(&self, to: BackendName, force: bool) -> OperationResult<Option<String>> {
        if to == BackendName::Postgres {
            return Ok(None);
        }
        let refuse = |problem| Err(OperationError::Conflict(problem));
        if !self.has(to) {
            return refuse(format!(
                "{to} is not configured here: set {} here and on every replica (see docs/backends.md)",
                variables_of(to)
            ));
        }
        let Some(outbox) = self.outbox(to) else {
            return refuse(format!(
                "{to} needs fire tokens in advance, which this command cannot sign with its settings: run it with all \
                 settings of the service, for example on one of its replicas"
            ));
        };
        match outbox.backend().health().await {
            Err(error) if !force => refuse(format!(
                "{to} {error}. Nothing was changed; fix the backend (`nas-cron backend status` shows its state), or switch \
                 anyway with --force"
            )),
            health => Ok(health.err().map(|error| error.to_string())),
        }
    }
}
