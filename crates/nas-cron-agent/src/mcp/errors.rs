//! Errors of the tools, with the next step for the model.

use std::time::Duration;

use nas_cron_protocol::error::ErrorWord;
use nas_cron_protocol::{FieldsError, InvalidField};

use crate::client::api::ClientError;
use crate::client::update::UpdateError;

/// The error of a tool call.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToolError {
    #[error(transparent)]
    Arguments(#[from] FieldsError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Update(UpdateError),
    /// Nothing is stored about the job.
    #[error(transparent)]
    UnknownJob(ClientError),
    /// The server or the credentials are not set up. Nothing was sent.
    #[error("{0}")]
    NotConnected(String),
    #[error("encoding the result failed: {0}")]
    Result(#[from] serde_json::Error),
}

impl From<InvalidField> for ToolError {
    fn from(invalid: InvalidField) -> Self {
        Self::Arguments(invalid.into())
    }
}

impl From<UpdateError> for ToolError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Client(error) => Self::Client(error),
            other => Self::Update(other),
        }
    }
}

/// Returns the error with the next step. It repeats no argument, because one may be a secret by mistake.
pub(super) fn explain(error: &ToolError) -> String {
    let next = match error {
        ToolError::Update(UpdateError::JobNotFound) | ToolError::UnknownJob(_) => {
            "List the jobs with cron_list, or arm a new one with cron_provision".to_owned()
        }
        ToolError::Arguments(_) | ToolError::Result(_) | ToolError::Update(_) => String::new(),
        ToolError::Client(ClientError::Unavailable { .. }) => {
            "The service is unavailable. Try again in a minute: every tool may be repeated safely".to_owned()
        }
        ToolError::Client(ClientError::InvalidResponse { .. }) => {
            "Ask the user to check that --server is the base URL of a nas-cron service".to_owned()
        }
        ToolError::Client(ClientError::ResponseTooLong { .. }) => {
            "Ask the user to check the number of jobs".to_owned()
        }
        ToolError::Client(ClientError::Refused { status, error, retry_after, .. }) => {
            next_step(*status, error.parse().ok(), *retry_after)
        }
        ToolError::NotConnected(_) | ToolError::Client(ClientError::NoToken(_)) => {
            "Ask the user to fix this; nothing was sent".to_owned()
        }
    };
    if next.is_empty() { error.to_string() } else { format!("{error}. {next}") }
}

/// Returns the next step after an error of the service, or nothing if its description contains the fix.
fn next_step(status: u16, error: Option<ErrorWord>, retry_after: Option<Duration>) -> String {
    let next = match (status, error) {
        (401, _) => "The access token has expired or is for another service: ask the user to log in again",
        (403, Some(ErrorWord::AccessDenied)) => {
            "This agent is disabled: ask the user to contact the operator of the service"
        }
        (403, _) => {
            "This identity may not use the agent API: do not try again; ask the user to check the access token"
        }
        (404, _) => "The service may be older than this tool",
        (429 | 500.., _) => {
            return match retry_after {
                Some(delay) => {
                    format!("Try again after {} s: every tool may be repeated safely", delay.as_secs())
                }
                None => "Try again: every tool may be repeated safely".to_owned(),
            };
        }
        _ => "",
    };
    next.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_errors_include_the_next_step() {
        let refused = |status, error: &str, after: Option<u64>| {
            explain(&ToolError::Client(ClientError::Refused {
                status,
                error: error.to_owned(),
                description: "no".to_owned(),
                retry_after: after.map(Duration::from_secs),
            }))
        };
        insta::assert_snapshot!(refused(400, "invalid_request", None), @"the server returned 400 invalid_request: no");
        insta::assert_snapshot!(refused(401, "invalid_token", None), @"the server returned 401 invalid_token: no. The access token has expired or is for another service: ask the user to log in again");
        insta::assert_snapshot!(refused(403, "invalid_client", None), @"the server returned 403 invalid_client: no. This identity may not use the agent API: do not try again; ask the user to check the access token");
        insta::assert_snapshot!(refused(503, "temporarily_unavailable", Some(5)), @"the server returned 503 temporarily_unavailable: no. Try again after 5 s: every tool may be repeated safely");
    }
}
