//! Agents that call with their own keys (docs/agent-identity.md), over real sockets and with the real binary.

mod codex;
pub(crate) mod fixture;
mod hostile;
mod limits;
mod operators;
mod outages;
mod revocation;
mod vectors;
mod wire;
