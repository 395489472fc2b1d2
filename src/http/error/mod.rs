//! The error of all endpoints, in three forms: OAuth's `{"error","error_description"}` for agents (`oauth`), pages for
//! operators with a browser (`page`), and problem details elsewhere (`problem`).
//!
//! An error is logged when its response is built. A 5xx response reveals no internal details.

mod form;
mod meaning;
mod oauth;
mod page;
mod problem;
pub(super) mod responses;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use axum::http::Uri;
use axum::response::Response;
pub use nas_cron_protocol::error::ErrorBody;
use nas_cron_protocol::{HOSTED_CLIENT, InvalidField};

pub(super) use self::form::Form;
use self::meaning::Meaning;
pub use self::page::ErrorPage;
pub(super) use self::page::Failure;
pub use self::problem::{Problem, ProblemBody};
use crate::domain::actor::Denied;
use crate::domain::quota::QuotaExceeded;
use crate::identity::IdentityError;
use crate::instance::AuthError;
use crate::oneshot::ProvisionError;
use crate::store_error::StoreError;

/// An error of a request.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 401: the bearer token is missing.
    #[error("missing bearer token: send an Authorization header with the scheme Bearer")]
    NoToken,
    /// 401: the bearer token or assertion is missing.
    #[error("missing credential: send an Authorization header with the scheme Bearer or AgentAssertion")]
    NoCredential,
    /// 401: the bearer token is invalid.
    #[error("{0}")]
    InvalidToken(&'static str),
    /// 401: no scheduler backend signed this URL and body.
    #[error("missing or invalid signature of a scheduler backend")]
    InvalidSignature,
    /// 401, 403 or 503: the calling instance could not be identified.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// 400, 401, 403, 409 or 503: a key, a task or an assertion was rejected.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// 400: a field is invalid. The description begins with its name.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// 400: the body is invalid.
    #[error("{0}")]
    Body(String),
    /// 413: the body is longer than this many bytes.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// 408: the body did not arrive in time.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// 400: the token endpoint rejects the request permanently (RFC 6749, 5.2).
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// 503: the agent's login is kept, but no token is issued until the state in the text changes.
    #[error("{0}")]
    Held(String),
    /// 503 for any error of the token endpoint that may pass: real agents take every other status for permanent.
    #[error(transparent)]
    Temporary(Box<ApiError>),
    /// 403: the service has no admin token.
    #[error(
        "no admin token exists: create one with `nas-cron admin-tokens create`, or set NAS_CRON_ADMIN_TOKEN_SHA256 to \
         the SHA-256 of one, in hex"
    )]
    AdminApiOff,
    /// 403: the admin token may not do this.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// 403: a form is not from a page of the operator's session.
    #[error("{0}")]
    Forged(&'static str),
    /// 429: too many calls with an invalid admin token came from this address. The next one may come after this time.
    #[error("too many calls with an invalid admin token; retry later")]
    TooManyFailures(Duration),
    /// 429: calls with this admin token come too fast. The next one may come after this time.
    #[error(
        "too many calls with this admin token: a replica accepts {} per second; retry later",
        crate::http::admin::CALLS_PER_SECOND
    )]
    TooManyCalls(Duration),
    /// 429: the calls of this instance come too fast. The next one may come after this time.
    #[error(
        "too many calls of this agent: they wait for their turn, and this one would wait too long; retry later"
    )]
    TooFast(Duration),
    /// 429: the job is new, and a quota is used up.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// 404: the resource does not exist.
    #[error("{0}")]
    NotFound(Cow<'static, str>),
    /// 405: the path does not support this method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// 409: the request conflicts with the stored state.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// 503 for a transient database error, else 500.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// 503: temporarily unavailable. The reason is only logged.
    #[error("{reason}")]
    Unavailable {
        /// Reason, for the log.
        reason: Cow<'static, str>,
        /// Value of the `Retry-After` header.
        retry_after: Duration,
    },
    /// 500: a defect. The cause is only logged.
    #[error("{0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A permanent rejection by the token endpoint.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefusal {
    /// The grant type is not supported.
    #[error("grant_type: must be refresh_token")]
    GrantType,
    /// Logins are not issued to this client.
    #[error("client_id: must be {HOSTED_CLIENT}")]
    Client,
    /// The refresh token's login has ended. Real agents then delete their tokens.
    #[error("{0}")]
    EndedGrant(String),
    /// The refresh token was never issued. Anyone can send such a token.
    #[error("{0}")]
    UnknownGrant(String),
}

impl From<ProvisionError> for ApiError {
    fn from(error: ProvisionError) -> Self {
        match error {
            ProvisionError::Quota(exceeded) => exceeded.into(),
            ProvisionError::Store(error) => error.into(),
        }
    }
}

/// Handles unknown paths.
pub async fn not_found(uri: Uri) -> Response {
    Form::of(uri.path()).response(ApiError::NotFound("unknown path".into()))
}

/// Handles known paths with an unsupported method.
pub async fn method_not_allowed(uri: Uri) -> Response {
    Form::of(uri.path()).response(ApiError::MethodNotAllowed)
}

/// Marks a 503 response that callers cause, so that it is not logged as a failure of the service.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedUnavailable;

impl ApiError {
    /// True for a 503 that is not a failure of the service: the login is held, or the request did not arrive completely.
    fn is_expected(&self) -> bool {
        match self {
            Self::Held(_) => true,
            Self::Temporary(cause) => cause.meaning().status.is_client_error(),
            _ => false,
        }
    }

    /// Logs the error, and returns its response and description. Called once, when the response is built.
    fn log(&self) -> (Meaning, String) {
        let meaning = self.meaning();
        let status = meaning.status.as_u16();
        let description = meaning.instead.map_or_else(|| self.to_string(), str::to_owned);
        match (self, status) {
            // Anyone can cause these at any rate. `instance` has logged the refused callers of the agent API.
            (
                Self::Auth(AuthError::Token(_) | AuthError::Refused(_) | AuthError::Lookup(_))
                | Self::Token(TokenRefusal::UnknownGrant(_)),
                _,
            )
            | (Self::Auth(_), 403)
            | (_, 401 | 404 | 405 | 429) => {
                tracing::debug!(status, reason = %self, "request rejected");
            }
            (Self::Held(_) | Self::Token(_), _) => {
                tracing::info!(status, error = meaning.error.as_str(), reason = %self, "token request rejected");
            }
            (Self::Temporary(_), _) if self.is_expected() => {
                tracing::info!(status, reason = %self, "incomplete request received");
            }
            (Self::Temporary(_), _) | (_, 500) => tracing::error!(status, reason = %self, "request failed"),
            (_, 503) => tracing::warn!(status, reason = %self, "request could not be served"),
            _ => {
                tracing::info!(status, error = meaning.error.as_str(), reason = %self, "request rejected");
            }
        }
        (meaning, description)
    }
}
