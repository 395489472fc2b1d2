//! Error bodies of the agent API: OAuth's `{"error","error_description"}` (RFC 6749, 5.2; RFC 6750, 3).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::admin_api::QuotaScope;

crate::words!(
    /// The error codes that nas-cron uses in the `error` field. Other servers may use others.
    pub enum ErrorWord {
        /// A field or the body is invalid.
        InvalidRequest = "invalid_request",
        /// The token is missing or invalid.
        InvalidToken = "invalid_token",
        /// The client or identity is permanently not allowed to call. Real agents stop calling.
        InvalidClient = "invalid_client",
        /// The instance is disabled, or the admin token may not do this.
        AccessDenied = "access_denied",
        /// The refresh token is permanently invalid.
        InvalidGrant = "invalid_grant",
        /// The token endpoint supports only the grant type `refresh_token`.
        UnsupportedGrantType = "unsupported_grant_type",
        /// The request lacks a valid signature of the scheduler backend.
        InvalidSignature = "invalid_signature",
        /// The assertion is malformed, outside the clock window, or not signed by its key.
        InvalidAssertion = "invalid_assertion",
        /// The identity is unknown or revoked.
        UnknownAgent = "unknown_agent",
        /// The task is unknown, expired or revoked.
        UnknownTask = "unknown_task",
        /// The service does not accept assertions.
        SchemeNotEnabled = "scheme_not_enabled",
        /// Agent identities are switched off.
        AgentIdentityOff = "agent_identity_off",
        /// The key was revoked and cannot be registered again.
        KeyRevoked = "key_revoked",
        /// The instance has the maximum number of identities.
        TooManyIdentities = "too_many_identities",
        /// The task of this registration was revoked or has expired, and is not restored.
        TaskRevoked = "task_revoked",
        /// The admin API is off: the service has no admin token.
        AdminApiOff = "admin_api_off",
        /// The job is new, and the quota of armed jobs of its instance or org is used up.
        QuotaExceeded = "quota_exceeded",
        /// Calls come too fast: retry after `Retry-After`.
        TooManyRequests = "too_many_requests",
        /// The resource or path is unknown.
        NotFound = "not_found",
        /// The path does not support the method.
        MethodNotAllowed = "method_not_allowed",
        /// The request conflicts with the stored state.
        Conflict = "conflict",
        /// The service is unavailable: retry after `Retry-After`.
        TemporarilyUnavailable = "temporarily_unavailable",
        /// A bug in the service.
        ServerError = "server_error",
    }
);

/// Error body of the agent API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// Error code to branch on.
    #[cfg_attr(feature = "openapi", schema(example = "invalid_request"))]
    pub error: Cow<'static, str>,
    /// Description for people who investigate the error.
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
    /// Scope of the quota that is used up; only with `quota_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<QuotaScope>,
    /// That quota; only with `quota_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Number of armed jobs in its scope; only with `quota_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed: Option<i64>,
}

impl ErrorBody {
    /// Creates the body of an error of nas-cron.
    pub fn new(error: ErrorWord, description: impl Into<String>) -> Self {
        Self {
            error: error.as_str().into(),
            error_description: Some(description.into()),
            scope: None,
            quota: None,
            armed: None,
        }
    }

    /// Adds the numbers of a quota that is used up.
    #[must_use]
    pub fn with_quota(self, scope: QuotaScope, quota: i64, armed: i64) -> Self {
        Self { scope: Some(scope), quota: Some(quota), armed: Some(armed), ..self }
    }
}
