//! `POST /api/agent-cron/relay` on the real binary: docs/contract.md#relay, and engines that misbehave.

mod caller;
mod faults;
mod refused;
mod statuses;
