//! Direct mode: `QStash` calls the agent itself, and forwards a fire token of the service.
//!
//! It is meant for deployments whose relay would have too much traffic. docs/backends.md ("Direct mode") lists the
//! guarantees that it weakens. The token is minted when the call is handed to `QStash`, at most an hour ahead. Only
//! `QStash`'s log has the results of the calls (`direct_results`).

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use nas_cron_protocol::BackendName;
use nas_cron_protocol::fire::FireBody;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::publish::Kind;
use super::{Qstash, direct_results};
use crate::backends::{
    BackendError, DirectCall, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp, Wakes,
};
use crate::db::Db;
use crate::domain::direct_call;
use crate::fire::client;
use crate::keys::KeyRing;
use crate::keys::fire_token::FireSubject;

/// Maximum time ahead at which a token is minted.
pub const FURTHEST: Duration = Duration::from_hours(1);
/// Time from the instant to the expiry of a token: it covers `QStash`'s tries (at once, 12 s and 2.5 min later) and the
/// boot of the agent.
pub const TOKEN_OUTLIVES: Duration = Duration::from_mins(5);

/// The direct mode of `QStash`.
#[derive(Debug)]
pub struct QstashDirect {
    qstash: Arc<Qstash>,
    keys: Arc<KeyRing>,
}

impl QstashDirect {
    /// Creates the backend for an account. `keys` sign the fire tokens.
    pub fn new(qstash: Arc<Qstash>, keys: Arc<KeyRing>) -> Self {
        Self { qstash, keys }
    }

    /// Adds the call to the agent, with a new token.
    fn direct(&self, wake_up: &WakeUp) -> Result<WakeUp, BackendError> {
        let subject = FireSubject {
            attempt_id: direct_call::attempt_id(wake_up.schedule_id, wake_up.generation),
            instance_id: &wake_up.instance_id,
            job_id: &wake_up.job_id,
            fire_at: &wake_up.fire_at,
            auth: wake_up.auth.as_ref(),
        };
        let expires = wake_up.due_at + TimeDelta::from_std(TOKEN_OUTLIVES).unwrap_or_default();
        let refused = |why: String| BackendError::Refused(why);
        let token = self
            .keys
            .mint_for(subject, wake_up.due_at, expires)
            .map_err(|error| refused(error.to_string()))?;
        let body = FireBody::new(&wake_up.job_id, &wake_up.fire_at, wake_up.auth.as_ref());
        let body = serde_json::to_string(&body).map_err(|error| refused(error.to_string()))?;
        let direct = DirectCall {
            url: client::fire_url(wake_up.callback_url.url()).to_string(),
            authorization: format!("Bearer {}", token.expose_secret()).into(),
            body,
        };
        Ok(WakeUp { direct: Some(direct), ..wake_up.clone() })
    }
}

impl SchedulerBackend for QstashDirect {
    fn name(&self) -> BackendName {
        BackendName::QstashDirect
    }

    fn limits(&self) -> Limits {
        let limits = self.qstash.limits();
        let furthest = limits.furthest.map_or(FURTHEST, |furthest| furthest.min(FURTHEST));
        Limits { lead: Duration::ZERO, furthest: Some(furthest), ..limits }
    }

    async fn arm(&self, wake_ups: &[WakeUp]) -> Vec<Result<Option<String>, BackendError>> {
        let direct: Vec<_> = wake_ups.iter().map(|wake_up| self.direct(wake_up)).collect();
        let sound: Vec<WakeUp> = direct.iter().filter_map(|direct| direct.as_ref().ok().cloned()).collect();
        let mut answers = self.qstash.arm(&sound).await.into_iter();
        direct
            .into_iter()
            .map(|direct| direct.and_then(|_| answers.next().unwrap_or(Err(BackendError::TimedOut))))
            .collect()
    }

    async fn cancel(&self, wake_ups: &[Unwanted]) -> Vec<Result<(), BackendError>> {
        self.qstash.cancel_all(wake_ups, Kind::Direct).await
    }

    /// Rejects every request: direct mode never calls the relay.
    fn verify(&self, _: &RelayRequest<'_>) -> Result<(), Refusal> {
        Err(Refusal::Unsigned)
    }

    async fn health(&self) -> Result<(), BackendError> {
        self.qstash.health().await
    }

    async fn listen(&self, _: Wakes, stop: CancellationToken) {
        stop.cancelled().await;
    }

    async fn record_results(&self, db: &Db, stop: CancellationToken) {
        direct_results::run(db, &self.qstash, stop).await;
    }
}
