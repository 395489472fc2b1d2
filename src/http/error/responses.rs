//! Error responses that several routes add to those of [`crate::http::openapi`].

use utoipa::IntoResponses;

/// Error of every operation of the admin API on one agent.
#[derive(IntoResponses)]
#[response(status = 404, description = "No agent with this ID is registered.")]
pub(in crate::http) struct UnknownAgent;
