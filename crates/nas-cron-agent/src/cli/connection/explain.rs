//! What a call did not do, with the next step.

use nas_cron_base::terminal::{UsageError, printable};

use super::Connection;
use nas_cron_protocol::error::ErrorWord;

use crate::client::ClientError;
use crate::client::background::{BackgroundTask, Unavailable};
use crate::client::bearer::Bearer;

impl Connection {
    /// An error in words that say what to do about it.
    pub(in crate::cli) fn explained(&self, error: ClientError) -> anyhow::Error {
        let server = &self.server;
        let next = next_step(&self.bearer, &error);
        match error {
            ClientError::NoToken(error) => UsageError::new(error.to_string()).into(),
            ClientError::Away { reason, .. } => anyhow::anyhow!("{server} does not answer: {reason}{next}"),
            ClientError::Refused { status, error, description, .. } => anyhow::anyhow!(
                "{server} refuses ({status} {}): {}{next}",
                printable(&error),
                printable(&description)
            ),
            ClientError::TooLong { .. } => anyhow::anyhow!("{error}{next}"),
            ClientError::Strange { reason, .. } => {
                anyhow::anyhow!("{server} does not answer as a nas-cron server: {}{next}", printable(&reason))
            }
        }
    }
}

/// Why an identity could not be changed, in words that say what to do about it.
pub(in crate::cli) fn identity_explained(task: &BackgroundTask, error: Unavailable) -> anyhow::Error {
    match &error {
        Unavailable::UnknownServer { .. }
        | Unavailable::BadKey { .. }
        | Unavailable::Registration(ClientError::NoToken(_)) => UsageError::new(error.to_string()).into(),
        Unavailable::Registration(call) | Unavailable::NotRevoked(call) => {
            anyhow::anyhow!("{}{}", printable(&error.to_string()), next_step(task.bearer(), call))
        }
        _ => match error {
            Unavailable::Store(error) => error.into(),
            error => error.into(),
        },
    }
}

/// What to do about it, to be put behind what happened.
fn next_step(bearer: &Bearer, error: &ClientError) -> String {
    match error {
        ClientError::NoToken(_) => String::new(),
        ClientError::TooLong { .. } => {
            "; whoever runs the server can see and cancel its jobs with `nas-cron jobs`".to_owned()
        }
        ClientError::Away { .. } => {
            "; see whether that is the server you mean, and whether it runs".to_owned()
        }
        ClientError::Strange { .. } => "; see whether that is its base URL".to_owned(),
        ClientError::Refused { status, error, retry_after, .. } => match (status, error.parse().ok()) {
            (401, _) => renewed(bearer),
            (403, Some(ErrorWord::InvalidClient)) => {
                "; this agent is not registered there, or the token is no agent's: whoever runs the \
                                        server can register it with `nas-cron agents add`"
                    .to_owned()
            }
            (403, Some(ErrorWord::AccessDenied)) => {
                "; whoever runs the server can let it in with `nas-cron agents enable`".to_owned()
            }
            (429 | 503, _) => match retry_after {
                Some(wait) => format!("; try again in {} s", wait.as_secs()),
                None => "; try again in a moment".to_owned(),
            },
            _ => String::new(),
        },
    }
}

/// How a token that is not taken any more is renewed, which depends on where it came from.
fn renewed(bearer: &Bearer) -> String {
    match bearer {
        Bearer::Given(_) => {
            "; the access token in NAS_CRON_ACCESS_TOKEN may have expired: put a new one there, or unset it to call with \
             what the auth store keeps"
                .to_owned()
        }
        Bearer::File(path) => {
            format!("; the access token in {} may have expired: put a new one there", path.display())
        }
        Bearer::Hermes(home) => format!(
            "; the access token of the hermes-agent in {} may have expired: the agent renews it when it runs next",
            home.display()
        ),
        Bearer::Store(store, server) => format!(
            "; the access token in the auth store {} may have expired: log in anew with `nas-cron cron login --server {server}`",
            store.path().display()
        ),
    }
}
