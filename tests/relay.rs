//! `POST /api/agent-cron/relay` on the real binary: CONTRACT "Hop 2", and engines that misbehave.

#[path = "relay/caller.rs"]
mod caller;
#[path = "relay/faults.rs"]
mod faults;
mod qstash_emulator;
#[path = "relay/refused.rs"]
mod refused;
#[path = "relay/statuses.rs"]
mod statuses;
mod support;
