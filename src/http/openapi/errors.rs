//! The errors of all operations, by who calls them and what they take.

use axum::http::StatusCode;
use nas_cron_protocol::error::ErrorWord;
use serde_json::{Map, Value, json};

use super::for_each_operation;
use crate::http::error::Form;

/// Those who call an operation: they decide about its credentials and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callers {
    /// Operators and portal backends, with an admin token.
    Operators,
    /// Agents.
    Agents,
    /// Agents that refresh their access tokens.
    Refreshing,
    /// An external scheduler backend.
    Backend,
    /// Anyone: probes and public keys, which are never limited.
    Anyone,
}

impl Callers {
    fn of(path: &str) -> Self {
        match path {
            "/api/oauth/token" => Self::Refreshing,
            "/api/agent-cron/relay" => Self::Backend,
            path if path.starts_with("/api/admin/") => Self::Operators,
            path if Form::of(path) == Form::OAuth => Self::Agents,
            _ => Self::Anyone,
        }
    }
}

/// An operation, as far as its errors depend on it.
struct Operation {
    callers: Callers,
    has_credential: bool,
    has_body: bool,
    has_input: bool,
}

/// An error that operations have in common.
struct Common {
    status: StatusCode,
    error: ErrorWord,
    description: &'static str,
    /// The text of the example.
    detail: &'static str,
    /// True for the operations that have it.
    occurs: fn(&Operation) -> bool,
}

const COMMON: &[Common] = &[
    Common {
        status: StatusCode::BAD_REQUEST,
        error: ErrorWord::InvalidRequest,
        description: "A field or parameter is missing, invalid or unknown. The description begins with its name.",
        detail: "job_id: must not be empty",
        occurs: |operation| operation.has_input,
    },
    Common {
        status: StatusCode::UNAUTHORIZED,
        error: ErrorWord::InvalidToken,
        description: "The admin token is missing or invalid.",
        detail: "missing bearer token: send an Authorization header with the scheme Bearer",
        occurs: |operation| operation.callers == Callers::Operators,
    },
    Common {
        status: StatusCode::UNAUTHORIZED,
        error: ErrorWord::InvalidToken,
        description: "The credential is missing or invalid.",
        detail: "missing credential: send an Authorization header with the scheme Bearer or AgentAssertion",
        occurs: |operation| operation.callers == Callers::Agents && operation.has_credential,
    },
    Common {
        status: StatusCode::FORBIDDEN,
        error: ErrorWord::AccessDenied,
        description: "`access_denied`: the admin token lacks the role, or is limited to an org. `admin_api_off`: no admin token exists.",
        detail: "this needs the role operator; the token has the role viewer",
        occurs: |operation| operation.callers == Callers::Operators,
    },
    Common {
        status: StatusCode::FORBIDDEN,
        error: ErrorWord::InvalidClient,
        description: "`invalid_client`: the token belongs to no agent instance; this is permanent. `access_denied`: the instance is disabled. `agent_identity_off`: agent identities are off.",
        detail: "the token belongs to no agent instance",
        occurs: |operation| operation.callers == Callers::Agents,
    },
    Common {
        status: StatusCode::REQUEST_TIMEOUT,
        error: ErrorWord::InvalidRequest,
        description: "The body did not arrive within 10 s.",
        detail: "the body did not arrive in time",
        // The token endpoint answers 503, because agents take any other error for permanent.
        occurs: |operation| operation.has_body && operation.callers != Callers::Refreshing,
    },
    Common {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        error: ErrorWord::InvalidRequest,
        description: "The body is longer than 64 KiB.",
        detail: "the body is longer than 65536 bytes",
        occurs: |operation| operation.has_body,
    },
    Common {
        status: StatusCode::TOO_MANY_REQUESTS,
        error: ErrorWord::TooManyRequests,
        description: "Too many calls came with this admin token, or with an invalid one from this address. Retry after \
                      `Retry-After`.",
        detail: "too many calls with an invalid admin token; retry later",
        occurs: |operation| operation.callers == Callers::Operators,
    },
    Common {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        error: ErrorWord::ServerError,
        description: "A defect of the service, which is in its log.",
        detail: "internal error",
        occurs: |_| true,
    },
    Common {
        status: StatusCode::SERVICE_UNAVAILABLE,
        error: ErrorWord::TemporarilyUnavailable,
        description: "Temporarily unavailable; nothing was changed. Retry after `Retry-After`.",
        detail: "temporarily unavailable; retry later",
        occurs: |operation| operation.callers != Callers::Anyone,
    },
];

/// Adds the common errors to each operation, and the body to the errors that it has of its own.
pub(super) fn add(document: &mut Value) {
    let mut shared = Map::new();
    for_each_operation(&mut document["paths"], |path, _, documented| {
        let operation = Operation {
            callers: Callers::of(path),
            has_credential: documented.get("security").is_some_and(requires_credential),
            has_body: documented.contains_key("requestBody"),
            has_input: documented.contains_key("requestBody") || documented.contains_key("parameters"),
        };
        let form = Form::of(path);
        let responses = documented.entry("responses").or_insert_with(|| json!({}));
        for (status, response) in responses.as_object_mut().into_iter().flatten() {
            complete(status, response, form);
        }
        for common in COMMON.iter().filter(|common| (common.occurs)(&operation)) {
            let status = common.status.as_str();
            if let Some(own) = responses.get_mut(status) {
                merge(own, common, form);
            } else {
                let name = format!("{:?}{status}", operation.callers);
                responses[status] = json!({ "$ref": format!("#/components/responses/{name}") });
                shared.entry(name).or_insert_with(|| common.response(form));
            }
        }
    });
    document["components"]["responses"] = shared.into();
    document["components"]["headers"] = headers();
}

/// True unless an alternative of the security requirement is empty.
fn requires_credential(security: &Value) -> bool {
    security.as_array().is_some_and(|alternatives| alternatives.iter().all(|one| *one != json!({})))
}

/// Adds the body to an error that a route documents without one.
fn complete(status: &str, response: &mut Value, form: Form) {
    let is_error = status.starts_with(['4', '5']);
    if !is_error || response.get("content").is_some() {
        return;
    }
    let status = StatusCode::from_bytes(status.as_bytes()).unwrap_or_default();
    let (word, detail) = example_of(response["description"].as_str().unwrap_or_default());
    let error = word.unwrap_or_else(|| word_of(status).as_str().to_owned());
    response["content"] = form.content(status, &error, &detail);
    add_headers(status, response);
}

/// Adds a common error to a response of the same status with another body.
fn merge(own: &mut Value, common: &Common, form: Form) {
    let content = form.content(common.status, common.error.as_str(), common.detail);
    if let (Some(known), Value::Object(added)) = (own["content"].as_object_mut(), content) {
        for (kind, content) in added {
            known.entry(kind).or_insert(content);
        }
    }
    add_headers(common.status, own);
}

impl Common {
    fn response(&self, form: Form) -> Value {
        let content = form.content(self.status, self.error.as_str(), self.detail);
        let mut response = json!({ "description": self.description, "content": content });
        add_headers(self.status, &mut response);
        response
    }
}

impl Form {
    /// Returns the documented body of an error, with an example.
    fn content(self, status: StatusCode, error: &str, detail: &str) -> Value {
        match self {
            Self::OAuth => json!({ "application/json": {
                "schema": { "$ref": "#/components/schemas/ErrorBody" },
                "example": { "error": error, "error_description": detail },
            } }),
            Self::Page => json!({ "text/html": {} }),
            Self::Problem => json!({ "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/ProblemBody" },
                "example": {
                    "type": "about:blank",
                    "title": status.canonical_reason(),
                    "status": status.as_u16(),
                    "detail": detail,
                    "error": error,
                },
            } }),
        }
    }
}

/// Returns the error word at the beginning of a description, and its first sentence.
fn example_of(description: &str) -> (Option<String>, String) {
    let (word, text) = match description.strip_prefix('`').and_then(|rest| rest.split_once("`: ")) {
        Some((word, text)) => (Some(word.to_owned()), text),
        None => (None, description),
    };
    let sentence = text.split(". ").next().unwrap_or(text).trim_end_matches('.');
    let mut letters = sentence.chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    (word, first + letters.as_str())
}

/// Returns the word of errors that only one route has.
fn word_of(status: StatusCode) -> ErrorWord {
    match status {
        StatusCode::UNAUTHORIZED => ErrorWord::InvalidToken,
        StatusCode::FORBIDDEN => ErrorWord::AccessDenied,
        StatusCode::NOT_FOUND => ErrorWord::NotFound,
        StatusCode::CONFLICT => ErrorWord::Conflict,
        StatusCode::SERVICE_UNAVAILABLE => ErrorWord::TemporarilyUnavailable,
        _ => ErrorWord::InvalidRequest,
    }
}

fn add_headers(status: StatusCode, response: &mut Value) {
    let name = match status {
        StatusCode::UNAUTHORIZED => "WWW-Authenticate",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "Retry-After",
        _ => return,
    };
    response["headers"][name] = json!({ "$ref": format!("#/components/headers/{name}") });
}

fn headers() -> Value {
    json!({
        "Retry-After": {
            "description": "Seconds to wait before the next request.",
            "schema": { "type": "integer", "minimum": 0 },
            "example": 5,
        },
        "WWW-Authenticate": {
            "description": "The schemes of accepted credentials.",
            "schema": { "type": "string" },
            "example": "Bearer error=\"invalid_token\"",
        },
    })
}
