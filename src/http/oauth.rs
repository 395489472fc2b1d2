//! `POST /api/oauth/token`: where agents refresh their access tokens when this service is their portal (RFC 6749, 6).
//!
//! Agents throw their tokens away on an error that they take for final, and on every one that is not OAuth-shaped.
//! So `invalid_grant` is said of nothing that may pass, and what passes is 503 `temporarily_unavailable`.

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
use super::error::{ErrorBody, TokenRefusal};
use super::extract::body;
use super::extract::form::{self, FormFields};
use crate::keys::access_token::SCOPE;
use crate::metrics::{self, PanicPlace};
use crate::own_portal::{Granted, OwnPortal, RefreshError};

/// What one request may take in all: real agents give up after 15 s.
const BUDGET: Duration = Duration::from_secs(13);
/// Where real agents put their refresh token: out of the bodies that proxies may log.
const REFRESH_TOKEN_HEADER: HeaderName = HeaderName::from_static("x-nous-refresh-token");
/// After this, a key may sign again.
const RETRY_KEY: Duration = Duration::from_secs(10);

/// The route, with its documentation. `None`: this service is not the portal, and says so.
pub fn routes<S: Clone + Send + Sync + 'static>(portal: Option<OwnPortal>) -> OpenApiRouter<S> {
    let panics = CatchPanicLayer::custom(panicked as fn(Box<dyn Any + Send>) -> Response);
    OpenApiRouter::new().routes(routes!(token)).layer(panics).with_state(portal)
}

/// The answer of a handler that panicked: not final either. What it panicked with is in the log already.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    metrics::panicked(PanicPlace::Http);
    ApiError::NotFinal(Box::new(ApiError::Internal("the handler panicked".into()))).into_response()
}

/// What is sent, as a form.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "for the document: a form is read field by field, each at most once")]
struct TokenRequest {
    /// Always `refresh_token`.
    #[schema(example = "refresh_token")]
    grant_type: String,
    /// The client that agents' tokens are issued to.
    #[schema(example = "hermes-cli-vps")]
    client_id: String,
    /// The refresh token, unless it is in the header `x-nous-refresh-token`.
    refresh_token: Option<String>,
}

/// Tokens.
#[derive(Serialize, ToSchema)]
struct TokenResponse {
    /// For hop 1.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// How long it opens it, in seconds: 600 or more.
    expires_in: u64,
    /// For the next time. The one that was sent stays good until this one is first used.
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
            RefreshError::Unknown => TokenRefusal::Stranger(error.to_string()).into(),
            RefreshError::Replaced | RefreshError::Reused => TokenRefusal::Grant(error.to_string()).into(),
            RefreshError::Gone | RefreshError::Disabled | RefreshError::NoSession => {
                Self::Held(error.to_string())
            }
            RefreshError::NoKey(error) => {
                Self::Unavailable { reason: error.to_string().into(), retry_after: RETRY_KEY }
            }
            RefreshError::Db(error) if error.is_transient() => Self::Store(error.into()),
            RefreshError::Db(error) => Self::NotFinal(Box::new(Self::Store(error.into()))),
        }
    }
}

/// Exchange a refresh token
///
/// Answers an access token and the next refresh token. Repeating it answers the same refresh token.
#[utoipa::path(post, path = "/api/oauth/token", operation_id = "token", tag = "own-portal",
    params(("x-nous-refresh-token" = Option<String>, Header, description = "The refresh token, unless it is in the form")),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"), responses(
    (status = 200, description = "Tokens", body = TokenResponse),
    (status = 400, description = "`invalid_request`, `unsupported_grant_type`, `invalid_client`; `invalid_grant`: this refresh token will never be exchanged", body = ErrorBody),
    (status = 413, description = "The body is longer than 64 KiB", body = ErrorBody),
    (status = 503, description = "Not now: come again after `Retry-After` with the same token. Also where this service is not the portal", body = ErrorBody)))]
async fn token(State(portal): State<Option<OwnPortal>>, request: Request) -> Result<Response, ApiError> {
    let deadline = Instant::now() + BUDGET;
    // Not 404: an agent that is enrolled here must not lose its login to a setting.
    let portal = portal.ok_or_else(|| {
        ApiError::Held("this service issues no access tokens: own_portal is not set".to_owned())
    })?;
    let refresh_token = refresh_token(request).await.inspect_err(|error| {
        let later = matches!(error, ApiError::NotFinal(_));
        metrics::token_requested(if later { "unavailable" } else { "refused" });
    })?;
    let outcome = portal.refresh(refresh_token.expose_secret(), deadline).await;
    metrics::token_requested(match &outcome {
        Ok(_) => "granted",
        Err(RefreshError::Unknown | RefreshError::Replaced) => "invalid_grant",
        Err(RefreshError::Reused) => "reused",
        Err(RefreshError::Gone | RefreshError::Disabled | RefreshError::NoSession) => "held",
        Err(RefreshError::NoKey(_) | RefreshError::Db(_)) => "unavailable",
    });
    let headers = [(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")];
    Ok((headers, Json(TokenResponse::from(outcome?))).into_response())
}

/// A body that did not come, or broke off, may be whole the next time; one that is too long will not.
fn arrives_later(error: ApiError) -> ApiError {
    match error {
        ApiError::TooLarge(_) => error,
        error => ApiError::NotFinal(Box::new(error)),
    }
}

/// The one refresh token of a sound request.
async fn refresh_token(request: Request) -> Result<SecretString, ApiError> {
    let headers = request.headers().clone();
    form::require(&headers)?;
    let in_header = in_header(&headers)?;
    let body = body::read(request).await.map_err(arrives_later)?;
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
            "must be the one of the header x-nous-refresh-token, or be left out",
        )
        .into()),
        (Some(one), _) => Ok(one),
        (None, _) => form.required("refresh_token").cloned(),
    }
}

fn in_header(headers: &HeaderMap) -> Result<Option<SecretString>, ApiError> {
    let mut values = headers.get_all(REFRESH_TOKEN_HEADER).iter().map(HeaderValue::as_bytes);
    let Some(value) = values.next() else { return Ok(None) };
    let odd = |problem| ApiError::from(InvalidField::new("x-nous-refresh-token", problem));
    if values.next().is_some() {
        return Err(odd("must be sent once"));
    }
    let value = std::str::from_utf8(value).map_err(|_| odd("must be a refresh token"))?.trim();
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

    async fn told(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1024).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        (status, body["error"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_panic_is_not_final() {
        let panics = CatchPanicLayer::custom(panicked as fn(Box<dyn Any + Send>) -> Response);
        let app = Router::new().route("/", post(async || -> () { panic!("a secret") })).layer(panics);
        let response = app.oneshot(Request::post("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(told(response).await, (503, "temporarily_unavailable".to_owned()));
    }

    #[tokio::test]
    async fn a_truncated_message_is_neither_final_nor_a_warning() {
        let (lines, _guard) = Lines::collect("info");
        for error in [ApiError::BodyTimeout, ApiError::Body("the body broke off".to_owned())] {
            let response = arrives_later(error).into_response();
            assert_eq!(told(response).await, (503, "temporarily_unavailable".to_owned()));
        }
        let told_levels: Vec<_> = lines.json().iter().map(|line| line["level"].clone()).collect();
        assert_eq!(told_levels, ["INFO", "INFO"]);
        assert_eq!(told(arrives_later(ApiError::TooLarge(1)).into_response()).await.0, 413);
    }
}
