//! The relay: receives wake-ups from an external scheduler backend (docs/contract.md#relay).
//!
//! The body is neither parsed nor looked up before the signature over its exact bytes is verified. The request is then
//! held until the one-shot's attempt has ended. The backend's own retries only serve as an additional alarm.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nas_cron_base::clock::Clock;
use nas_cron_protocol::BackendName;
use nas_cron_protocol::relay::{RelayResponse, RelayStatus, WakeBody};
use tracing::warn;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{body, json};
use super::{ApiError, Problem, log_fields};
use crate::backends::{Backends, RelayRequest};
use crate::domain::FireOutcome;
use crate::domain::wake_up::Wake;
use crate::metrics;
use crate::scheduler::{Settled, WakeError, Woken};

/// Maximum time that a request is held for the end of an attempt; shorter than the backend's own timeout.
const MAX_WAIT: Duration = Duration::from_secs(45);
/// `Retry-After` while an attempt is in flight or the database is unavailable.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// Reason label of a request whose body exceeds the size limit.
const OVERSIZED: &str = "oversized";

/// State of the relay.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Verifies signatures and takes wake-ups.
    pub backends: Arc<Backends>,
    /// Clock that the times of signatures are checked against.
    pub clock: Arc<dyn Clock>,
}

/// Returns the documented route.
pub fn routes(state: Relay) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(relay)).with_state(state)
}

/// The response to a wake-up.
#[derive(Debug)]
struct Answer {
    code: StatusCode,
    status: RelayStatus,
    retry_after: Option<Duration>,
}

impl Answer {
    const fn settled(status: RelayStatus) -> Self {
        Self { code: StatusCode::OK, status, retry_after: None }
    }

    const fn under_way(retry_after: Duration) -> Self {
        Self { code: StatusCode::CONFLICT, status: RelayStatus::UnderWay, retry_after: Some(retry_after) }
    }

    /// The response after the attempt that this wake-up started has ended.
    fn ended(Settled { ended, expired }: &Settled) -> Self {
        match ended.outcome {
            FireOutcome::Failed if *expired => Self::settled(RelayStatus::Expired),
            FireOutcome::Delivered => Self::settled(RelayStatus::Delivered),
            FireOutcome::Gone => Self::settled(RelayStatus::Gone),
            FireOutcome::Dropped => Self::settled(RelayStatus::Dropped),
            FireOutcome::Duplicate => Self::settled(RelayStatus::Duplicate),
            FireOutcome::Failed | FireOutcome::Lost => {
                let retry_after = ended.retry_after.or(ended.retry_in);
                Self { code: StatusCode::BAD_GATEWAY, status: RelayStatus::NotAccepted, retry_after }
            }
        }
    }

    /// The response to a wake-up. Waits for the end of its attempt, if it started one.
    async fn of(woken: Woken) -> Self {
        match woken {
            Woken::Taken(ending) => match ending.wait().await {
                Some(settled) => Self::ended(&settled),
                None => Self::under_way(RETRY_SOON),
            },
            Woken::UnderWay(retry_after) => Self::under_way(retry_after),
            Woken::Early(retry_after) => Self {
                code: StatusCode::SERVICE_UNAVAILABLE,
                status: RelayStatus::Early,
                retry_after: Some(retry_after),
            },
            Woken::Delivered => Self::settled(RelayStatus::Delivered),
            Woken::Dropped => Self::settled(RelayStatus::Dropped),
            Woken::Duplicate => Self::settled(RelayStatus::Duplicate),
            Woken::Gone => Self::settled(RelayStatus::Gone),
            Woken::Superseded => Self::settled(RelayStatus::Superseded),
            Woken::Expired => Self::settled(RelayStatus::Expired),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(retry_after) = self.retry_after {
            // `Retry-After` has whole seconds: round up.
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        (self.code, headers, Json(RelayResponse { status: self.status })).into_response()
    }
}

/// Wake a one-shot
///
/// Called by an external scheduler backend when a one-shot is due. The request is held until the attempt has ended, for
/// up to 45 s. Repeating it is safe.
#[utoipa::path(post, path = "/api/agent-cron/relay", tag = "relay", security(("backend_signature" = [])),
    request_body = WakeBody, responses(
    (status = 200, description = "`delivered`, `dropped`, `duplicate`, `gone`, `superseded` or `expired`. Nothing to retry.", body = RelayResponse),
    (status = 400, description = "The body is signed, but it is not a valid wake-up."),
    (status = 401, description = "`invalid_signature`: the signature is missing, invalid, expired, or made for another URL or body."),
    (status = 409, description = "`under_way`: an attempt is in flight, or the one-shot is on hold or waits for a retry. See `Retry-After`.", body = RelayResponse,
        headers(("Retry-After" = u64, description = "Seconds to wait."))),
    (status = 502, description = "`not_accepted`: the agent did not accept the fire. The service retries; `Retry-After` is the agent's, or the time to the next attempt.", body = RelayResponse,
        headers(("Retry-After" = u64, description = "Seconds to wait."))),
    (status = 503, description = "`early`: the one-shot is due later. Also if the database is unavailable. See `Retry-After`.", body = RelayResponse)))]
async fn relay(State(state): State<Relay>, request: Request) -> Result<Response, Problem> {
    let (backend, wake) = state.verified(request).await?;
    let answered = async {
        let woken = state.backends.wakes(backend).wake(wake).await.map_err(|error| unavailable(&error))?;
        Ok(Answer::of(woken).await)
    };
    let answer: Result<Answer, ApiError> =
        tokio::time::timeout(MAX_WAIT, answered).await.unwrap_or(Ok(Answer::under_way(RETRY_SOON)));
    Ok(answer?.into_response())
}

impl Relay {
    /// Verifies a request. Returns its wake-up and the backend that signed it.
    async fn verified(&self, request: Request) -> Result<(BackendName, Wake), ApiError> {
        let headers = request.headers().clone();
        let body = body::read(request).await.inspect_err(|error| {
            if matches!(error, ApiError::TooLarge(_)) {
                refused(OVERSIZED);
            }
        })?;
        let signed = RelayRequest { headers: &headers, body: &body, now: self.clock.now() };
        let backend = self.backends.verify(&signed).map_err(|refusal| {
            refused(refusal.as_str());
            ApiError::InvalidSignature
        })?;
        let body: WakeBody = json::parse(&body).map_err(ApiError::Body)?;
        let wake = Wake::try_from(body)?;
        log_fields::agent(&wake.instance_id);
        log_fields::job(&wake.job_id);
        log_fields::schedule(wake.schedule_id);
        Ok((backend, wake))
    }
}

/// Counts and logs a request that failed verification.
fn refused(reason: &'static str) {
    metrics::relay_refused(reason);
    warn!(reason, "relay request rejected");
}

fn unavailable(error: &WakeError) -> ApiError {
    ApiError::Unavailable { reason: error.to_string().into(), retry_after: RETRY_SOON }
}
