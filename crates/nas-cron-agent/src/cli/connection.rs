//! How the agent's tools (`nas-cron cron`, `nas-cron mcp`) find their server, and what they call it with.

mod explain;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

pub(super) use self::explain::identity_explained;
use nas_cron_base::clock::SystemClock;
use nas_cron_base::terminal::{self, UsageError};
use nas_cron_protocol::CallbackUrl;

use crate::client::api::{ProvisionRequest, ProvisionResponse};
use crate::client::background::BackgroundTask;
use crate::client::bearer::{self, Bearer};
use crate::client::server_url::ServerUrl;
use crate::client::store::{AuthStore, AuthStoreError, Mode, ServerEntry};
use crate::client::{Client, Credentials};

/// The server, and who calls it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// The server's base URL, which is its portal's [env: `NAS_CRON_SERVER`] [default: the auth store's only one].
    #[arg(long, value_name = "URL", global = true)]
    server: Option<ServerUrl>,
    /// A file that holds the portal access token; it is read anew for every call [env: `NAS_CRON_ACCESS_TOKEN` holds the
    /// token itself] [default: what the auth store keeps].
    #[arg(long, value_name = "FILE", global = true)]
    access_token_file: Option<PathBuf>,
    /// Call with the access token of the hermes-agent of this `HERMES_HOME`. It is only read: the agent renews it.
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "access_token_file")]
    hermes_home: Option<PathBuf>,
    /// The auth store [env: `NAS_CRON_AUTH_STORE`] [default: ~/.config/nas-cron/auth.json].
    #[arg(long, value_name = "FILE", global = true)]
    auth_store: Option<PathBuf>,
    /// Call as this agent's own identity, with a key that never leaves the auth store
    /// [env: `NAS_CRON_USE_AGENT_IDENTITY`] [default: what the auth store keeps, or else off].
    #[arg(long, value_name = "MODE", global = true)]
    use_agent_identity: Option<Mode>,
}

/// A server that can be called.
#[derive(Debug)]
pub(super) struct Connection {
    /// Hop 1.
    pub(super) client: Client,
    /// Which server.
    pub(super) server: ServerUrl,
    bearer: Bearer,
    store: AuthStore,
    entry: Option<ServerEntry>,
}

impl ConnectionArgs {
    /// Finds the server and what it is called with. Nothing is sent.
    pub(super) fn connect(&self) -> anyhow::Result<Connection> {
        let store = self.store()?;
        let server = self.server(&store)?;
        let (entry, trouble) = match store.server(&server) {
            Ok(entry) => (entry, None),
            Err(error) => (None, Some(error)),
        };
        let bearer = self.bearer(&store, &server)?;
        // A store that cannot be read may say `on`: then the attempt says what is wrong with it, and is no failure.
        let if_unset = if trouble.is_some() { Mode::On } else { Mode::Off };
        let kept = entry.as_ref().and_then(|entry| entry.use_agent_identity);
        if let (Some(error), Bearer::Store(..)) = (trouble, &bearer) {
            return Err(error.into());
        }
        warn_in_the_clear(&server);
        let client = match self.mode()?.or(kept).unwrap_or(if_unset) {
            Mode::Off => Client::new(server.as_url().clone(), Credentials::Bearer(bearer.clone()))?,
            Mode::On => Client::as_agent_identity(background_task(&server, &store, bearer.clone())?),
        };
        Ok(Connection { client, server, bearer, store, entry })
    }

    /// The server, and the identity there, whether calls are made as it or not.
    pub(super) fn background_task(&self) -> anyhow::Result<(ServerUrl, BackgroundTask)> {
        let store = self.store()?;
        let server = self.server(&store)?;
        let bearer = self.bearer(&store, &server)?;
        warn_in_the_clear(&server);
        let task = background_task(&server, &store, bearer)?;
        Ok((server, task))
    }

    /// The file that was named for the access token.
    pub(super) fn access_token_file(&self) -> Option<&PathBuf> {
        self.access_token_file.as_ref()
    }

    /// The `HERMES_HOME` that was named.
    pub(super) fn hermes_home(&self) -> Option<&PathBuf> {
        self.hermes_home.as_ref()
    }

    /// Where the auth store is.
    pub(super) fn store(&self) -> Result<AuthStore, AuthStoreError> {
        AuthStore::named(
            self.auth_store.clone().or_else(|| variable("NAS_CRON_AUTH_STORE").map(PathBuf::from)),
        )
    }

    /// The server that was named, or the only one in the store.
    pub(super) fn server(&self, store: &AuthStore) -> anyhow::Result<ServerUrl> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        if let Some(text) = variable("NAS_CRON_SERVER") {
            let parsed = text.parse().map_err(|why| UsageError::new(format!("NAS_CRON_SERVER: {why}")));
            return Ok(parsed?);
        }
        let known = store.read()?;
        let known: Vec<&str> = known.servers().collect();
        match known[..] {
            [one] => one.parse().map_err(|why| {
                UsageError::new(format!("the auth store {}: servers[{one:?}] {why}", store.path().display())).into()
            }),
            [] => Err(UsageError::new(
                "no server is named; give --server URL or NAS_CRON_SERVER, or log in with `nas-cron cron login --server \
                 URL`",
            )
            .into()),
            _ => Err(UsageError::new(format!(
                "the auth store knows several servers, so one must be named with --server or NAS_CRON_SERVER: {}",
                known.join(", ")
            ))
            .into()),
        }
    }

    /// Flag over environment over store.
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
                token.map_err(|why| UsageError::new(format!("NAS_CRON_ACCESS_TOKEN: {why}")))?,
            ));
        }
        Ok(Bearer::Store(store.clone(), server.clone()))
    }

    /// Flag over environment; what the store keeps is another matter.
    fn mode(&self) -> anyhow::Result<Option<Mode>> {
        if self.use_agent_identity.is_some() {
            return Ok(self.use_agent_identity);
        }
        let Some(text) = variable("NAS_CRON_USE_AGENT_IDENTITY") else { return Ok(None) };
        let mode = <Mode as clap::ValueEnum>::from_str(&text, true);
        Ok(Some(mode.map_err(|_| UsageError::new("NAS_CRON_USE_AGENT_IDENTITY: must be on or off"))?))
    }
}

fn warn_in_the_clear(server: &ServerUrl) {
    if server.is_in_the_clear() {
        warn(&format!(
            "{server} is called without TLS: whoever is on the way can read the access token and use it; use https, also \
             within your own network"
        ));
    }
}

fn background_task(server: &ServerUrl, store: &AuthStore, bearer: Bearer) -> reqwest::Result<BackgroundTask> {
    BackgroundTask::new(server.clone(), store.clone(), bearer, Arc::new(SystemClock), warn)
}

impl Connection {
    /// Arms, and remembers the callback for the next time.
    pub(super) async fn provision(&self, wanted: &ProvisionRequest) -> anyhow::Result<ProvisionResponse> {
        let provisioned = self.client.provision(wanted).await.map_err(|error| self.explained(error))?;
        self.remember(&wanted.agent_callback_url).await;
        Ok(provisioned)
    }

    /// Remembers the callback of what is armed by now.
    pub(super) async fn remember(&self, callback_url: &str) {
        let callback_url = Some(callback_url);
        if let Some(entry) = &self.entry
            && entry.agent_callback_url.as_deref() != callback_url
        {
            let remembered = self.store.change(&self.server, |entry| {
                entry.agent_callback_url = callback_url.map(str::to_owned);
            });
            if let Err(error) = remembered.await {
                warn(&format!("it is armed, and its callback is not remembered: {error}"));
            }
        }
    }

    /// The callback that a provision is to have: what was named, or `NAS_CRON_CALLBACK_URL`, or that of the latest one.
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

/// Says on stderr what is odd, and no failure.
pub(super) fn warn(text: &str) {
    // Where stderr is closed, nobody wants to know.
    let _ = writeln!(io::stderr(), "nas-cron: warning: {}", terminal::printable(text));
}

/// An environment variable. An empty one counts as unset, as everywhere here.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
