//! One error for all endpoints, in two forms: OAuth's `{"error","error_description"}` for agents (RFC 6749, 5.2;
//! RFC 6750, 3), and problem details elsewhere (RFC 9457).
//!
//! A response is made once, and that is where it is logged. What is said of a 5xx says nothing of the inside.

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::time::Duration;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::{HOSTED_CLIENT, InvalidField};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::DbError;
use crate::identity::IdentityError;
use crate::instance::{AuthError, Refusal, VerifyError};

/// After this, the database may be back.
const RETRY_DATABASE: Duration = Duration::from_secs(5);
/// After this, another fetch of the portal's keys has begun, and it has been asked again whatever else it was asked.
const RETRY_PORTAL: Duration = Duration::from_secs(10);
/// After this, the portal may have registered the instance.
const RETRY_REGISTRATION: Duration = Duration::from_secs(30);

/// After this, an operator may have put it right.
const RETRY_HELD: Duration = Duration::from_mins(1);

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 401: no bearer token was sent.
    #[error("the request carries no bearer token")]
    NoToken,
    /// 401: neither a bearer token nor an agent's assertion was sent.
    #[error("the request carries neither a bearer token nor an AgentAssertion")]
    NoCredential,
    /// 401: what was sent is not a bearer token that opens this.
    #[error("{0}")]
    InvalidToken(&'static str),
    /// 401: what was sent is not signed by a scheduler backend for this URL and body.
    #[error("the request is not signed as a scheduler backend signs it")]
    InvalidSignature,
    /// 401, 403 or 503: nobody is known to call.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// 400, 401, 403 or 409: a key, a task or an assertion is not taken.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// 400: a field cannot be accepted. The description begins with its name.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// 400: the body is not what it should be; the text says how.
    #[error("{0}")]
    Body(String),
    /// 413: the body is longer than this many bytes.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// 408: the body did not come in time.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// 400: the token endpoint refuses for good (RFC 6749, 5.2).
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// 503: the agent's login is kept, and nothing is issued for now. The text says until when.
    #[error("{0}")]
    Held(String),
    /// 503 whatever it is: of the token endpoint, where real agents take everything else for final.
    #[error(transparent)]
    NotFinal(Box<ApiError>),
    /// 404: there is no such thing.
    #[error("{0}")]
    NotFound(Cow<'static, str>),
    /// 405: there is, and it does not answer to this method.
    #[error("this method is not allowed here")]
    MethodNotAllowed,
    /// 409: it contradicts what is there.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// 503 where trying again may help, else 500.
    #[error(transparent)]
    Db(#[from] DbError),
    /// 503: not now. The reason is for the log.
    #[error("{reason}")]
    Unavailable {
        /// Why, for the log.
        reason: Cow<'static, str>,
        /// When to come again.
        retry_after: Duration,
    },
    /// 500: a defect. The cause is for the log.
    #[error("{0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why the token endpoint refuses for good, beside a request that is none.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefusal {
    /// Another kind of grant.
    #[error("grant_type: must be refresh_token")]
    GrantType,
    /// Not the client that logins are issued to.
    #[error("client_id: must be {HOSTED_CLIENT}")]
    Client,
    /// The refresh token opens nothing any more. Real agents then throw theirs away.
    #[error("{0}")]
    Grant(String),
    /// It never did: anybody can send one.
    #[error("{0}")]
    Stranger(String),
}

impl TokenRefusal {
    const fn word(&self) -> &'static str {
        match self {
            Self::GrantType => "unsupported_grant_type",
            Self::Client => "invalid_client",
            Self::Grant(_) | Self::Stranger(_) => "invalid_grant",
        }
    }
}

/// An error as agents get it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// A word to branch on.
    #[schema(example = "invalid_request")]
    pub error: Cow<'static, str>,
    /// A sentence for whoever looks into it.
    #[schema(example = "fire_at: must be an ISO 8601 date-time with an offset")]
    pub error_description: String,
}

/// An error as problem details (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Always `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// The status in words.
    pub title: Cow<'static, str>,
    /// The status.
    pub status: u16,
    /// A sentence for whoever looks into it.
    pub detail: String,
    /// A word to branch on, as agents get it.
    pub error: Cow<'static, str>,
}

/// The same errors for endpoints that are not the agents': `Result<_, Problem>` with `?` on anything that
/// becomes an [`ApiError`].
#[derive(Debug)]
pub struct Problem(pub ApiError);

impl<E: Into<ApiError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// For the router's fallback.
pub fn not_found() -> Ready<ApiError> {
    ready(ApiError::NotFound("there is nothing at this path".into()))
}

/// For the router's fallback of known paths.
pub fn method_not_allowed() -> Ready<ApiError> {
    ready(ApiError::MethodNotAllowed)
}

/// Marks an answer of 5xx that is no failure of ours: strangers can cause it at any rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoFailure;

/// What an error means on the wire.
struct Meaning {
    status: StatusCode,
    error: &'static str,
    /// `None`: the error's own text may be shown.
    instead: Option<&'static str>,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
}

impl Meaning {
    const fn of(status: StatusCode, error: &'static str) -> Self {
        Self { status, error, instead: None, retry_after: None, challenge: None }
    }

    const fn not_now(retry_after: Duration) -> Self {
        let instead = Some("this cannot be done right now, try again later");
        let retry_after = Some(retry_after);
        Self { instead, retry_after, ..Self::of(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable") }
    }

    const fn defect() -> Self {
        let instead = Some("something went wrong here");
        Self { instead, ..Self::of(StatusCode::INTERNAL_SERVER_ERROR, "server_error") }
    }

    fn of_identity(error: &IdentityError) -> Self {
        let refused = |error, challenge| Self {
            challenge: Some(challenge),
            ..Self::of(StatusCode::UNAUTHORIZED, error)
        };
        match error {
            IdentityError::SchemeNotEnabled => refused("scheme_not_enabled", "Bearer"),
            IdentityError::Off => Self::of(StatusCode::FORBIDDEN, "agent_identity_off"),
            IdentityError::Invalid(_) => {
                refused("invalid_assertion", "AgentAssertion error=\"invalid_assertion\"")
            }
            IdentityError::UnknownAgent => refused("unknown_agent", "AgentAssertion error=\"unknown_agent\""),
            IdentityError::UnknownTask => refused("unknown_task", "AgentAssertion error=\"unknown_task\""),
            IdentityError::Disabled => Self::of(StatusCode::FORBIDDEN, "access_denied"),
            IdentityError::Field(_) => Self::of(StatusCode::BAD_REQUEST, "invalid_request"),
            IdentityError::KeyRevoked => Self::of(StatusCode::CONFLICT, "key_revoked"),
            IdentityError::TooMany => Self::of(StatusCode::CONFLICT, "too_many_identities"),
            IdentityError::TaskRevoked => Self::of(StatusCode::CONFLICT, "task_revoked"),
            IdentityError::InstanceGone => Self { instead: None, ..Self::not_now(RETRY_REGISTRATION) },
            IdentityError::Busy => Self { instead: None, ..Self::not_now(RETRY_DATABASE) },
            IdentityError::Db(error) if error.is_transient() => Self::not_now(RETRY_DATABASE),
            IdentityError::Db(_) => Self::defect(),
        }
    }

    const fn challenged(challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..Self::of(StatusCode::UNAUTHORIZED, "invalid_token") }
    }
}

const INVALID_TOKEN: &str = "Bearer error=\"invalid_token\"";

impl ApiError {
    fn meaning(&self) -> Meaning {
        match self {
            Self::NoToken => Meaning::challenged("Bearer"),
            Self::NoCredential => Meaning::challenged("Bearer, AgentAssertion"),
            Self::Auth(AuthError::Identity(error)) | Self::Identity(error) => Meaning::of_identity(error),
            Self::InvalidSignature => Meaning {
                challenge: Some("Signature"),
                ..Meaning::of(StatusCode::UNAUTHORIZED, "invalid_signature")
            },
            Self::InvalidToken(_) | Self::Auth(AuthError::Token(VerifyError::Refused(_))) => {
                Meaning::challenged(INVALID_TOKEN)
            }
            Self::Auth(
                AuthError::Token(VerifyError::NoFetch | VerifyError::NoAnswer | VerifyError::TooManyWaiters)
                | AuthError::Lookup(_),
            ) => Meaning::not_now(RETRY_PORTAL),
            Self::Auth(AuthError::Refused(refusal)) => match refusal {
                Refusal::InvalidClient => Meaning::of(StatusCode::FORBIDDEN, "invalid_client"),
                Refusal::Disabled => Meaning::of(StatusCode::FORBIDDEN, "access_denied"),
                Refusal::NotYetKnown => Meaning { instead: None, ..Meaning::not_now(RETRY_REGISTRATION) },
            },
            Self::Field(_) | Self::Body(_) => Meaning::of(StatusCode::BAD_REQUEST, "invalid_request"),
            Self::Token(refusal) => Meaning::of(StatusCode::BAD_REQUEST, refusal.word()),
            Self::Held(_) => Meaning { instead: None, ..Meaning::not_now(RETRY_HELD) },
            Self::NotFinal(_) => Meaning::not_now(RETRY_DATABASE),
            Self::TooLarge(_) => Meaning::of(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
            Self::BodyTimeout => Meaning::of(StatusCode::REQUEST_TIMEOUT, "invalid_request"),
            Self::NotFound(_) => Meaning::of(StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => Meaning::of(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Conflict(_) => Meaning::of(StatusCode::CONFLICT, "conflict"),
            Self::Auth(AuthError::Db(error)) | Self::Db(error) if error.is_transient() => {
                Meaning::not_now(RETRY_DATABASE)
            }
            Self::Unavailable { retry_after, .. } => Meaning::not_now(*retry_after),
            Self::Auth(AuthError::Db(_)) | Self::Db(_) | Self::Internal(_) => Meaning::defect(),
        }
    }

    /// Whether a 503 tells of nothing that is wrong here: the caller is held, or did not send all of its request.
    fn is_as_it_should_be(&self) -> bool {
        match self {
            Self::Held(_) => true,
            Self::NotFinal(cause) => cause.meaning().status.is_client_error(),
            _ => false,
        }
    }

    /// Logs it, and says what it means. Called once, when the response is made.
    fn told(&self) -> (Meaning, String) {
        let meaning = self.meaning();
        let status = meaning.status.as_u16();
        let description = meaning.instead.map_or_else(|| self.to_string(), str::to_owned);
        match (self, status) {
            // Strangers can cause these, at any rate. That the portal is away is logged where it is noticed.
            (
                Self::Auth(AuthError::Token(_) | AuthError::Lookup(_))
                | Self::Token(TokenRefusal::Stranger(_)),
                _,
            )
            | (_, 401 | 404 | 405) => {
                tracing::debug!(status, reason = %self, "a request was refused");
            }
            (Self::Held(_) | Self::Token(_), _) => {
                tracing::info!(status, error = meaning.error, reason = %self, "no token was issued");
            }
            (Self::NotFinal(_), _) if self.is_as_it_should_be() => {
                tracing::info!(status, reason = %self, "a request did not arrive whole");
            }
            (Self::NotFinal(_), _) | (_, 500) => tracing::error!(status, reason = %self, "a request failed"),
            (_, 503) => tracing::warn!(status, reason = %self, "a request could not be done now"),
            _ => tracing::info!(status, error = meaning.error, reason = %self, "a request was refused"),
        }
        (meaning, description)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (meaning, error_description) = self.told();
        let body = ErrorBody { error: meaning.error.into(), error_description };
        let mut response = with_headers(&meaning, (meaning.status, Json(body)).into_response());
        if self.is_as_it_should_be() {
            response.extensions_mut().insert(NoFailure);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (meaning, detail) = self.0.told();
        let body = ProblemBody {
            kind: "about:blank".into(),
            title: meaning.status.canonical_reason().unwrap_or_default().into(),
            status: meaning.status.as_u16(),
            detail,
            error: meaning.error.into(),
        };
        let mut response = with_headers(&meaning, (meaning.status, Json(body)).into_response());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

fn with_headers(meaning: &Meaning, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(challenge) = meaning.challenge {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(retry_after) = meaning.retry_after {
        // Whole seconds, rounded up: not earlier than meant.
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::post;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::instance::TokenError;

    async fn told(error: impl IntoResponse) -> (u16, Value, Vec<(String, String)>) {
        let response = error.into_response();
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .filter(|(name, _)| ["retry-after", "www-authenticate"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap(), headers)
    }

    fn away() -> DbError {
        DbError::Unavailable("no connection in time from the pool".into())
    }

    fn defect() -> DbError {
        DbError::Defect("no column secret_column".into())
    }

    #[tokio::test]
    async fn every_error_has_its_status_its_word_and_its_headers() {
        let verify = |error: VerifyError| ApiError::from(AuthError::from(error));
        let refused = |error: Refusal| ApiError::from(AuthError::from(error));
        let cases = [
            (ApiError::NoToken, 401, "invalid_token", Some(("www-authenticate", "Bearer"))),
            (ApiError::InvalidSignature, 401, "invalid_signature", Some(("www-authenticate", "Signature"))),
            (ApiError::InvalidToken("x"), 401, "invalid_token", Some(("www-authenticate", INVALID_TOKEN))),
            (
                verify(TokenError::Expired.into()),
                401,
                "invalid_token",
                Some(("www-authenticate", INVALID_TOKEN)),
            ),
            (verify(VerifyError::NoFetch), 503, "temporarily_unavailable", Some(("retry-after", "10"))),
            (
                verify(VerifyError::TooManyWaiters),
                503,
                "temporarily_unavailable",
                Some(("retry-after", "10")),
            ),
            (refused(Refusal::InvalidClient), 403, "invalid_client", None),
            (refused(Refusal::Disabled), 403, "access_denied", None),
            (refused(Refusal::NotYetKnown), 503, "temporarily_unavailable", Some(("retry-after", "30"))),
            (InvalidField::new("fire_at", "is odd").into(), 400, "invalid_request", None),
            (ApiError::Body("x".to_owned()), 400, "invalid_request", None),
            (ApiError::TooLarge(65536), 413, "invalid_request", None),
            (ApiError::BodyTimeout, 408, "invalid_request", None),
            (ApiError::NotFound("x".into()), 404, "not_found", None),
            (ApiError::MethodNotAllowed, 405, "method_not_allowed", None),
            (ApiError::Conflict("x".into()), 409, "conflict", None),
            (away().into(), 503, "temporarily_unavailable", Some(("retry-after", "5"))),
            (AuthError::from(away()).into(), 503, "temporarily_unavailable", Some(("retry-after", "5"))),
            (defect().into(), 500, "server_error", None),
            (AuthError::from(defect()).into(), 500, "server_error", None),
            (ApiError::Internal("secret".into()), 500, "server_error", None),
            (
                ApiError::Unavailable { reason: "secret".into(), retry_after: Duration::from_millis(1500) },
                503,
                "temporarily_unavailable",
                Some(("retry-after", "2")),
            ),
        ];
        for (error, status, word, header) in cases {
            let name = format!("{error:?}");
            let (told_status, body, headers) = told(error).await;
            assert_eq!((told_status, body["error"].as_str().unwrap()), (status, word), "{name}");
            let header: Vec<_> =
                header.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
            assert_eq!(headers, header, "{name}");
            let description = body["error_description"].as_str().unwrap();
            assert!(!description.is_empty() && !description.contains("secret"), "{name}: {description}");
            assert!(!description.contains("pool"), "5xx say nothing of the inside: {description}");
        }
    }

    #[tokio::test]
    async fn so_has_every_refusal_of_a_key() {
        use IdentityError as E;
        let asserted = |error: &str| Some(("www-authenticate", format!("AgentAssertion error=\"{error}\"")));
        let cases = [
            (E::SchemeNotEnabled, 401, "scheme_not_enabled", Some(("www-authenticate", "Bearer".to_owned()))),
            (E::Off, 403, "agent_identity_off", None),
            (E::Invalid("x"), 401, "invalid_assertion", asserted("invalid_assertion")),
            (E::UnknownAgent, 401, "unknown_agent", asserted("unknown_agent")),
            (E::UnknownTask, 401, "unknown_task", asserted("unknown_task")),
            (E::Disabled, 403, "access_denied", None),
            (InvalidField::new("replaces", "is odd").into(), 400, "invalid_request", None),
            (E::KeyRevoked, 409, "key_revoked", None),
            (E::TooMany, 409, "too_many_identities", None),
            (E::TaskRevoked, 409, "task_revoked", None),
            (E::InstanceGone, 503, "temporarily_unavailable", Some(("retry-after", "30".to_owned()))),
            (E::Busy, 503, "temporarily_unavailable", Some(("retry-after", "5".to_owned()))),
            (away().into(), 503, "temporarily_unavailable", Some(("retry-after", "5".to_owned()))),
            (defect().into(), 500, "server_error", None),
        ];
        for (error, status, word, header) in cases {
            let name = format!("{error:?}");
            let (told_status, body, headers) = told(ApiError::from(AuthError::from(error))).await;
            assert_eq!((told_status, body["error"].as_str().unwrap()), (status, word), "{name}");
            let header: Vec<_> = header.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
            assert_eq!(headers, header, "{name}");
            let description = body["error_description"].as_str().unwrap();
            assert!(!description.is_empty() && !description.contains("secret"), "{name}: {description}");
        }
    }

    #[tokio::test]
    async fn a_field_is_named_first() {
        let (_, body, _) = told(ApiError::from(InvalidField::new("fire_at", "must have an offset"))).await;
        assert_eq!(
            body,
            json!({"error": "invalid_request", "error_description": "fire_at: must have an offset"})
        );
    }

    #[tokio::test]
    async fn elsewhere_errors_are_problem_details() {
        let response = Problem::from(InvalidField::new("org_id", "must not be empty")).into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let (status, body, _) = told(response).await;
        assert_eq!(status, 400);
        assert_eq!(
            body,
            json!({
                "type": "about:blank", "title": "Bad Request", "status": 400,
                "detail": "org_id: must not be empty", "error": "invalid_request",
            })
        );
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_get_json_too() {
        let router = Router::new()
            .route("/a", post(async || ""))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed);
        let call = async |path: &str| {
            router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
        };
        let wrong_method = call("/a").await;
        assert_eq!(wrong_method.headers()["allow"], "POST");
        assert_eq!(told(wrong_method).await.1["error"], "method_not_allowed");
        let (status, body, _) = told(call("/b").await).await;
        assert_eq!((status, body["error"].as_str().unwrap()), (404, "not_found"));
    }
}
