//! Connection to Postgres.

use secrecy::SecretString;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

/// Connection to Postgres.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://…`
    pub url: SecretString,
    /// Maximum number of connections of this replica.
    pub max_connections: u32,
    /// True if `serve` applies missing migrations.
    pub migrate: bool,
}

settings! { Database:
    DATABASE_URL: Key<SecretString> = "database_url", values::DATABASE_URL,
        Preset::Required { example: "postgres://nas_cron:PASSWORD@db.internal/nas_cron" },
        "URL of the Postgres database. It may list several hosts (`host1:5432,host2:5432`); the writable one is used. Without a user it means `PGUSER`, else the operating system's user. A connection pooler must run in session mode.";
    DATABASE_MAX_CONNECTIONS: Key<u32> = "database_max_connections", values::count::<u32>(4, 10_000),
        Preset::Value("20"),
        "Maximum database connections per replica. Three tenths are reserved for fires, the rest serve requests. Two additional connections receive notifications and keep the replica registered.";
    MIGRATE: Key<bool> = "migrate", values::SWITCH,
        Preset::Value("false"),
        "Apply missing schema migrations at start. Convenient for a single replica; otherwise run `nas-cron migrate` before each rollout.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Database {
    Database {
        url: reader.value(&DATABASE_URL),
        max_connections: reader.value(&DATABASE_MAX_CONNECTIONS),
        migrate: reader.value(&MIGRATE),
    }
}
