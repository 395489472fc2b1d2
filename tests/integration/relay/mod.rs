//! `POST /api/agent-cron/relay` on the real binary: CONTRACT "Hop 2", and engines that misbehave.

mod caller;
mod faults;
mod refused;
mod statuses;
