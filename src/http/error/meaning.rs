//! The response to each error: status, error word and headers.

use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use nas_cron_protocol::error::ErrorWord;

use super::{ApiError, TokenRefusal};
use crate::identity::IdentityError;
use crate::instance::{AuthError, Refusal, VerifyError};

/// `Retry-After` while the database is unavailable.
const RETRY_DATABASE: Duration = Duration::from_secs(5);
/// `Retry-After` while the portal is unavailable. By then its keys have been fetched again, and lookups retried.
const RETRY_PORTAL: Duration = Duration::from_secs(10);
/// `Retry-After` while the portal may still be registering the instance.
const RETRY_REGISTRATION: Duration = Duration::from_secs(30);
/// `Retry-After` for what only an operator can change.
const RETRY_HELD: Duration = Duration::from_mins(1);

/// The response to an error.
pub(super) struct Meaning {
    pub(super) status: StatusCode,
    pub(super) error: ErrorWord,
    /// Public description. `None` if the error's own text is public.
    pub(super) instead: Option<&'static str>,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
}

impl Meaning {
    const fn of(status: StatusCode, error: ErrorWord) -> Self {
        Self { status, error, instead: None, retry_after: None, challenge: None }
    }

    const fn unavailable(retry_after: Duration) -> Self {
        let instead = Some("temporarily unavailable; retry later");
        let retry_after = Some(retry_after);
        Self {
            instead,
            retry_after,
            ..Self::of(StatusCode::SERVICE_UNAVAILABLE, ErrorWord::TemporarilyUnavailable)
        }
    }

    const fn defect() -> Self {
        let instead = Some("internal error");
        Self { instead, ..Self::of(StatusCode::INTERNAL_SERVER_ERROR, ErrorWord::ServerError) }
    }

    fn of_identity(error: &IdentityError) -> Self {
        let refused = |error, challenge| Self {
            challenge: Some(challenge),
            ..Self::of(StatusCode::UNAUTHORIZED, error)
        };
        match error {
            IdentityError::SchemeNotEnabled => refused(ErrorWord::SchemeNotEnabled, "Bearer"),
            IdentityError::Off => Self::of(StatusCode::FORBIDDEN, ErrorWord::AgentIdentityOff),
            IdentityError::Invalid(_) => {
                refused(ErrorWord::InvalidAssertion, "AgentAssertion error=\"invalid_assertion\"")
            }
            IdentityError::UnknownAgent => {
                refused(ErrorWord::UnknownAgent, "AgentAssertion error=\"unknown_agent\"")
            }
            IdentityError::UnknownTask => {
                refused(ErrorWord::UnknownTask, "AgentAssertion error=\"unknown_task\"")
            }
            IdentityError::Disabled => Self::of(StatusCode::FORBIDDEN, ErrorWord::AccessDenied),
            IdentityError::Field(_) => Self::of(StatusCode::BAD_REQUEST, ErrorWord::InvalidRequest),
            IdentityError::KeyRevoked => Self::of(StatusCode::CONFLICT, ErrorWord::KeyRevoked),
            IdentityError::TooMany => Self::of(StatusCode::CONFLICT, ErrorWord::TooManyIdentities),
            IdentityError::TaskRevoked => Self::of(StatusCode::CONFLICT, ErrorWord::TaskRevoked),
            IdentityError::InstanceGone => Self { instead: None, ..Self::unavailable(RETRY_REGISTRATION) },
            IdentityError::Busy => Self { instead: None, ..Self::unavailable(RETRY_DATABASE) },
            IdentityError::Db(error) if error.is_transient() => Self::unavailable(RETRY_DATABASE),
            IdentityError::Db(_) => Self::defect(),
        }
    }

    const fn challenged(challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..Self::of(StatusCode::UNAUTHORIZED, ErrorWord::InvalidToken) }
    }
}

pub(super) const INVALID_TOKEN: &str = "Bearer error=\"invalid_token\"";

impl ApiError {
    pub(super) fn meaning(&self) -> Meaning {
        match self {
            Self::NoToken => Meaning::challenged("Bearer"),
            Self::NoCredential => Meaning::challenged("Bearer, AgentAssertion"),
            Self::Auth(AuthError::Identity(error)) | Self::Identity(error) => Meaning::of_identity(error),
            Self::InvalidSignature => Meaning {
                challenge: Some("Signature"),
                ..Meaning::of(StatusCode::UNAUTHORIZED, ErrorWord::InvalidSignature)
            },
            Self::InvalidToken(_) | Self::Auth(AuthError::Token(VerifyError::Refused(_))) => {
                Meaning::challenged(INVALID_TOKEN)
            }
            Self::Auth(
                AuthError::Token(
                    VerifyError::KeysUnavailable
                    | VerifyError::IntrospectionUnavailable
                    | VerifyError::TooManyWaiters,
                )
                | AuthError::Lookup(_),
            ) => Meaning::unavailable(RETRY_PORTAL),
            Self::Auth(AuthError::Refused(refusal)) => match refusal {
                Refusal::InvalidClient | Refusal::SessionWithoutOrg | Refusal::AudienceAlone => {
                    Meaning::of(StatusCode::FORBIDDEN, ErrorWord::InvalidClient)
                }
                Refusal::Disabled => Meaning::of(StatusCode::FORBIDDEN, ErrorWord::AccessDenied),
                Refusal::NotYetKnown => Meaning { instead: None, ..Meaning::unavailable(RETRY_REGISTRATION) },
            },
            Self::Field(_) | Self::Body(_) => Meaning::of(StatusCode::BAD_REQUEST, ErrorWord::InvalidRequest),
            Self::Token(refusal) => Meaning::of(StatusCode::BAD_REQUEST, refusal.word()),
            Self::Held(_) => Meaning { instead: None, ..Meaning::unavailable(RETRY_HELD) },
            Self::Temporary(_) => Meaning::unavailable(RETRY_DATABASE),
            Self::AdminApiOff => Meaning::of(StatusCode::FORBIDDEN, ErrorWord::AdminApiOff),
            Self::Denied(_) | Self::Forged(_) => Meaning::of(StatusCode::FORBIDDEN, ErrorWord::AccessDenied),
            Self::TooManyFailures(retry_after)
            | Self::TooManyCalls(retry_after)
            | Self::TooFast(retry_after) => Meaning {
                retry_after: Some(*retry_after),
                ..Meaning::of(StatusCode::TOO_MANY_REQUESTS, ErrorWord::TooManyRequests)
            },
            // Without `Retry-After`: what helps is a job that ends, or a higher quota.
            Self::Quota(_) => Meaning::of(StatusCode::TOO_MANY_REQUESTS, ErrorWord::QuotaExceeded),
            Self::TooLarge(_) => Meaning::of(StatusCode::PAYLOAD_TOO_LARGE, ErrorWord::InvalidRequest),
            Self::BodyTimeout => Meaning::of(StatusCode::REQUEST_TIMEOUT, ErrorWord::InvalidRequest),
            Self::NotFound(_) => Meaning::of(StatusCode::NOT_FOUND, ErrorWord::NotFound),
            Self::MethodNotAllowed => {
                Meaning::of(StatusCode::METHOD_NOT_ALLOWED, ErrorWord::MethodNotAllowed)
            }
            Self::Conflict(_) => Meaning::of(StatusCode::CONFLICT, ErrorWord::Conflict),
            Self::Auth(AuthError::Db(error)) | Self::Store(error) if error.is_transient() => {
                Meaning::unavailable(RETRY_DATABASE)
            }
            Self::Unavailable { retry_after, .. } => Meaning::unavailable(*retry_after),
            Self::Auth(AuthError::Db(_)) | Self::Store(_) | Self::Internal(_) => Meaning::defect(),
        }
    }
}

impl TokenRefusal {
    const fn word(&self) -> ErrorWord {
        match self {
            Self::GrantType => ErrorWord::UnsupportedGrantType,
            Self::Client => ErrorWord::InvalidClient,
            Self::EndedGrant(_) | Self::UnknownGrant(_) => ErrorWord::InvalidGrant,
        }
    }
}

/// Adds the headers of an error response.
pub(super) fn with_headers(meaning: &Meaning, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(challenge) = meaning.challenge {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(retry_after) = meaning.retry_after {
        // `Retry-After` has whole seconds: round up.
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
