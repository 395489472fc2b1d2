//! HTTP as agents, the portal and operators meet it: all routes are on one page ([`router`]), who calls is in
//! [`auth`], what they send in [`json`], how they are refused in [`error`].

pub mod admin;
pub mod agent_cron;
pub mod agent_identity;
pub mod auth;
mod auth_profiles;
pub mod error;
pub mod health;
pub mod json;
pub mod jwks;
pub mod layers;
pub mod oauth;
mod query;
pub mod relay;
pub mod router;
mod unread;

pub use auth::{BearerCaller, Caller};
pub use error::{ApiError, Problem};
pub use json::JsonBody;
