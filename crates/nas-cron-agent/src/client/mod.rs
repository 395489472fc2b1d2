//! The agent's own side: a client of any nas-cron server, for `nas-cron cron` and `nas-cron mcp`.
//!
//! [`api`] is hop 1 as typed calls. How a call proves who makes it is behind [`Credentials`], so that whoever calls
//! need not know whether a bearer token ([`bearer`]) or the agent's identity ([`background`], with a key of [`identity`])
//! does it. [`store`] keeps both between runs.
//! [`update`] changes one thing about a job and keeps the rest.

pub mod api;
pub mod background;
pub mod bearer;
pub(crate) mod fire_time;
pub mod identity;
pub mod registration;
pub mod server_url;
pub mod store;
mod transport;
pub mod update;

use std::sync::Arc;

use secrecy::SecretString;

pub use self::api::{Client, ClientError};
use self::background::BackgroundTask;
use self::bearer::Bearer;

/// What a call proves its caller with.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A portal access token.
    Bearer(Bearer),
    /// The agent's own identity, and a portal access token where that does not work.
    AgentIdentity(Arc<BackgroundTask>),
}

impl From<SecretString> for Credentials {
    fn from(token: SecretString) -> Self {
        Self::Bearer(Bearer::Given(token))
    }
}
