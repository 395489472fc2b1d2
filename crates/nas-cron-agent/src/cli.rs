//! Commands that call any nas-cron server as an agent: for the agent itself, or for a person or a script on its behalf.

mod connection;
mod cron;
mod mcp;

use nas_cron_base::terminal::UsageError;

pub use self::cron::Cron;
pub use self::mcp::Mcp;
use crate::client::store::AuthStoreError;

/// Returns true if the error is an invalid command line or auth store (exit code 2).
pub fn is_usage_error(error: &anyhow::Error) -> bool {
    error.is::<UsageError>() || error.is::<AuthStoreError>()
}
