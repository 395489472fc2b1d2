//! The configuration: TOML file, environment and flags, all from the one table [`SETTINGS`].
//!
//! ```text
//!   flags ─┐                         ┌─ Config            what `serve` needs, typed and cross-checked
//!   env  ──┼─ Settings::gather ──────┼─ Settings::database, ::backends, ::log: what other commands need of it
//!   file ──┘  texts with origins     └─ show::…           `nas-cron config show`
//! ```
//!
//! A flag wins over the environment, the environment over the file, the file over the default. A name that
//! nobody knows is refused, every problem is told at once with its origin and its mend, and no secret is printed.

mod check;
mod flags;
mod gather;
mod issuers;
mod parse;
mod problem;
mod read;
mod settings;
pub mod show;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{SecretBox, SecretString};
use url::Url;

pub use nas_cron_base::logging::{Log, LogFormat};
pub use nas_cron_protocol::BackendName;

use crate::domain::lease_lengths::LeaseLengths;

pub use crate::domain::SigningAlg;
pub use flags::{DatabaseOnly, Everything, Flags, Pick};
pub use gather::{Settings, Sources};
pub use issuers::{Issuer, Orgs};
pub use parse::BaseUrl;
pub use problem::{ConfigError, Origin, Problem, Wrong};
pub use settings::{ENV_PREFIX, Kind, OTHER_VARIABLES, Preset, SETTINGS, Section, Setting};

/// Everything `serve` is told. `Debug` shows no secret.
#[derive(Debug)]
pub struct Config {
    /// How Postgres is reached.
    pub database: Database,
    /// Where we are reached.
    pub http: Http,
    /// Who issues the agents' tokens.
    pub portal: Portal,
    /// What signs fire tokens.
    pub keys: Keys,
    /// Keys that agents call with.
    pub identity: Identity,
    /// SHA-256 of every admin token; empty: no admin API.
    pub admin_token_sha256: Vec<[u8; 32]>,
    /// Calls to agents.
    pub fire: Fire,
    /// What follows a failed call.
    pub retry: Retry,
    /// What follows a key that comes again after its delivery.
    pub second_fire: SecondFire,
    /// Who wakes us.
    pub backends: Backends,
    /// How long a claim holds.
    pub lease: Lease,
    /// How long fires and attempts are kept.
    pub history_retention: Duration,
    /// How it ends.
    pub stop: Stop,
    /// What is said.
    pub log: Log,
}

/// How Postgres is reached.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://…`
    pub url: SecretString,
    /// Upper bound on this replica's connections.
    pub max_connections: u32,
    /// Whether `serve` applies missing migrations.
    pub migrate: bool,
}

/// Where we are reached.
#[derive(Clone, Debug)]
pub struct Http {
    /// By agents, the portal's backend and hosted schedulers.
    pub listen: SocketAddr,
    /// By Prometheus. Never the same as `listen`.
    pub metrics_listen: SocketAddr,
    /// Our base URL as seen from outside.
    pub public_url: BaseUrl,
}

/// Who issues the agents' tokens.
#[derive(Clone, Debug)]
pub struct Portal {
    /// Issuer of access tokens and of fire tokens, byte for byte.
    pub url: BaseUrl,
    /// Where the keys of its tokens come from.
    pub jwks: PortalJwks,
    /// Allowed `aud` of access tokens; empty: not judged.
    pub audiences: Vec<String>,
    /// How long the access tokens live that are issued here, where [`PortalJwks::Own`] is set.
    pub access_token_ttl: Duration,
    /// Where the portal is asked which instances there are; `None`: our own table knows.
    pub lookup: Option<Lookup>,
    /// Where the portal is asked what an opaque token stands for.
    pub introspection: Option<Introspection>,
    /// How long an answer about an active token is taken as it is, whichever issuer's.
    pub introspection_ttl: Duration,
    /// Further issuers, none of them called like the portal.
    pub issuers: Vec<Issuer>,
}

/// The portal's lookup of instances.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Where it is asked.
    pub url: Url,
    /// The bearer token that opens it.
    pub token: SecretString,
    /// How long an answer is taken as it is.
    pub ttl: Duration,
    /// How long one that it does not know is not asked for again.
    pub negative_ttl: Duration,
    /// How old an answer may be that is used while the portal is away.
    pub stale: Duration,
}

/// An introspection endpoint (RFC 7662).
#[derive(Clone, Debug)]
pub struct Introspection {
    /// Where it is asked.
    pub url: Url,
    /// As which client.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
}

/// Where the keys of the portal's tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortalJwks {
    /// Fetched and refreshed.
    Url(Url),
    /// Pinned: a JWKS or a PEM file.
    File(PathBuf),
    /// They are our own: this service is the portal.
    Own,
}

/// What a command needs that makes logins at our own portal, but is not the service.
#[derive(Debug)]
pub struct OwnPortal {
    /// Issuer of access tokens and of fire tokens, and where agents refresh theirs.
    pub url: BaseUrl,
    /// Where agents fetch the keys of fire tokens.
    pub agents_jwks_url: Url,
    /// What the refresh tokens' key is derived from.
    pub key_encryption_key: SecretBox<[u8; 32]>,
}

/// What signs fire tokens.
#[derive(Debug)]
pub struct Keys {
    /// The algorithm of keys that are made from now on.
    pub signing_alg: SigningAlg,
    /// How long one key signs.
    pub rotation_period: Duration,
    /// Encrypts private keys at rest. Ask [`Config::require_key_encryption_key`] where it must be there.
    pub key_encryption_key: Option<SecretBox<[u8; 32]>>,
    /// Where agents fetch the keys of fire tokens.
    pub agents_jwks_url: Url,
    /// How long a fire token is good for: 60 to 120 s (contract, "Hop 3").
    pub fire_token_ttl: Duration,
}

/// Keys that agents call with, beside the portal's tokens.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Whether there are any.
    pub on: bool,
    /// How long a task lives without use.
    pub task_lifetime: Duration,
    /// Whether a task's name is answered so that only its agent can read it.
    pub task_ids_encrypted: bool,
}

/// Calls to agents.
#[derive(Clone, Debug)]
pub struct Fire {
    /// Networks that are called although they are not public, http included.
    pub callback_allow: Vec<IpNet>,
    /// An attempt's one deadline.
    pub timeout: Duration,
    /// The part of it that connecting may take.
    pub connect_timeout: Duration,
    /// Attempts under way at once.
    pub in_flight_max: usize,
    /// Attempts under way at once to one instance.
    pub in_flight_per_instance: usize,
    /// The least time between two fires of one job.
    pub floor: Duration,
}

/// What follows a failed call.
#[derive(Clone, Debug)]
pub struct Retry {
    /// The first wait after a definite refusal.
    pub definite_base: Duration,
    /// The least wait after an ambiguous end.
    pub ambiguous_floor: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// When it becomes a dead letter, counted from the first failure.
    pub give_up_after: Duration,
}

/// What follows a key that comes again after its delivery.
#[derive(Clone, Debug)]
pub struct SecondFire {
    /// From the delivery to the second fire.
    pub delay: Duration,
    /// The least time between two of them.
    pub interval: Duration,
    /// How many a key gets.
    pub max: u32,
}

/// Who wakes us first at a fire's instant.
#[derive(Clone, Debug)]
pub struct Backends {
    /// The active one of a service that starts for the first time.
    pub first: BackendName,
    /// Where hosted engines call us.
    pub relay_url: Url,
    /// How long after its instant our own loop leaves a fire to its engine.
    pub watchdog_grace: Duration,
    /// How long one call to an engine may take.
    pub engine_timeout: Duration,
    /// `QStash`, where it is configured.
    pub qstash: Option<Qstash>,
    /// NATS, where it is configured.
    pub nats: Option<Nats>,
    /// The watchdog's grace where `QStash` calls the agents itself.
    pub qstash_direct_grace: Duration,
}

/// How `QStash` is reached, and what it may be asked for.
#[derive(Clone, Debug)]
pub struct Qstash {
    /// Its API.
    pub url: BaseUrl,
    /// What publishes.
    pub token: SecretString,
    /// What it signs with.
    pub current_signing_key: SecretString,
    /// What it will sign with.
    pub next_signing_key: Option<SecretString>,
    /// How often it calls again.
    pub retries: u8,
    /// How far ahead it takes a message.
    pub furthest: Duration,
}

/// How NATS is reached, and where the wake-ups are in it.
#[derive(Clone, Debug)]
pub struct Nats {
    /// The servers.
    pub urls: Vec<String>,
    /// The account's credentials.
    pub credentials_file: Option<PathBuf>,
    /// Who signs the servers' certificates.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub certificate_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// The stream.
    pub stream: String,
    /// What its subjects begin with.
    pub subject: String,
    /// How many servers keep each wake-up.
    pub replicas: usize,
}

/// How long a claim holds.
#[derive(Clone, Debug)]
pub struct Lease {
    /// How far ahead of its instant a one-shot is leased.
    pub horizon: Duration,
    /// From its instant to the end of an unconfirmed lease.
    pub grace: Duration,
    /// From the attempt's deadline to the end of a confirmed lease.
    pub margin: Duration,
    /// Leases held at once.
    pub capacity: usize,
}

/// How it ends.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// From the first signal to the closing of the listeners.
    pub drain_delay: Duration,
    /// From then to the end, at most.
    pub shutdown_timeout: Duration,
}

impl Config {
    /// How long the leases of one-shots last, by these settings.
    pub const fn lease_lengths(&self) -> LeaseLengths {
        LeaseLengths::new(self.lease.grace, self.fire.timeout, self.lease.margin)
    }

    /// The key-encryption key, or what to set. To be asked wherever a private key is, or would be made, in the
    /// database; not where all signing keys are files outside it.
    pub fn require_key_encryption_key(&self) -> Result<&SecretBox<[u8; 32]>, ConfigError> {
        self.keys.key_encryption_key.as_ref().ok_or_else(|| ConfigError {
            problems: vec![Problem::other(
                "key_encryption_key",
                Wrong::new(
                    "is not set, and private signing keys are stored in the database only encrypted",
                    "set NAS_CRON_KEY_ENCRYPTION_KEY, or NAS_CRON_KEY_ENCRYPTION_KEY_FILE, on every replica to \
                     the same key; make one with: openssl rand -base64 32",
                ),
            )],
        })
    }
}
