//! Errors as agents get them: OAuth's `{"error","error_description"}` (RFC 6749, 5.2; RFC 6750, 3).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

crate::words!(
    /// Every word that nas-cron puts into the `error` field. Other servers have others.
    pub enum ErrorWord {
        /// A field or the body cannot be accepted.
        InvalidRequest = "invalid_request",
        /// The token opens nothing.
        InvalidToken = "invalid_token",
        /// This client or identity can never call. Real agents stop calling for good.
        InvalidClient = "invalid_client",
        /// The instance is disabled.
        AccessDenied = "access_denied",
        /// The refresh token will never be exchanged.
        InvalidGrant = "invalid_grant",
        /// The token endpoint takes refresh tokens only.
        UnsupportedGrantType = "unsupported_grant_type",
        /// The request is not signed by a scheduler backend.
        InvalidSignature = "invalid_signature",
        /// The assertion is malformed, of another time, or not signed by its key.
        InvalidAssertion = "invalid_assertion",
        /// The identity is unknown or revoked.
        UnknownAgent = "unknown_agent",
        /// The task is unknown, expired or revoked.
        UnknownTask = "unknown_task",
        /// The service takes no assertions.
        SchemeNotEnabled = "scheme_not_enabled",
        /// The service has no agent identities.
        AgentIdentityOff = "agent_identity_off",
        /// The key was revoked and does not come back.
        KeyRevoked = "key_revoked",
        /// The instance has as many identities as it may have.
        TooManyIdentities = "too_many_identities",
        /// The task of this registration was revoked and does not come back.
        TaskRevoked = "task_revoked",
        /// The service has no admin token.
        AdminApiOff = "admin_api_off",
        /// There is no such thing.
        NotFound = "not_found",
        /// The path has another method.
        MethodNotAllowed = "method_not_allowed",
        /// It contradicts what is there.
        Conflict = "conflict",
        /// Not now: try again after `Retry-After`.
        TemporarilyUnavailable = "temporarily_unavailable",
        /// A defect of the service.
        ServerError = "server_error",
    }
);

/// An error as agents get it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// A word to branch on.
    #[cfg_attr(feature = "openapi", schema(example = "invalid_request"))]
    pub error: Cow<'static, str>,
    /// A sentence for whoever looks into it.
    // nas-cron always sends one; other servers may not.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(
            value_type = String,
            required = true,
            example = "fire_at: must be an ISO 8601 date-time with an offset"
        )
    )]
    pub error_description: Option<String>,
}

impl ErrorBody {
    /// An error of nas-cron's own.
    pub fn new(error: ErrorWord, description: impl Into<String>) -> Self {
        Self { error: error.as_str().into(), error_description: Some(description.into()) }
    }
}
