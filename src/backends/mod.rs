//! Who wakes us first: our own loop over Postgres, or a hosted engine.
//!
//! The row in Postgres is the truth, and our own loop ([`crate::scheduler`]) makes every attempt. A backend only
//! decides who says "now" for the first one; the loop itself says it a grace later, if the engine does not.

pub mod backend;
pub mod wakes;

pub use backend::{
    BackendError, DirectCall, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeBody, WakeUp,
};
pub use wakes::Wakes;
