//! The agent's own side: a client of any nas-cron server, for `nas-cron cron` and `nas-cron mcp`.
//!
//! [`api`] is hop 1 as typed calls. How a call proves who makes it is behind [`Credentials`], so that whoever calls
//! need not know whether a bearer token or an agent identity does it.

pub mod api;

use secrecy::SecretString;

pub use self::api::{Client, ClientError};

/// What a call proves its caller with.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A portal access token.
    Bearer(SecretString),
}
