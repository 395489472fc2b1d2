//! This service as its agents' portal: logins, refresh tokens, and what becomes of them when things go wrong.
//!
//! The real hermes-agent goes through the same in `tests/hermes_agent.rs`.

#[path = "own_portal/enrollment.rs"]
mod enrollment;
#[path = "own_portal/faults.rs"]
mod faults;
#[path = "own_portal/issuers.rs"]
mod issuers;
#[path = "own_portal/keys.rs"]
mod keys;
#[path = "own_portal/refresh.rs"]
mod refresh;
#[path = "own_portal/refusals.rs"]
mod refusals;
mod support;
#[path = "own_portal/world.rs"]
mod world;
