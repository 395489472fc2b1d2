//! Commands that an agent, or a person in its place, runs against any nas-cron server.

mod connection;
mod cron;
mod mcp;

use nas_cron_base::terminal::UsageError;

pub use self::cron::Cron;
pub use self::mcp::Mcp;
use crate::client::store::AuthStoreError;

/// Returns true if the command line or the auth store is wrong: exit code 2.
pub fn is_usage_error(error: &anyhow::Error) -> bool {
    error.is::<UsageError>() || error.is::<AuthStoreError>()
}
