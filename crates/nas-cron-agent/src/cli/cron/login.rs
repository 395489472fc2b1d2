//! `nas-cron cron login`

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::{self, UsageError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, warn};
use crate::client::bearer::{self, Bearer};
use crate::client::store::StoredBearer;

/// Maximum bytes read from stdin; a longer token does not fit into a header.
const MAX_TOKEN: u64 = 64 * 1024;

/// Store a server and its access token in the auth store.
///
/// The token is read from stdin or from `--access-token-file`, and replaces the stored one. Nothing is sent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron cron login --server https://portal.example < token.txt
  nas-cron cron login --server https://portal.example --access-token-file token.txt
  nas-cron cron login --server https://portal.example --without-token   Store the server only")]
pub(super) struct Login {
    /// Store the server without a token, and remove its stored one: each call must supply a token.
    #[arg(long, conflicts_with = "access_token_file")]
    without_token: bool,
    /// Print JSON: `server`, `auth_store`, `expires_at`.
    #[arg(long)]
    json: bool,
}

impl Login {
    pub(super) async fn run(self, connection: &ConnectionArgs) -> anyhow::Result<ExitCode> {
        if connection.hermes_home().is_some() {
            return Err(UsageError::new(
                "--hermes-home is not for `login`: the agent refreshes its token, and a copy would expire within the hour; give \
                 it with each call, such as `nas-cron cron list --hermes-home DIR`",
            )
            .into());
        }
        let store = connection.store()?;
        let server = connection.server(&store)?;
        let token = if self.without_token { None } else { Some(read(connection.access_token_file())?) };
        let now = SystemClock.now();
        let bearer = token.map(|access_token| {
            let expires_at = expiry(access_token.expose_secret());
            StoredBearer { access_token, expires_at }
        });
        let expires_at = bearer.as_ref().and_then(|bearer| bearer.expires_at);
        if expires_at.is_some_and(|at| at <= now) {
            warn("the access token has already expired");
        }
        store.change(&server, |entry| entry.bearer = bearer).await?;
        let path = store.path().display().to_string();
        if self.json {
            let shown = json!({ "server": server.to_string(), "auth_store": path, "expires_at": expires_at });
            terminal::print_json(&shown)?;
        } else {
            terminal::print(&format!(
                "Stored {server} in {path}; `nas-cron cron list` checks that the server accepts the credentials."
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(file: Option<&PathBuf>) -> anyhow::Result<SecretString> {
    if let Some(path) = file {
        return Bearer::File(path.clone()).read().map_err(|error| UsageError::new(error.to_string()).into());
    }
    if io::stdin().is_terminal() {
        let _ = writeln!(
            io::stderr(),
            "Paste the access token, then press Enter and Ctrl-D. The token is visible on the screen."
        );
    }
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(MAX_TOKEN)
        .read_to_string(&mut text)
        .context("reading the access token from stdin failed")?;
    let token = bearer::token(&text);
    Ok(token.map_err(|problem| {
        UsageError::new(format!(
            "invalid access token on stdin: {problem}; pipe a token in, or use --access-token-file or --without-token"
        ))
    })?)
}

/// Returns the expiry of a JWT, or `None` for other tokens. For display only: the signature is not verified.
fn expiry(token: &str) -> Option<DateTime<Utc>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = nas_cron_protocol::json::from_slice(&payload).ok()?;
    DateTime::from_timestamp(claims["exp"].as_i64()?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_read_from_jwts_only() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"exp":1781786096}"#);
        assert_eq!(expiry(&format!("e30.{payload}.x")), DateTime::from_timestamp(1_781_786_096, 0));
        for token in ["opaque", "a.b.c", "e30.e30.x"] {
            assert_eq!(expiry(token), None, "{token}");
        }
    }
}
