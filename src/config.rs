//! Configuration from a TOML file, the environment and flags, all defined by one table, [`SETTINGS`].
//!
//! ```text
//!   flags ─┐                         ┌─ Config            for `serve`: typed and cross-checked
//!   env  ──┼─ Settings::gather ──────┼─ Settings::database, ::backends, ::log: for other commands
//!   file ──┘  texts with origins     └─ show::…           `nas-cron config show`
//! ```
//!
//! A flag overrides the environment, the environment the file, and the file the default. An unknown name is an error. All
//! problems are reported at once, each with its origin and its fix. Secrets are never printed.
//!
//! - `setting`: a row of the table. `typed_key`, `values`: a key with the type of its value.
//! - `sections`: each section's keys, values and rules; `table`: their rows in one table.
//! - `layers`: from flags, environment and file to texts. `reader`: from texts to values. `service`: all sections together.
//! - `parse`, `urls`: parsers. `problem`: errors. `flags`, `show`: the table on the command line.
//!
//! To add a setting, add its key to the file of its section and read it there.

mod flags;
pub mod key;
mod layers;
mod parse;
mod problem;
mod reader;
mod sections;
mod service;
mod setting;
pub mod show;
mod table;
#[cfg(test)]
mod tests;
mod typed_key;
mod urls;
mod values;

pub use nas_cron_base::logging::{Log, LogFormat};
pub use nas_cron_protocol::BackendName;

pub use self::flags::{DatabaseOnly, Everything, Flags, Pick};
pub use self::layers::{Settings, Sources};
pub use self::problem::{ConfigError, Origin, Problem, Wrong};
pub use self::sections::backends::{self, Backends};
pub use self::sections::database::Database;
pub use self::sections::fires::Fire;
pub use self::sections::identity::Identity;
pub use self::sections::keys::{KeyEncryption, Keys};
pub use self::sections::leases::Lease;
pub use self::sections::listening::Http;
pub use self::sections::portal::Portal;
pub use self::sections::portal::introspection::Introspection;
pub use self::sections::portal::issuer::PortalJwks;
pub use self::sections::portal::issuers::{Issuer, Orgs};
pub use self::sections::portal::lookup::Lookup;
pub use self::sections::portal::own::OwnPortal;
pub use self::sections::retries::{Retry, SecondFire};
pub use self::sections::stopping::Stop;
pub use self::sections::traces::Traces;
pub use self::service::Config;
pub use self::setting::{ENV_PREFIX, Kind, OTHER_VARIABLES, Preset, Section, Setting};
pub use self::table::SETTINGS;
pub use self::typed_key::{Key, ListKey, OptionalKey};
pub use self::urls::BaseUrl;
pub use crate::domain::SigningAlg;
