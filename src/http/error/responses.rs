//! Error responses that several routes share, for the `OpenAPI` document. Each route adds its own.

#![expect(dead_code, reason = "documents the error responses; handlers return `ApiError` or `Problem`")]

use utoipa::IntoResponses;

use super::{ErrorBody, ProblemBody};

/// Errors of every operation of the agent API.
#[derive(IntoResponses)]
pub(in crate::http) enum AgentApiErrors {
    #[response(status = 401, description = "The credential is missing or invalid.")]
    Unauthorized(ErrorBody),
    #[response(
        status = 403,
        description = "`invalid_client`: the token belongs to no agent instance; this is permanent. `access_denied`: the instance is disabled."
    )]
    Forbidden(ErrorBody),
    #[response(status = 503, description = "Temporarily unavailable. Retry after `Retry-After`.")]
    Unavailable(ErrorBody),
}

/// Errors of every operation on the caller's agent identities.
#[derive(IntoResponses)]
pub(in crate::http) enum AgentIdentityErrors {
    #[response(status = 401, description = "The credential is missing or invalid.")]
    Unauthorized(ErrorBody),
    #[response(
        status = 403,
        description = "`agent_identity_off`: agent identities are off. `invalid_client` or `access_denied`, as in the agent API."
    )]
    Forbidden(ErrorBody),
    #[response(status = 503, description = "Temporarily unavailable. Retry after `Retry-After`.")]
    Unavailable(ErrorBody),
}

/// Errors of every operation for agents with a JSON body.
#[derive(IntoResponses)]
pub(in crate::http) enum BodyErrors {
    #[response(
        status = 400,
        description = "A field is missing or invalid. The description begins with its name."
    )]
    BadRequest(ErrorBody),
    #[response(status = 413, description = "The body is longer than 64 KiB.")]
    TooLarge(ErrorBody),
}

/// Errors of every operation of the admin API.
#[derive(IntoResponses)]
pub(in crate::http) enum AdminErrors {
    #[response(
        status = 401,
        description = "The admin token is missing or invalid.",
        content_type = "application/problem+json"
    )]
    Unauthorized(ProblemBody),
    #[response(
        status = 403,
        description = "`access_denied`: the admin token lacks the role, or is limited to an org. `admin_api_off`: no admin token exists.",
        content_type = "application/problem+json"
    )]
    Forbidden(ProblemBody),
    #[response(
        status = 429,
        description = "Too many calls with an invalid admin token came from this address. Retry after `Retry-After`.",
        content_type = "application/problem+json"
    )]
    TooMany(ProblemBody),
    #[response(
        status = 503,
        description = "The database is unavailable; nothing was changed. Retry after `Retry-After`.",
        content_type = "application/problem+json"
    )]
    Unavailable(ProblemBody),
}

/// Error of every operation of the admin API with parameters.
#[derive(IntoResponses)]
#[response(
    status = 400,
    description = "A field or parameter is missing, invalid or unknown. The description begins with its name.",
    content_type = "application/problem+json"
)]
pub(in crate::http) struct InvalidInput(ProblemBody);

/// Errors of every operation of the admin API with a body.
#[derive(IntoResponses)]
pub(in crate::http) enum AdminBodyErrors {
    #[response(
        status = 400,
        description = "A field or parameter is missing, invalid or unknown. The description begins with its name.",
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

/// Error of every operation of the admin API on one agent.
#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "No agent with this ID is registered.",
    content_type = "application/problem+json"
)]
pub(in crate::http) struct UnknownAgent(ProblemBody);
