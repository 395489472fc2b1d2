//! The relay: an external scheduler backend reports that a one-shot's instant has come, or is about to
//! (docs/contract.md#relay).
//!
//! Nothing is looked up, and not even parsed, before the signature over the exact bytes is found good. The request is
//! then held until its one-shot's attempt has ended: the engine's own retry is a second alarm, no more.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nas_cron_base::clock::Clock;
use nas_cron_protocol::relay::{RelayResponse, RelayStatus, WakeBody};
use nas_cron_protocol::{BackendName, InstanceId, JobId, ScheduleId};
use tracing::warn;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ProblemBody;
use super::extract::{body, json};
use super::{ApiError, Problem};
use crate::backends::{Backends, RelayRequest};
use crate::domain::attempt::Ended;
use crate::domain::wake_up::Wake;
use crate::metrics;
use crate::scheduler::{WakeError, Woken};

/// How long an engine is kept waiting for the end of an attempt: less than it waits itself.
const PATIENCE: Duration = Duration::from_secs(45);
/// When to look again at what is under way, or when the database may be back.
const SOON: Duration = Duration::from_secs(1);
/// Why a request is refused that is too long to be anybody's.
const OVERSIZED: &str = "oversized";

/// What the relay needs.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Whose signatures are believed, and where wake-ups go.
    pub backends: Arc<Backends>,
    /// Signatures have a time.
    pub clock: Arc<dyn Clock>,
}

/// The route, with its documentation.
pub fn routes(state: Relay) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(relay)).with_state(state)
}

/// A status, and when to come again.
#[derive(Debug)]
struct Answer {
    code: StatusCode,
    status: RelayStatus,
    again_in: Option<Duration>,
}

impl Answer {
    const fn settled(status: RelayStatus) -> Self {
        Self { code: StatusCode::OK, status, again_in: None }
    }

    const fn under_way(again_in: Duration) -> Self {
        Self { code: StatusCode::CONFLICT, status: RelayStatus::UnderWay, again_in: Some(again_in) }
    }

    /// How the attempt that this wake-up began has ended.
    fn ended(ended: &Ended) -> Self {
        if ended.is_accepted() {
            return Self::settled(RelayStatus::Delivered);
        }
        let again_in = ended.retry_after.or(ended.retry_in);
        Self { code: StatusCode::BAD_GATEWAY, status: RelayStatus::NotAccepted, again_in }
    }

    /// What a wake-up came to, once that is known.
    async fn of(woken: Woken) -> Self {
        match woken {
            Woken::Taken(ending) => match ending.wait().await {
                Some(ended) => Self::ended(&ended),
                None => Self::under_way(SOON),
            },
            Woken::UnderWay(again_in) => Self::under_way(again_in),
            Woken::Early(again_in) => Self {
                code: StatusCode::SERVICE_UNAVAILABLE,
                status: RelayStatus::Early,
                again_in: Some(again_in),
            },
            Woken::Delivered => Self::settled(RelayStatus::Delivered),
            Woken::Gone => Self::settled(RelayStatus::Gone),
            Woken::Superseded => Self::settled(RelayStatus::Superseded),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(again_in) = self.again_in {
            // Whole seconds, rounded up: never sooner than meant.
            let seconds = again_in.as_secs() + u64::from(again_in.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        (self.code, headers, Json(RelayResponse { status: self.status })).into_response()
    }
}

/// Wake a one-shot
///
/// For the hosted scheduler that was asked to. Repeating it is harmless.
#[utoipa::path(post, path = "/api/agent-cron/relay", tag = "relay", security(("engine_signature" = [])),
    request_body = WakeBody, responses(
    (status = 200, description = "Nothing to retry: `delivered`, `gone` or `superseded`", body = RelayResponse),
    (status = 400, description = "Signed, and yet no wake-up", body = ProblemBody, content_type = "application/problem+json"),
    (status = 401, description = "Forged, expired, or made for another URL or body", body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "`under_way`: an attempt is, or waits for its time", body = RelayResponse),
    (status = 413, description = "The body is longer than 64 KiB", body = ProblemBody, content_type = "application/problem+json"),
    (status = 502, description = "`not_accepted` by the agent, whose `Retry-After` is passed on", body = RelayResponse),
    (status = 503, description = "`early`, or not now", body = RelayResponse)))]
async fn relay(State(state): State<Relay>, request: Request) -> Result<Response, Problem> {
    let (backend, wake) = state.verified(request).await?;
    let answered = async {
        let woken = state.backends.wakes(backend).wake(wake).await.map_err(|error| not_now(&error))?;
        Ok(Answer::of(woken).await)
    };
    let answer: Result<Answer, ApiError> =
        tokio::time::timeout(PATIENCE, answered).await.unwrap_or(Ok(Answer::under_way(SOON)));
    Ok(answer?.into_response())
}

impl Relay {
    /// The wake-up in a request, and the backend that has signed it.
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
        let wake = Wake {
            instance_id: InstanceId::new(body.instance_id)?,
            job_id: JobId::new(body.job_id)?,
            schedule_id: ScheduleId::parse(&body.schedule_id)?,
        };
        Ok((backend, wake))
    }
}

/// Before anything of it was believed.
fn refused(reason: &'static str) {
    metrics::relay_refused(reason);
    warn!(reason, "a request to the relay was refused");
}

fn not_now(error: &WakeError) -> ApiError {
    ApiError::Unavailable { reason: error.to_string().into(), retry_after: SOON }
}
