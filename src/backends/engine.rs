//! The closed set of backends, and the one place that makes them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::backend::{
    BackendError, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp,
};
use super::wakes::Wakes;
use crate::config;
use crate::domain::BackendName;
use crate::keys::KeyRing;

/// Every backend there is.
#[derive(Debug)]
pub enum Backend {
}

/// Makes every hosted engine that is configured. Reaches none of them yet: an engine that is away must not keep the
/// service from starting.
pub fn engines(config: &config::Backends, keys: &Arc<KeyRing>) -> anyhow::Result<Vec<Backend>> {
    let _ = (config, keys);
    Ok(Vec::new())
}

/// The same call on whichever it is.
macro_rules! on_each {
    ($self:ident, $backend:ident => $call:expr) => {
        match *$self {
        }
    };
}

impl SchedulerBackend for Backend {
    fn name(&self) -> BackendName {
        on_each!(self, backend => backend.name())
    }

    fn limits(&self) -> Limits {
        on_each!(self, backend => backend.limits())
    }

    async fn arm(&self, wake_ups: &[WakeUp]) -> Vec<Result<Option<String>, BackendError>> {
        on_each!(self, backend => backend.arm(wake_ups).await)
    }

    async fn cancel(&self, wake_ups: &[Unwanted]) -> Vec<Result<(), BackendError>> {
        on_each!(self, backend => backend.cancel(wake_ups).await)
    }

    fn verify(&self, request: &RelayRequest<'_>) -> Result<(), Refusal> {
        on_each!(self, backend => backend.verify(request))
    }

    async fn health(&self) -> Result<(), BackendError> {
        on_each!(self, backend => backend.health().await)
    }

    async fn listen(&self, wakes: Wakes, stop: CancellationToken) {
        on_each!(self, backend => backend.listen(wakes, stop).await);
    }
}
