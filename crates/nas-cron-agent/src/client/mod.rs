//! A client of any nas-cron server, for `nas-cron cron` and `nas-cron mcp`.
//!
//! [`api`] is the agent API as typed calls. [`Credentials`] hides from it how a call authenticates: with an access token
//! ([`bearer`]) or as the agent identity ([`background`], with a key of [`identity`]). [`store`] keeps both between runs.
//! [`update`] changes one part of a job and keeps the rest.

pub mod api;
pub mod background;
pub mod bearer;
pub(crate) mod fire_time;
pub mod identity;
mod listed_auth;
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

/// The credentials of a call.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A portal access token.
    Bearer(Bearer),
    /// The agent identity, with a portal access token as the fallback.
    AgentIdentity(Arc<BackgroundTask>),
}

impl From<SecretString> for Credentials {
    fn from(token: SecretString) -> Self {
        Self::Bearer(Bearer::Given(token))
    }
}
