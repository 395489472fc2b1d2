//! The HTTP interface for agents, the portal and operators.
//!
//! [`router`] lists all routes, [`auth`] authenticates callers, `extract` reads requests, [`error`] turns errors into
//! responses, and [`server`] accepts and limits connections.

pub mod admin;
pub mod agent_cron;
pub mod agent_identity;
pub mod auth;
mod auth_profiles;
mod callback_warnings;
mod docs;
pub mod error;
mod extract;
mod fire_webhook;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod health;
mod jobs;
pub mod jwks;
pub mod layers;
mod log_fields;
mod noted;
pub mod oauth;
mod openapi;
mod ops;
mod origin;
pub mod pace;
mod peer;
pub mod relay;
pub mod router;
pub mod server;

pub use auth::{BearerCaller, Caller, RememberedCaller};
pub use error::{ApiError, Problem};
pub use extract::JsonBody;
