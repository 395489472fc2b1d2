//! The service's HTTP face: who calls ([`auth`]), what they send ([`json`]), and how they are refused ([`error`]).

pub mod auth;
pub mod error;
pub mod json;

pub use auth::Caller;
pub use error::{ApiError, Problem};
pub use json::JsonBody;
//! HTTP as agents, the portal and operators meet it.

pub mod health;
pub mod layers;
