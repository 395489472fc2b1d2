//! The connection of the tools, which may come into being after the start.

use nas_cron_protocol::CallbackUrl;

use crate::client::Client;

/// A client of one server, with the default callback URL.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Client of the agent API.
    pub client: Client,
    /// Callback URL of jobs without one. Without a default, `cron_provision` requires one.
    pub callback: Option<CallbackUrl>,
}

/// Finds the server and the credentials. The error is a sentence with the fix.
pub type Connect = dyn Fn() -> Result<Connected, String> + Send + Sync;
