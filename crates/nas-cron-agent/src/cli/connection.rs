//! Connection options of `nas-cron cron` and `nas-cron mcp`: the server, and the credentials for it.

mod explain;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

pub(super) use self::explain::explain_identity_error;
use nas_cron_base::clock::SystemClock;
use nas_cron_base::terminal::{self, UsageError};
use nas_cron_protocol::CallbackUrl;

use crate::client::api::{ProvisionRequest, ProvisionResponse};
use crate::client::background::BackgroundTask;
use crate::client::bearer::{self, Bearer};
use crate::client::server_url::ServerUrl;
use crate::client::store::{AuthStore, AuthStoreError, Mode, ServerEntry};
use crate::client::{Client, Credentials};

const NO_HTTP_CLIENT: &str = "creating the HTTP client failed";

/// Options that select the server and the credentials.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// Base URL of the server, which is the base URL of its portal [env: `NAS_CRON_SERVER`] [default: the server in the
    /// auth store, if it holds only one].
    #[arg(long, value_name = "URL", global = true)]
    server: Option<ServerUrl>,
    /// File with the portal access token; read again for every call [env: `NAS_CRON_ACCESS_TOKEN`, which holds the token
    /// itself] [default: the token in the auth store].
    #[arg(long, value_name = "FILE", global = true)]
    access_token_file: Option<PathBuf>,
    /// Use the access token of the hermes-agent in this `HERMES_HOME`. The token is only read; the agent refreshes it.
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "access_token_file")]
    hermes_home: Option<PathBuf>,
    /// Path of the auth store [env: `NAS_CRON_AUTH_STORE`] [default: ~/.config/nas-cron/auth.json].
    #[arg(long, value_name = "FILE", global = true)]
    auth_store: Option<PathBuf>,
    /// Authenticate as the agent identity, with a private key that never leaves the auth store
    /// [env: `NAS_CRON_USE_AGENT_IDENTITY`] [default: the mode in the auth store, otherwise off].
    #[arg(long, value_name = "MODE", global = true)]
    use_agent_identity: Option<Mode>,
}

/// A client for one server, with the values that the auth store holds for it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Client of the agent API.
    pub(super) client: Client,
    /// Base URL of the server.
    pub(super) server: ServerUrl,
    bearer: Bearer,
    store: AuthStore,
    entry: Option<ServerEntry>,
}

impl ConnectionArgs {
    /// Resolves the server and the credentials. Sends nothing.
    pub(super) fn connect(&self) -> anyhow::Result<Connection> {
        let store = self.store()?;
        let server = self.server(&store)?;
        let (entry, store_error) = match store.server(&server) {
            Ok(entry) => (entry, None),
            Err(error) => (None, Some(error)),
        };
        let bearer = self.bearer(&store, &server)?;
        // An unreadable store may hold the mode `on`: trying the identity reports the store's error as a warning, and the
        // call falls back to the access token.
        let if_unset = if store_error.is_some() { Mode::On } else { Mode::Off };
        let stored = entry.as_ref().and_then(|entry| entry.use_agent_identity);
        if let (Some(error), Bearer::Store(..)) = (store_error, &bearer) {
            return Err(error.into());
        }
        warn_if_unencrypted(&server);
        let client = match self.mode()?.or(stored).unwrap_or(if_unset) {
            Mode::Off => Client::new(server.as_url().clone(), Credentials::Bearer(bearer.clone()))
                .context(NO_HTTP_CLIENT)?,
            Mode::On => Client::as_agent_identity(background_task(&server, &store, bearer.clone())?),
        };
        Ok(Connection { client, server, bearer, store, entry })
    }

    /// Returns the server and the agent identity for it, in either mode.
    pub(super) fn background_task(&self) -> anyhow::Result<(ServerUrl, BackgroundTask)> {
        let store = self.store()?;
        let server = self.server(&store)?;
        let bearer = self.bearer(&store, &server)?;
        warn_if_unencrypted(&server);
        let task = background_task(&server, &store, bearer)?;
        Ok((server, task))
    }

    /// Value of `--access-token-file`.
    pub(super) fn access_token_file(&self) -> Option<&PathBuf> {
        self.access_token_file.as_ref()
    }

    /// Value of `--hermes-home`.
    pub(super) fn hermes_home(&self) -> Option<&PathBuf> {
        self.hermes_home.as_ref()
    }

    /// Returns the auth store: flag, then environment, then default path.
    pub(super) fn store(&self) -> Result<AuthStore, AuthStoreError> {
        AuthStore::named(
            self.auth_store.clone().or_else(|| variable("NAS_CRON_AUTH_STORE").map(PathBuf::from)),
        )
    }

    /// Returns the server: flag, then environment, then the only one in the store.
    pub(super) fn server(&self, store: &AuthStore) -> anyhow::Result<ServerUrl> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        if let Some(text) = variable("NAS_CRON_SERVER") {
            let parsed =
                text.parse().map_err(|problem| UsageError::new(format!("NAS_CRON_SERVER: {problem}")));
            return Ok(parsed?);
        }
        let known = store.read()?;
        let known: Vec<&str> = known.servers().collect();
        match known[..] {
            [one] => one.parse().map_err(|problem| {
                let store = store.path().display();
                UsageError::new(format!("invalid server {one:?} in the auth store {store}: {problem}")).into()
            }),
            [] => Err(UsageError::new(
                "no server given: use --server URL or NAS_CRON_SERVER, or log in with `nas-cron cron login --server URL`",
            )
            .into()),
            _ => Err(UsageError::new(format!(
                "the auth store holds several servers: select one with --server or NAS_CRON_SERVER: {}",
                known.join(", ")
            ))
            .into()),
        }
    }

    /// Returns the source of the access token: flag, then environment, then store.
    fn bearer(&self, store: &AuthStore, server: &ServerUrl) -> anyhow::Result<Bearer> {
        if let Some(path) = &self.access_token_file {
            return Ok(Bearer::File(path.clone()));
        }
        if let Some(home) = &self.hermes_home {
            return Ok(Bearer::Hermes(home.clone()));
        }
        if let Some(text) = variable("NAS_CRON_ACCESS_TOKEN") {
            let token = bearer::token(&text);
            return Ok(Bearer::Given(
                token.map_err(|problem| UsageError::new(format!("NAS_CRON_ACCESS_TOKEN: {problem}")))?,
            ));
        }
        Ok(Bearer::Store(store.clone(), server.clone()))
    }

    /// Returns the mode from the flag, then the environment. The caller adds the store's.
    fn mode(&self) -> anyhow::Result<Option<Mode>> {
        if self.use_agent_identity.is_some() {
            return Ok(self.use_agent_identity);
        }
        let Some(text) = variable("NAS_CRON_USE_AGENT_IDENTITY") else { return Ok(None) };
        let mode = <Mode as clap::ValueEnum>::from_str(&text, true);
        Ok(Some(mode.map_err(|_| {
            UsageError::new(format!("NAS_CRON_USE_AGENT_IDENTITY: must be on or off, not {text:?}"))
        })?))
    }
}

fn warn_if_unencrypted(server: &ServerUrl) {
    if server.is_unencrypted() {
        warn(&format!(
            "{server} is called without TLS: anyone on the network path can read the access token and use it; use https, \
             also on an internal network"
        ));
    }
}

fn background_task(server: &ServerUrl, store: &AuthStore, bearer: Bearer) -> anyhow::Result<BackgroundTask> {
    BackgroundTask::new(server.clone(), store.clone(), bearer, Arc::new(SystemClock), warn)
        .context(NO_HTTP_CLIENT)
}

impl Connection {
    /// Provisions a job, and stores its callback URL as the default for later calls.
    pub(super) async fn provision(&self, wanted: &ProvisionRequest) -> anyhow::Result<ProvisionResponse> {
        let provisioned = self.client.provision(wanted).await.map_err(|error| self.explain(error))?;
        self.store_callback(&wanted.agent_callback_url).await;
        Ok(provisioned)
    }

    /// Stores the callback URL of a job that is already armed. A failure is a warning.
    pub(super) async fn store_callback(&self, callback_url: &str) {
        let callback_url = Some(callback_url);
        if let Some(entry) = &self.entry
            && entry.agent_callback_url.as_deref() != callback_url
        {
            let stored = self.store.change(&self.server, |entry| {
                entry.agent_callback_url = callback_url.map(str::to_owned);
            });
            if let Err(error) = stored.await {
                warn(&format!(
                    "the job is armed, but storing its callback URL as the default failed: {error}"
                ));
            }
        }
    }

    /// Returns the callback URL for a provision: the named one, then `NAS_CRON_CALLBACK_URL`, then that of the latest
    /// provision.
    pub(super) fn callback_url(&self, named: Option<&CallbackUrl>) -> anyhow::Result<Option<String>> {
        if let Some(named) = named {
            return Ok(Some(named.as_str().to_owned()));
        }
        if let Some(text) = variable("NAS_CRON_CALLBACK_URL") {
            let parsed = CallbackUrl::parse(&text)
                .map_err(|error| UsageError::new(format!("NAS_CRON_CALLBACK_URL: {}", error.problem)));
            return Ok(Some(parsed?.as_str().to_owned()));
        }
        Ok(self.entry.as_ref().and_then(|entry| entry.agent_callback_url.clone()))
    }
}

/// Prints a warning on stderr.
pub(super) fn warn(text: &str) {
    note(&format!("warning: {text}"));
}

/// Prints a note on stderr.
pub(super) fn note(text: &str) {
    // A closed stderr must not fail the command.
    let _ = writeln!(io::stderr(), "nas-cron: {}", terminal::printable(text));
}

/// Returns an environment variable. An empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
