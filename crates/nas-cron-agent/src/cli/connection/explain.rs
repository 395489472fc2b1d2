//! Errors of a call, with the next step for the user.

use nas_cron_base::terminal::{UsageError, printable};

use super::Connection;
use nas_cron_protocol::error::ErrorWord;

use crate::client::ClientError;
use crate::client::background::{BackgroundTask, IdentityError};
use crate::client::bearer::Bearer;

impl Connection {
    /// Turns the error of a call into a message with the next step.
    pub(in crate::cli) fn explain(&self, error: ClientError) -> anyhow::Error {
        let server = &self.server;
        let next = next_step(&self.bearer, &error);
        match error {
            ClientError::NoToken(error) => UsageError::new(error.to_string()).into(),
            ClientError::Unavailable { reason, .. } => {
                anyhow::anyhow!("the request to {server} failed: {reason}{next}")
            }
            ClientError::Refused { status, error, description, .. } => anyhow::anyhow!(
                "{server} returned {status} {}: {}{next}",
                printable(&error),
                printable(&description)
            ),
            ClientError::ResponseTooLong { .. } => anyhow::anyhow!("{error}{next}"),
            ClientError::InvalidResponse { reason, .. } => {
                anyhow::anyhow!("{server} returned an invalid response: {}{next}", printable(&reason))
            }
        }
    }
}

/// Turns the error of an identity command into a message with the next step.
pub(in crate::cli) fn explain_identity_error(task: &BackgroundTask, error: IdentityError) -> anyhow::Error {
    match &error {
        IdentityError::UnknownServer { .. }
        | IdentityError::BadKey { .. }
        | IdentityError::Registration(ClientError::NoToken(_)) => UsageError::new(error.to_string()).into(),
        IdentityError::Registration(call) | IdentityError::NotRevoked(call) => {
            anyhow::anyhow!("{}{}", printable(&error.to_string()), next_step(task.bearer(), call))
        }
        _ => match error {
            IdentityError::Store(error) => error.into(),
            error => error.into(),
        },
    }
}

/// Returns the next step, as the end of the error message.
fn next_step(bearer: &Bearer, error: &ClientError) -> String {
    match error {
        ClientError::NoToken(_) => String::new(),
        ClientError::ResponseTooLong { .. } => {
            "; the operator of the server can list and cancel the jobs with `nas-cron jobs`".to_owned()
        }
        ClientError::Unavailable { .. } => {
            "; check the URL, and that the server is running".to_owned()
        }
        ClientError::InvalidResponse { .. } => "; check that this is the base URL of a nas-cron server".to_owned(),
        ClientError::Refused { status, error, retry_after, .. } => match (status, error.parse().ok()) {
            (401, _) => renewal(bearer),
            (403, Some(ErrorWord::InvalidClient)) => {
                "; the agent is not registered there, or the token does not belong to an agent: the operator of the server \
                 can register the agent with `nas-cron agents add`"
                    .to_owned()
            }
            (403, Some(ErrorWord::AccessDenied)) => {
                "; the operator of the server can enable the agent with `nas-cron agents enable`".to_owned()
            }
            (429 | 503, _) => match retry_after {
                Some(wait) => format!("; try again in {} s", wait.as_secs()),
                None => "; try again later".to_owned(),
            },
            _ => String::new(),
        },
    }
}

/// Returns the way to renew a rejected token, which depends on the token's source.
fn renewal(bearer: &Bearer) -> String {
    match bearer {
        Bearer::Given(_) => {
            "; the access token in NAS_CRON_ACCESS_TOKEN may have expired: set a new one, or unset the variable to use the \
             token in the auth store"
                .to_owned()
        }
        Bearer::File(path) => {
            format!("; the access token in {} may have expired: replace it", path.display())
        }
        Bearer::Hermes(home) => format!(
            "; the access token of the hermes-agent in {} may have expired: the agent refreshes it on its next run",
            home.display()
        ),
        Bearer::Store(store, server) => format!(
            "; the access token in the auth store {} may have expired: log in again with `nas-cron cron login --server {server}`",
            store.path().display()
        ),
    }
}
