//! `nas-cron cron identity`

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::{self, or_dash};
use serde::Serialize;

use super::when::format_instant;
use crate::cli::connection::{ConnectionArgs, explain_identity_error};
use crate::client::background::IdentityError;
use crate::client::identity::AgentKey;
use crate::client::store::{Mode, ServerEntry};

/// Manage the agent identity: authenticate with a key of the agent's own instead of the access token.
///
/// The key is generated on first use, and its private half never leaves the auth store. If the server does not accept it,
/// calls use the access token, and a warning gives the reason.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron cron identity on
  nas-cron cron identity show --json
  nas-cron cron identity rotate")]
pub(super) struct Identity {
    #[command(subcommand)]
    command: IdentityCommand,
}

#[derive(Debug, Subcommand)]
enum IdentityCommand {
    /// Use the agent identity for this server from now on.
    On,
    /// Use the access token for this server from now on. The identity is kept.
    Off,
    Show(Show),
    /// Register a new key. The server revokes the old key and its tasks in the same transaction.
    Rotate,
    Forget(Forget),
}

/// Show the auth store's entry for this server, without secrets.
#[derive(Debug, Args)]
struct Show {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Revoke the identity at the server and delete its key. Calls use the access token from then on.
#[derive(Debug, Args)]
struct Forget {
    /// Delete the key in the auth store only, for a server that no longer exists.
    #[arg(long)]
    local: bool,
}

impl Identity {
    pub(super) async fn run(self, connection: &ConnectionArgs) -> anyhow::Result<ExitCode> {
        match self.command {
            IdentityCommand::On => set(connection, Mode::On).await,
            IdentityCommand::Off => set(connection, Mode::Off).await,
            IdentityCommand::Show(show) => show.run(connection),
            IdentityCommand::Rotate => rotate(connection).await,
            IdentityCommand::Forget(forget) => forget.run(connection).await,
        }
    }
}

async fn set(connection: &ConnectionArgs, mode: Mode) -> anyhow::Result<ExitCode> {
    let store = connection.store()?;
    let server = connection.server(&store)?;
    store.change(&server, |entry| entry.use_agent_identity = Some(mode)).await?;
    terminal::print(&match mode {
        Mode::On => format!("Calls to {server} use the agent identity from now on."),
        Mode::Off => format!("Calls to {server} use the access token from now on."),
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(connection: &ConnectionArgs) -> anyhow::Result<ExitCode> {
    let (_, task) = connection.background_task()?;
    let agent_runtime_id = task.rotate().await.map_err(|error| explain_identity_error(&task, error))?;
    terminal::print(&format!("Registered a new key: the identity is now {agent_runtime_id}."))?;
    Ok(ExitCode::SUCCESS)
}

impl Forget {
    async fn run(&self, connection: &ConnectionArgs) -> anyhow::Result<ExitCode> {
        let (server, task) = connection.background_task()?;
        let forgotten = task.forget(self.local).await.map_err(|error| match error {
            IdentityError::NotRevoked(_) => anyhow::anyhow!(
                "{}; nothing was deleted: --local deletes the key in the auth store only",
                explain_identity_error(&task, error)
            ),
            error => explain_identity_error(&task, error),
        })?;
        terminal::print(&match forgotten {
            Some(_) if self.local => {
                format!(
                    "Deleted the identity for {server} from the auth store; it may still be registered at the server."
                )
            }
            Some(_) => format!("Revoked and deleted the identity for {server}."),
            None => format!("No identity is stored for {server}; calls use the access token."),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The entry of the store without its secrets.
#[derive(Debug, Serialize)]
struct Shown {
    server: String,
    auth_store: String,
    use_agent_identity: Mode,
    agent_runtime_id: Option<String>,
    agent_public_key: Option<String>,
    registered_at: Option<DateTime<Utc>>,
    background_task_id: Option<String>,
    access_token: Kept,
    access_token_expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    Kept,
    None,
}

impl Show {
    fn run(&self, connection: &ConnectionArgs) -> anyhow::Result<ExitCode> {
        let store = connection.store()?;
        let server = connection.server(&store)?;
        let entry = store.server(&server)?.unwrap_or_default();
        let shown = Shown::of(entry, server.to_string(), store.path().display().to_string());
        if self.json {
            terminal::print_json(&shown)?;
        } else {
            terminal::print(&shown.in_words(SystemClock.now()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Shown {
    fn of(entry: ServerEntry, server: String, auth_store: String) -> Self {
        let identity = entry.agent_identity;
        let key = identity.as_ref().and_then(|identity| AgentKey::parse(&identity.private_key).ok());
        Self {
            server,
            auth_store,
            use_agent_identity: entry.use_agent_identity.unwrap_or(Mode::Off),
            agent_runtime_id: identity.as_ref().map(|identity| identity.agent_runtime_id.clone()),
            agent_public_key: key.map(|key| key.public_line()),
            registered_at: identity.as_ref().and_then(|identity| identity.registered_at),
            background_task_id: identity.as_ref().and_then(|identity| identity.background_task_id.clone()),
            access_token: if entry.bearer.is_some() { Kept::Kept } else { Kept::None },
            access_token_expires_at: entry.bearer.and_then(|bearer| bearer.expires_at),
        }
    }

    fn in_words(&self, now: DateTime<Utc>) -> String {
        let mode = match self.use_agent_identity {
            Mode::On => "on",
            Mode::Off => "off",
        };
        let token = match (&self.access_token, self.access_token_expires_at) {
            (Kept::None, _) => "none".to_owned(),
            (Kept::Kept, None) => "stored".to_owned(),
            (Kept::Kept, Some(at)) => format!("stored, expires {}", format_instant(now, &at.to_rfc3339())),
        };
        terminal::text(terminal::facts(&[
            ("server", self.server.clone()),
            ("auth store", self.auth_store.clone()),
            ("use_agent_identity", mode.to_owned()),
            ("identity", or_dash(self.agent_runtime_id.as_deref())),
            ("public key", or_dash(self.agent_public_key.as_deref())),
            ("registered", or_dash(self.registered_at.map(|at| format_instant(now, &at.to_rfc3339())))),
            ("background task", or_dash(self.background_task_id.as_deref())),
            ("access token", token),
        ]))
    }
}
