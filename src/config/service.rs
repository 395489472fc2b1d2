//! The configuration of the service, and the parts that commands need.

use std::time::Duration;

use nas_cron_base::logging::Log;

use super::layers::{Settings, Sources};
use super::parse::KEY_ENCRYPTION_KEY_FIX;
use super::problem::{ConfigError, Problem, Wrong};
use super::reader::Reader;
use super::sections::administration::{ADMIN_TOKEN_SHA256, AUDIT_RETENTION};
use super::sections::backends::{self, Backends};
use super::sections::database::{self, Database};
use super::sections::events::{self, Events};
use super::sections::fires::{self, Fire};
use super::sections::history::{ERROR_TEXT_RETENTION, HISTORY_RETENTION};
use super::sections::identity::{self, Identity};
use super::sections::keys::{self, KEY_ENCRYPTION_KEY, KeyEncryption, Keys};
use super::sections::leases::{self, Lease};
use super::sections::listening::{self, Http};
use super::sections::logs;
use super::sections::portal::own::{self, OwnPortal};
use super::sections::portal::{self, Portal};
use super::sections::retries::{self, Duplicate, Retry, SecondFire};
use super::sections::stopping::{self, Stop};
use super::sections::traces::{self, Traces};
use super::table::SETTINGS;

/// Complete configuration of `serve`. `Debug` shows no secrets.
#[derive(Debug)]
pub struct Config {
    /// Connection to Postgres.
    pub database: Database,
    /// Listeners and the public URL.
    pub http: Http,
    /// Issuers of access tokens.
    pub portal: Portal,
    /// Keys that sign fire tokens.
    pub keys: Keys,
    /// Agent identities.
    pub identity: Identity,
    /// SHA-256 of each admin token that is not in the database.
    pub admin_token_sha256: Vec<[u8; 32]>,
    /// Retention of the audit log.
    pub audit_retention: Duration,
    /// Delivery attempts.
    pub fire: Fire,
    /// Retries.
    pub retry: Retry,
    /// Second fires.
    pub second_fire: SecondFire,
    /// Fires that agents refuse as duplicates.
    pub duplicate: Duplicate,
    /// Scheduler backends.
    pub backends: Backends,
    /// Leases of the scheduler.
    pub lease: Lease,
    /// Grouping of events.
    pub events: Events,
    /// Retention of the delivery history.
    pub history_retention: Duration,
    /// Time for which texts of agents' errors are kept.
    pub error_text_retention: Duration,
    /// Graceful shutdown.
    pub stop: Stop,
    /// Logging.
    pub log: Log,
    /// Export of traces, if it is on.
    pub traces: Option<Traces>,
}

/// Configuration of a command that sends events.
#[derive(Debug)]
pub struct Sending {
    /// The rules for addresses.
    pub fire: Fire,
    /// Encryption of the secrets of webhooks.
    pub encryption: Option<KeyEncryption>,
}

impl Settings {
    /// Gathers flags, environment and file. Never fails: problems are reported when values are read.
    pub fn gather(sources: &Sources<'_>) -> Self {
        Self::lay_over(SETTINGS, sources)
    }

    /// Returns the complete configuration of `serve`, cross-checked.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut reader = Reader::new(self);
        let config = read(&mut reader);
        check(&config, &mut reader);
        reader.end(config)
    }

    /// Returns the configuration of a command that only uses the database.
    pub fn database(&self) -> Result<Database, ConfigError> {
        let mut reader = Reader::new(self);
        let database = database::read(&mut reader);
        reader.end(database)
    }

    /// Returns the configuration of a command that uses scheduler backends.
    pub fn backends(&self) -> Result<Backends, ConfigError> {
        let mut reader = Reader::new(self);
        let backends = backends::read(&mut reader);
        backends::check(&backends, &mut reader);
        reader.end(backends)
    }

    /// Returns the configuration of a command that creates logins at the built-in portal. Fails if that portal is disabled.
    pub fn own_portal(&self) -> Result<OwnPortal, ConfigError> {
        let mut reader = Reader::new(self);
        let portal = own::read(&mut reader);
        reader.end(portal)
    }

    /// Returns the configuration of a command that sends events: the rules for addresses, and the key-encryption key.
    pub fn sending(&self) -> Result<Sending, ConfigError> {
        let mut reader = Reader::new(self);
        let sending =
            Sending { fire: fires::read(&mut reader), encryption: keys::read_encryption(&mut reader) };
        reader.end(sending)
    }

    /// Returns the configuration of logging.
    pub fn log(&self) -> Result<Log, ConfigError> {
        let mut reader = Reader::new(self);
        let log = logs::read(&mut reader);
        reader.end(log)
    }
}

impl Config {
    /// Returns the encryption at rest, or an error that names the setting of its key. Call it wherever a private key is read
    /// from or written to the database.
    pub fn require_key_encryption(&self) -> Result<&KeyEncryption, ConfigError> {
        self.keys.encryption.as_ref().ok_or_else(|| ConfigError {
            problems: vec![Problem::other(
                KEY_ENCRYPTION_KEY.setting.key,
                Wrong::new(
                    "is not set, but private signing keys are stored in the database only in encrypted form",
                    KEY_ENCRYPTION_KEY_FIX,
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
        audit_retention: reader.value(&AUDIT_RETENTION),
        fire: fires::read(reader),
        retry: retries::read_retry(reader),
        second_fire: retries::read_second_fire(reader),
        duplicate: retries::read_duplicate(reader),
        backends: backends::read(reader),
        lease: leases::read(reader),
        events: events::read(reader),
        history_retention: reader.value(&HISTORY_RETENTION),
        error_text_retention: reader.value(&ERROR_TEXT_RETENTION),
        stop: stopping::read(reader),
        log: logs::read(reader),
        traces: traces::read(reader),
    }
}

/// Checks the rules between settings that are valid separately but would break the contract together.
fn check(config: &Config, reader: &mut Reader<'_>) {
    listening::check(&config.http, reader);
    portal::check(&config.portal, reader);
    leases::check(&config.lease, &config.fire, reader);
    fires::check(&config.fire, config.keys.fire_token_ttl, reader);
    retries::check(&config.retry, &config.second_fire, &config.duplicate, reader);
    backends::check(&config.backends, reader);
    traces::check(config.traces.as_ref(), reader);
}
