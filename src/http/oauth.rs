//! `POST /api/oauth/token`: the built-in portal's token endpoint, where agents refresh their access tokens (RFC 6749,
//! 6).
//!
//! Agents delete their tokens on `invalid_grant` and on every error that is not OAuth-shaped. Therefore only permanent
//! failures are `invalid_grant`; temporary ones are 503 `temporarily_unavailable`.

use std::any::Any;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, PRAGMA};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::{HOSTED_CLIENT, InvalidField};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiError;
use super::error::TokenRefusal;
use super::extract::body;
use super::extract::form::{self, FormFields};
use crate::keys::access_token::SCOPE;
use crate::metrics::{self, PanicPlace};
use crate::own_portal::{Granted, OwnPortal, RefreshError};

/// Maximum time for one request. Real agents time out after 15 s.
const BUDGET: Duration = Duration::from_secs(13);
/// Header in which real agents send their refresh token, because proxies may log bodies.
const REFRESH_TOKEN_HEADER: HeaderName = HeaderName::from_static("x-nous-refresh-token");
/// `Retry-After` while no key can sign.
const RETRY_KEY: Duration = Duration::from_secs(10);

/// Returns the documented route. With `None` the built-in portal is off, and every request gets a 503.
pub fn routes<S: Clone + Send + Sync + 'static>(portal: Option<OwnPortal>) -> OpenApiRouter<S> {
    let panics = CatchPanicLayer::custom(panicked as fn(Box<dyn Any + Send>) -> Response);
    OpenApiRouter::new().routes(routes!(token)).layer(panics).with_state(portal)
}

/// The response after a panic in the handler: a temporary error. The panic itself has been logged.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    metrics::panicked(PanicPlace::Http);
    ApiError::Temporary(Box::new(ApiError::Internal("the handler panicked".into()))).into_response()
}

/// A token request, sent as a form.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "documents the form, which is read field by field")]
struct TokenRequest {
    /// Always `refresh_token`.
    #[schema(pattern = "^refresh_token$", example = "refresh_token")]
    grant_type: String,
    /// The client that access tokens are issued to: always `hermes-cli-vps`.
    #[schema(pattern = "^hermes-cli-vps$", example = "hermes-cli-vps")]
    client_id: String,
    /// The refresh token. Optional if the header `x-nous-refresh-token` has it.
    refresh_token: Option<String>,
}

/// The issued tokens.
#[derive(Serialize, ToSchema)]
struct TokenResponse {
    /// Access token for the agent API.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Lifetime of the access token in seconds, at least 600.
    expires_in: u64,
    /// The next refresh token. The one that was sent stays valid until this one is first used.
    refresh_token: String,
    /// Always `agent_cron`.
    scope: &'static str,
}

impl From<Granted> for TokenResponse {
    fn from(granted: Granted) -> Self {
        Self {
            access_token: granted.access_token.expose_secret().to_owned(),
            token_type: "Bearer",
            expires_in: granted.expires_in.as_secs(),
            refresh_token: granted.refresh_token.expose_secret().to_owned(),
            scope: SCOPE,
        }
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Unknown => TokenRefusal::UnknownGrant(error.to_string()).into(),
            RefreshError::Replaced | RefreshError::Revoked | RefreshError::Reused => {
                TokenRefusal::EndedGrant(error.to_string()).into()
            }
            RefreshError::Gone | RefreshError::Disabled | RefreshError::NoSession => {
                Self::Held(error.to_string())
            }
            RefreshError::NoKey(error) => {
                Self::Unavailable { reason: error.to_string().into(), retry_after: RETRY_KEY }
            }
            RefreshError::Db(error) if error.is_transient() => Self::Store(error.into()),
            RefreshError::Db(error) => Self::Temporary(Box::new(Self::Store(error.into()))),
        }
    }
}

/// Exchange a refresh token
///
/// Returns an access token and the next refresh token. Repeating the request returns the same refresh token.
#[utoipa::path(post, path = "/api/oauth/token", operation_id = "token", tag = "own-portal",
    params(("x-nous-refresh-token" = Option<String>, Header, description = "The refresh token. Optional if the form has it.")),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"), responses(
    (status = 200, description = "The tokens.", body = TokenResponse),
    (status = 400, description = "`invalid_grant`: the refresh token is permanently invalid. `invalid_request`, `unsupported_grant_type` or `invalid_client`: the request is malformed."),
    (status = 503, description = "Temporarily unavailable: retry with the same token after `Retry-After`. Also if the built-in portal is off.")))]
async fn token(State(portal): State<Option<OwnPortal>>, request: Request) -> Result<Response, ApiError> {
    let deadline = Instant::now() + BUDGET;
    // Not 404: on that, an enrolled agent would delete its tokens.
    let portal = portal.ok_or_else(|| {
        ApiError::Held("this service does not issue access tokens: set own_portal to enable it".to_owned())
    })?;
    let refresh_token = refresh_token(request).await.inspect_err(|error| {
        let later = matches!(error, ApiError::Temporary(_));
        metrics::token_requested(if later { "unavailable" } else { "refused" });
    })?;
    let outcome = portal.refresh(refresh_token.expose_secret(), deadline).await;
    metrics::token_requested(match &outcome {
        Ok(_) => "granted",
        Err(RefreshError::Unknown | RefreshError::Replaced | RefreshError::Revoked) => "invalid_grant",
        Err(RefreshError::Reused) => "reused",
        Err(RefreshError::Gone | RefreshError::Disabled | RefreshError::NoSession) => "held",
        Err(RefreshError::NoKey(_) | RefreshError::Db(_)) => "unavailable",
    });
    let headers = [(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")];
    Ok((headers, Json(TokenResponse::from(outcome?))).into_response())
}

/// Makes an incomplete or late body a temporary error. A body that is too long stays a permanent one.
fn temporary(error: ApiError) -> ApiError {
    match error {
        ApiError::TooLarge(_) => error,
        error => ApiError::Temporary(Box::new(error)),
    }
}

/// Reads and checks a token request. Returns its refresh token.
async fn refresh_token(request: Request) -> Result<SecretString, ApiError> {
    let headers = request.headers().clone();
    form::require(&headers)?;
    let in_header = in_header(&headers)?;
    let body = body::read(request).await.map_err(temporary)?;
    let form = FormFields::parse(&body, &["grant_type", "client_id", "refresh_token"])?;
    if form.required("grant_type")?.expose_secret() != "refresh_token" {
        return Err(TokenRefusal::GrantType.into());
    }
    if form.required("client_id")?.expose_secret() != HOSTED_CLIENT {
        return Err(TokenRefusal::Client.into());
    }
    match (in_header, form.text("refresh_token")) {
        (Some(one), Some(other)) if one.expose_secret() != other.expose_secret() => Err(InvalidField::new(
            "refresh_token",
            "must equal the header x-nous-refresh-token, or be omitted",
        )
        .into()),
        (Some(one), _) => Ok(one),
        (None, _) => form.required("refresh_token").cloned(),
    }
}

fn in_header(headers: &HeaderMap) -> Result<Option<SecretString>, ApiError> {
    let mut values = headers.get_all(REFRESH_TOKEN_HEADER).iter().map(HeaderValue::as_bytes);
    let Some(value) = values.next() else { return Ok(None) };
    let invalid = |problem| ApiError::from(InvalidField::new("x-nous-refresh-token", problem));
    if values.next().is_some() {
        return Err(invalid("must be sent only once"));
    }
    let value = std::str::from_utf8(value).map_err(|_| invalid("must be a refresh token"))?.trim();
    Ok((!value.is_empty()).then(|| value.into()))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::routing::post;
    use nas_cron_base::testing::LogLines as Lines;
    use tower::ServiceExt;

    use super::*;

    async fn status_and_error(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1024).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        (status, body["error"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn panic_is_a_temporary_error() {
        let panics = CatchPanicLayer::custom(panicked as fn(Box<dyn Any + Send>) -> Response);
        let app = Router::new().route("/", post(async || -> () { panic!("a secret") })).layer(panics);
        let response = app.oneshot(Request::post("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(status_and_error(response).await, (503, "temporarily_unavailable".to_owned()));
    }

    #[tokio::test]
    async fn truncated_request_is_a_temporary_error_without_a_warning() {
        let (lines, _guard) = Lines::collect("info");
        for error in [ApiError::BodyTimeout, ApiError::Body("the body is incomplete".to_owned())] {
            let response = temporary(error).into_response();
            assert_eq!(status_and_error(response).await, (503, "temporarily_unavailable".to_owned()));
        }
        let levels: Vec<_> = lines.json().iter().map(|line| line["level"].clone()).collect();
        assert_eq!(levels, ["INFO", "INFO"]);
        assert_eq!(status_and_error(temporary(ApiError::TooLarge(1)).into_response()).await.0, 413);
    }
}
