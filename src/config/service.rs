//! The configuration of the service, and the parts of it that commands need.

use std::time::Duration;

use nas_cron_base::logging::Log;
use secrecy::SecretBox;

use super::layers::{Settings, Sources};
use super::problem::{ConfigError, Problem, Wrong};
use super::reader::Reader;
use super::sections::administration::ADMIN_TOKEN_SHA256;
use super::sections::backends::{self, Backends};
use super::sections::database::{self, Database};
use super::sections::fires::{self, Fire};
use super::sections::history::HISTORY_RETENTION;
use super::sections::identity::{self, Identity};
use super::sections::keys::{self, Keys};
use super::sections::leases::{self, Lease};
use super::sections::listening::{self, Http};
use super::sections::logs;
use super::sections::portal::own::{self, OwnPortal};
use super::sections::portal::{self, Portal};
use super::sections::retries::{self, Retry, SecondFire};
use super::sections::stopping::{self, Stop};
use super::table::SETTINGS;

/// Everything `serve` is told. `Debug` shows no secret.
#[derive(Debug)]
pub struct Config {
    /// How Postgres is reached.
    pub database: Database,
    /// Where we are reached.
    pub http: Http,
    /// Who issues the agents' tokens.
    pub portal: Portal,
    /// The keys that sign fire tokens.
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
    /// The scheduler backends.
    pub backends: Backends,
    /// How long a claim holds.
    pub lease: Lease,
    /// How long fires and attempts are kept.
    pub history_retention: Duration,
    /// How the service ends.
    pub stop: Stop,
    /// Log lines.
    pub log: Log,
}

impl Settings {
    /// Gathers flags, environment and file. Never fails: problems are reported by whoever reads it.
    pub fn gather(sources: &Sources<'_>) -> Self {
        Self::lay_over(SETTINGS, sources)
    }

    /// Everything `serve` needs, cross-checked.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut reader = Reader::new(self);
        let config = read(&mut reader);
        check(&config, &mut reader);
        reader.end(config)
    }

    /// What a command needs that only talks to the database.
    pub fn database(&self) -> Result<Database, ConfigError> {
        let mut reader = Reader::new(self);
        let database = database::read(&mut reader);
        reader.end(database)
    }

    /// What a command needs that talks to scheduler backends, but is not the service.
    pub fn backends(&self) -> Result<Backends, ConfigError> {
        let mut reader = Reader::new(self);
        let backends = backends::read(&mut reader);
        backends::check(&backends, &mut reader);
        reader.end(backends)
    }

    /// What a command needs that makes logins at our own portal. An error where there is no such portal.
    pub fn own_portal(&self) -> Result<OwnPortal, ConfigError> {
        let mut reader = Reader::new(self);
        let portal = own::read(&mut reader);
        reader.end(portal)
    }

    /// What logging needs.
    pub fn log(&self) -> Result<Log, ConfigError> {
        let mut reader = Reader::new(self);
        let log = logs::read(&mut reader);
        reader.end(log)
    }
}

impl Config {
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

fn read(reader: &mut Reader<'_>) -> Config {
    Config {
        database: database::read(reader),
        http: listening::read(reader),
        portal: portal::read(reader),
        keys: keys::read(reader),
        identity: identity::read(reader),
        admin_token_sha256: reader.list(&ADMIN_TOKEN_SHA256),
        fire: fires::read(reader),
        retry: retries::read_retry(reader),
        second_fire: retries::read_second_fire(reader),
        backends: backends::read(reader),
        lease: leases::read(reader),
        history_retention: reader.value(&HISTORY_RETENTION),
        stop: stopping::read(reader),
        log: logs::read(reader),
    }
}

/// Rules between settings: each is sound by itself, and together they would break the contract.
fn check(config: &Config, reader: &mut Reader<'_>) {
    listening::check(&config.http, reader);
    portal::check(&config.portal, reader);
    leases::check(&config.lease, &config.fire, reader);
    fires::check(&config.fire, config.keys.fire_token_ttl, reader);
    retries::check(&config.retry, &config.second_fire, reader);
    backends::check(&config.backends, reader);
}
