//! What a call did not do, with the next step.

use super::Connection;
use crate::cli::UsageError;
use crate::cli::show::printable;
use crate::client::ClientError;

impl Connection {
    /// An error in words that say what to do about it.
    pub(in crate::cli) fn explained(&self, error: ClientError) -> anyhow::Error {
        let server = &self.server;
        match error {
            ClientError::NoToken(error) => UsageError::new(error.to_string()).into(),
            ClientError::Away { reason, .. } => anyhow::anyhow!(
                "{server} does not answer: {reason}; see whether that is the server you mean, and whether it runs"
            ),
            ClientError::Refused { status, error, description, retry_after } => {
                let description = printable(&description);
                let next = match (status, error.as_str()) {
                    (401, _) => format!(
                        "; the access token may have expired: log in anew with `nas-cron cron login --server {server}`"
                    ),
                    (403, "invalid_client") => {
                        "; this agent is not registered there, or the token is no agent's: whoever runs \
                                                the server can register it with `nas-cron agents add`"
                            .to_owned()
                    }
                    (403, "access_denied") => {
                        "; whoever runs the server can let it in with `nas-cron agents enable`".to_owned()
                    }
                    (429 | 503, _) => match retry_after {
                        Some(wait) => format!("; try again in {} s", wait.as_secs()),
                        None => "; try again in a moment".to_owned(),
                    },
                    _ => String::new(),
                };
                anyhow::anyhow!("{server} refuses ({status} {}): {description}{next}", printable(&error))
            }
            ClientError::Strange { reason, .. } => anyhow::anyhow!(
                "{server} does not answer as a nas-cron server ({}); see whether that is its base URL",
                printable(&reason)
            ),
        }
    }
}
