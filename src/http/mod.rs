//! The service's HTTP face: who calls ([`auth`]), what they send ([`json`]), and how they are refused ([`error`]).

pub mod auth;
pub mod error;
pub mod json;

pub use auth::Caller;
pub use error::{ApiError, Problem};
pub use json::JsonBody;
