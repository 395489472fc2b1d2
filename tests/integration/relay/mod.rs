//! `POST /api/agent-cron/relay` on the real binary: docs/contract.md#relay, and faults of an external backend.

pub(crate) mod caller;
mod faults;
mod log;
mod refused;
mod statuses;
