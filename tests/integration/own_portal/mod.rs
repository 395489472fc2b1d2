//! This service as its agents' portal: logins, refresh tokens, and what becomes of them when things go wrong.
//!
//! The real hermes-agent goes through the same in `tests/hermes_agent.rs`.

mod enrollment;
mod faults;
mod fixture;
mod issuers;
mod keys;
mod refresh;
mod refusals;
