//! How Postgres is reached.

use secrecy::SecretString;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

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

settings! { Database:
    DATABASE_URL: Key<SecretString> = "database_url", values::DATABASE_URL,
        Preset::Required { example: "postgres://nas_cron:PASSWORD@db.internal/nas_cron" },
        "Postgres database that holds the truth. Several hosts may be named (`host1:5432,host2:5432`): the writable one is used. Poolers must keep sessions.";
    DATABASE_MAX_CONNECTIONS: Key<u32> = "database_max_connections", values::count::<u32>(4, 10_000),
        Preset::Value("20"),
        "Maximum number of connections of this replica: three tenths of them for fires alone, the rest for requests. One more receives notifications.";
    MIGRATE: Key<bool> = "migrate", values::SWITCH,
        Preset::Value("false"),
        "Apply missing schema migrations before serving: for small set-ups. Elsewhere run `nas-cron migrate` before a roll-out.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Database {
    Database {
        url: reader.value(&DATABASE_URL),
        max_connections: reader.value(&DATABASE_MAX_CONNECTIONS),
        migrate: reader.value(&MIGRATE),
    }
}
