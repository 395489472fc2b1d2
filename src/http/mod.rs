//! HTTP as agents, the portal and operators meet it: all routes are on one page ([`router`]), who calls is in
//! [`auth`], what they send is read by `extract`, how they are refused is in [`error`]. [`server`]
//! bounds their connections.

pub mod admin;
pub mod agent_cron;
pub mod agent_identity;
pub mod auth;
mod auth_profiles;
pub mod error;
mod extract;
pub mod health;
pub mod jwks;
pub mod layers;
pub mod oauth;
pub mod relay;
pub mod router;
pub mod server;

pub use auth::{BearerCaller, Caller};
pub use error::{ApiError, Problem};
pub use extract::JsonBody;
