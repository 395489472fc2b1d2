//! The form of an error, by the path of the request: OAuth's for agents, pages for operators with a browser, problem details
//! for everyone else.

use axum::response::{IntoResponse, Response};

use super::{ApiError, ErrorPage, Problem};

/// The form of an error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Form {
    /// `{"error","error_description"}` (RFC 6749, 5.2).
    OAuth,
    /// A page.
    Page,
    /// Problem details (RFC 9457).
    Problem,
}

/// Beginnings of the paths that agents call.
const OF_AGENTS: [&str; 3] = ["/api/agent-cron", "/api/oauth", "/v1/agent"];
/// Paths below them that others call.
const OF_OTHERS: [&str; 2] = ["/api/agent-cron/relay", "/api/agent-cron/jwks.json"];

impl Form {
    /// Returns the form of the errors of a path, also of an unknown one.
    pub(in crate::http) fn of(path: &str) -> Self {
        let is_of_agents =
            OF_AGENTS.iter().any(|beginning| path.starts_with(beginning)) && !OF_OTHERS.contains(&path);
        match path {
            _ if is_of_agents => Self::OAuth,
            _ if path == "/ops" || path.starts_with("/ops/") => Self::Page,
            _ => Self::Problem,
        }
    }

    /// Returns the response of an error that a handler did not make.
    pub(in crate::http) fn response(self, error: ApiError) -> Response {
        match self {
            Self::OAuth => error.into_response(),
            Self::Page => ErrorPage(error).into_response(),
            Self::Problem => Problem(error).into_response(),
        }
    }
}
