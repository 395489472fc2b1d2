//! The error responses that routes share, for the `OpenAPI` document. A route lists what it can answer beside them.

#![expect(dead_code, reason = "documents the error responses; handlers return `ApiError` or `Problem`")]

use utoipa::IntoResponses;

use super::{ErrorBody, ProblemBody};

/// The errors of every call to the agent API.
#[derive(IntoResponses)]
pub(in crate::http) enum AgentApiErrors {
    #[response(status = 401, description = "The access token is bad")]
    Unauthorized(ErrorBody),
    #[response(
        status = 403,
        description = "`invalid_client`: this identity can never provision. `access_denied`: the instance is disabled"
    )]
    Forbidden(ErrorBody),
    #[response(status = 503, description = "Not now: come again after `Retry-After`")]
    Unavailable(ErrorBody),
}

/// The errors of every call about the caller's agent identities.
#[derive(IntoResponses)]
pub(in crate::http) enum AgentIdentityErrors {
    #[response(status = 401, description = "The credential is bad")]
    Unauthorized(ErrorBody),
    #[response(status = 403, description = "`agent_identity_off`, `invalid_client` or `access_denied`")]
    Forbidden(ErrorBody),
    #[response(status = 503, description = "Not now: come again after `Retry-After`")]
    Unavailable(ErrorBody),
}

/// The errors of every call of an agent that sends a JSON body.
#[derive(IntoResponses)]
pub(in crate::http) enum BodyErrors {
    #[response(
        status = 400,
        description = "A field cannot be accepted; the description begins with its name"
    )]
    BadRequest(ErrorBody),
    #[response(status = 413, description = "The body is longer than 64 KiB")]
    TooLarge(ErrorBody),
}

/// The errors of every call to the admin API.
#[derive(IntoResponses)]
pub(in crate::http) enum AdminErrors {
    #[response(status = 401, description = "No admin token.", content_type = "application/problem+json")]
    Unauthorized(ProblemBody),
    #[response(
        status = 403,
        description = "The admin API is off.",
        content_type = "application/problem+json"
    )]
    Forbidden(ProblemBody),
    #[response(
        status = 503,
        description = "The database is unavailable; nothing was changed.",
        content_type = "application/problem+json"
    )]
    Unavailable(ProblemBody),
}

/// The error of every call to the admin API that sends parameters.
#[derive(IntoResponses)]
#[response(
    status = 400,
    description = "A field or parameter is missing, wrong or unknown; it is named.",
    content_type = "application/problem+json"
)]
pub(in crate::http) struct InvalidInput(ProblemBody);

/// The errors of every call to the admin API that sends a body.
#[derive(IntoResponses)]
pub(in crate::http) enum AdminBodyErrors {
    #[response(
        status = 400,
        description = "A field or parameter is missing, wrong or unknown; it is named.",
        content_type = "application/problem+json"
    )]
    BadRequest(ProblemBody),
    #[response(
        status = 413,
        description = "The body is longer than 64 KiB.",
        content_type = "application/problem+json"
    )]
    TooLarge(ProblemBody),
}

/// The error of every call to the admin API that names an agent in its path.
#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "No agent of this name is registered.",
    content_type = "application/problem+json"
)]
pub(in crate::http) struct UnknownAgent(ProblemBody);
