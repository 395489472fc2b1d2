//! One error for all endpoints, in two forms: OAuth's `{"error","error_description"}` for agents (`oauth`), and
//! problem details elsewhere (`problem`).
//!
//! A response is made once, and that is where it is logged. A 5xx reveals nothing of the inside.

mod meaning;
mod oauth;
mod problem;
pub(super) mod responses;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::time::Duration;

pub use nas_cron_protocol::error::ErrorBody;
use nas_cron_protocol::{HOSTED_CLIENT, InvalidField};

use self::meaning::Meaning;
pub use self::problem::{Problem, ProblemBody};
use crate::identity::IdentityError;
use crate::instance::AuthError;
use crate::store_error::StoreError;

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
    Store(#[from] StoreError),
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

impl ApiError {
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
                tracing::info!(status, error = meaning.error.as_str(), reason = %self, "no token was issued");
            }
            (Self::NotFinal(_), _) if self.is_as_it_should_be() => {
                tracing::info!(status, reason = %self, "a request did not arrive whole");
            }
            (Self::NotFinal(_), _) | (_, 500) => tracing::error!(status, reason = %self, "a request failed"),
            (_, 503) => tracing::warn!(status, reason = %self, "a request could not be done now"),
            _ => {
                tracing::info!(status, error = meaning.error.as_str(), reason = %self, "a request was refused");
            }
        }
        (meaning, description)
    }
}
