//! The arguments that name a running service.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;
use nas_cron_agent::client::server_url::ServerUrl;
use secrecy::SecretString;

use super::AdminClient;
use crate::cli::process::warn;

/// The variable that contains the admin token. A token in an argument would be visible in the process list.
const TOKEN: &str = "NAS_CRON_ADMIN_TOKEN";

// No doc comment: clap would take it for the help of the command.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ServerArgs {
    /// Work through the admin API of the service at this base URL, and not on its database.
    ///
    /// The admin token is read from `NAS_CRON_ADMIN_TOKEN` or from `--admin-token-file`.
    #[arg(long, value_name = "URL", help_heading = "Server")]
    server: Option<ServerUrl>,
    /// File that contains the admin token for --server.
    #[arg(long, value_name = "FILE", requires = "server", help_heading = "Server")]
    admin_token_file: Option<PathBuf>,
}

impl ServerArgs {
    /// True if a server is named.
    pub(in crate::cli) const fn is_given(&self) -> bool {
        self.server.is_some()
    }

    /// Returns the client of the server, or `None` if none is named.
    pub(in crate::cli) fn client(&self) -> anyhow::Result<Option<AdminClient>> {
        let Some(server) = &self.server else { return Ok(None) };
        let token = self.token()?;
        if server.is_unencrypted() {
            warn("the admin token is sent unencrypted: use https");
        }
        AdminClient::new(server.as_url(), &token).map(Some)
    }

    fn token(&self) -> anyhow::Result<SecretString> {
        let text = match &self.admin_token_file {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("reading the admin token from {} failed", path.display()))?,
            None => match std::env::var(TOKEN) {
                Ok(token) => token,
                Err(_) => bail!("--server needs an admin token: set {TOKEN}, or use --admin-token-file"),
            },
        };
        let token = text.trim();
        ensure!(!token.is_empty(), "the admin token is empty: set {TOKEN}, or use --admin-token-file");
        Ok(SecretString::from(token))
    }
}
