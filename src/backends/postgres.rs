//! The Postgres loop as a backend. Nothing has to be armed or cancelled: the loop reads the rows of the one-shots, and
//! a provision wakes it ([`crate::scheduler::Scheduler::arm`]).

use std::time::Duration;

use nas_cron_protocol::BackendName;
use tokio_util::sync::CancellationToken;

use super::backend::{BackendError, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp};
use super::wakes::Wakes;

/// The Postgres loop.
#[derive(Clone, Copy, Debug)]
pub struct Postgres;

impl SchedulerBackend for Postgres {
    fn name(&self) -> BackendName {
        BackendName::Postgres
    }

    fn limits(&self) -> Limits {
        Limits {
            granularity: Duration::from_micros(1),
            lead: Duration::ZERO,
            furthest: None,
            largest_payload: usize::MAX,
        }
    }

    async fn arm(&self, wake_ups: &[WakeUp]) -> Vec<Result<Option<String>, BackendError>> {
        vec![Ok(None); wake_ups.len()]
    }

    async fn cancel(&self, wake_ups: &[Unwanted]) -> Vec<Result<(), BackendError>> {
        vec![Ok(()); wake_ups.len()]
    }

    /// Rejects every request: the Postgres loop never calls the relay.
    fn verify(&self, _: &RelayRequest<'_>) -> Result<(), Refusal> {
        Err(Refusal::Unsigned)
    }

    /// Always succeeds: `/readyz` reports a database that is unavailable.
    async fn health(&self) -> Result<(), BackendError> {
        Ok(())
    }

    async fn listen(&self, _: Wakes, stop: CancellationToken) {
        stop.cancelled().await;
    }
}
