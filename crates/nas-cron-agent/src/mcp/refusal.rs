//! Why a tool has no result, and what to do about it, for a model to read.

use nas_cron_protocol::error::ErrorWord;
use nas_cron_protocol::{FieldsError, InvalidField};

use crate::client::api::ClientError;
use crate::client::update::UpdateError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Arguments(#[from] FieldsError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Update(UpdateError),
    #[error("the result cannot be written: {0}")]
    Result(#[from] serde_json::Error),
}

impl From<InvalidField> for Refusal {
    fn from(invalid: InvalidField) -> Self {
        Self::Arguments(invalid.into())
    }
}

impl From<UpdateError> for Refusal {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Client(error) => Self::Client(error),
            other => Self::Update(other),
        }
    }
}

/// The refusal with the next step. It repeats no argument: one may have been a secret by mistake.
pub(super) fn explained(refusal: &Refusal) -> String {
    let next = match refusal {
        Refusal::Update(UpdateError::Unknown) => {
            "cron_list shows what there is; cron_provision arms a new job"
        }
        Refusal::Arguments(_) | Refusal::Result(_) | Refusal::Update(_) => "",
        Refusal::Client(ClientError::Away { .. }) => {
            "The service is away. Try again in a minute: every tool may be repeated safely"
        }
        Refusal::Client(ClientError::Strange { .. }) => {
            "Is --server the base URL of a nas-cron service? The user has to look at it"
        }
        Refusal::Client(ClientError::TooLong { .. }) => "The user has to look at how many jobs there are",
        Refusal::Client(ClientError::Refused { status, error, retry_after, .. }) => {
            let next = next_step(*status, error.parse().ok());
            return match retry_after {
                Some(after) if *status >= 429 => format!("{refusal}. {next}, after {} s", after.as_secs()),
                _ if next.is_empty() => refusal.to_string(),
                _ => format!("{refusal}. {next}"),
            };
        }
        Refusal::Client(ClientError::NoToken(_)) => "The user has to mend it; nothing was sent",
    };
    if next.is_empty() { refusal.to_string() } else { format!("{refusal}. {next}") }
}

/// Returns the next step after a refusal, or nothing if the service's own words give it.
fn next_step(status: u16, error: Option<ErrorWord>) -> &'static str {
    match (status, error) {
        (401, _) => "The access token is expired or not for this service: the user has to log in again",
        (403, Some(ErrorWord::AccessDenied)) => {
            "This agent is disabled: the user has to ask who runs the service"
        }
        (403, _) => {
            "This identity may not arm anything: do not try again; the user has to look at the access token"
        }
        (404, _) => "The service may be older than this tool",
        (429 | 500.., _) => "Try again: every tool may be repeated safely",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_next() {
        let refused = |status, error: &str, after: Option<u64>| {
            explained(&Refusal::Client(ClientError::Refused {
                status,
                error: error.to_owned(),
                description: "no".to_owned(),
                retry_after: after.map(std::time::Duration::from_secs),
            }))
        };
        insta::assert_snapshot!(refused(400, "invalid_request", None), @"answered 400 invalid_request: no");
        insta::assert_snapshot!(refused(401, "invalid_token", None), @"answered 401 invalid_token: no. The access token is expired or not for this service: the user has to log in again");
        insta::assert_snapshot!(refused(403, "invalid_client", None), @"answered 403 invalid_client: no. This identity may not arm anything: do not try again; the user has to look at the access token");
        insta::assert_snapshot!(refused(503, "temporarily_unavailable", Some(5)), @"answered 503 temporarily_unavailable: no. Try again: every tool may be repeated safely, after 5 s");
    }
}
