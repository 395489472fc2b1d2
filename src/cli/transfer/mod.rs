//! `nas-cron export` and `nas-cron import`: agents, logins, auth profiles and one-shots as JSON Lines.

pub mod export;
pub mod import;
mod lines;
mod partial;

/// The reason why an export needs the database.
pub(super) const EXPORT_IS_LOCAL: &str =
    "an export is a view of one moment, which only the database can give";
/// The reason why an import needs the database.
pub(super) const IMPORT_IS_LOCAL: &str = "it stores a thousand lines per statement";
