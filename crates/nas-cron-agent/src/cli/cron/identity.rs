//! `nas-cron cron identity`

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::{self, or_dash};
use serde::Serialize;

use super::when::told;
use crate::cli::connection::{ConnectionArgs, identity_explained};
use crate::client::background::Unavailable;
use crate::client::identity::AgentKey;
use crate::client::store::{Mode, ServerEntry};

/// The agent's own identity at a server: call with a key of its own instead of the access token.
///
/// The key is made here on first need, and its private half never leaves the auth store. Where the server does not take it,
/// calls are made with the access token, and a warning says why.
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
    /// From now on, call this server as the agent's identity.
    On,
    /// From now on, call this server with the access token. The identity is kept.
    Off,
    Show(Show),
    /// Register a new key; the server revokes the old one, with its tasks, in the same moment.
    Rotate,
    Forget(Forget),
}

/// Show what is kept for this server. No secret is shown.
#[derive(Debug, Args)]
struct Show {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Revoke the identity at the server, and delete its key; calls are made with the access token from then on.
#[derive(Debug, Args)]
struct Forget {
    /// Only delete the key here: for a server that is gone.
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
        Mode::On => format!("{server} is called as the agent's identity from now on."),
        Mode::Off => format!("{server} is called with the access token from now on."),
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(connection: &ConnectionArgs) -> anyhow::Result<ExitCode> {
    let (_, task) = connection.background_task()?;
    let agent_runtime_id = task.rotate().await.map_err(|error| identity_explained(&task, error))?;
    terminal::print(&format!("A new key is registered: this agent is {agent_runtime_id} now."))?;
    Ok(ExitCode::SUCCESS)
}

impl Forget {
    async fn run(&self, connection: &ConnectionArgs) -> anyhow::Result<ExitCode> {
        let (server, task) = connection.background_task()?;
        let forgotten = task.forget(self.local).await.map_err(|error| match error {
            Unavailable::NotRevoked(_) => anyhow::anyhow!(
                "{}; nothing is deleted: --local deletes the key here alone",
                identity_explained(&task, error)
            ),
            error => identity_explained(&task, error),
        })?;
        terminal::print(&match forgotten {
            Some(_) if self.local => {
                format!("The identity at {server} is deleted here; the server may still know it.")
            }
            Some(_) => format!("The identity at {server} is revoked and deleted."),
            None => format!("There is no identity at {server}; it is called with the access token."),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What may be shown of an entry of the store.
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
            (Kept::None, _) => "none is kept".to_owned(),
            (Kept::Kept, None) => "kept".to_owned(),
            (Kept::Kept, Some(at)) => format!("kept, ends {}", told(now, &at.to_rfc3339())),
        };
        terminal::text(terminal::facts(&[
            ("server", self.server.clone()),
            ("auth store", self.auth_store.clone()),
            ("use_agent_identity", mode.to_owned()),
            ("identity", or_dash(self.agent_runtime_id.as_deref())),
            ("public key", or_dash(self.agent_public_key.as_deref())),
            ("registered", or_dash(self.registered_at.map(|at| told(now, &at.to_rfc3339())))),
            ("background task", or_dash(self.background_task_id.as_deref())),
            ("access token", token),
        ]))
    }
}
