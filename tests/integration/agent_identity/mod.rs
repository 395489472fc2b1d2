//! Agents that call with keys of their own (docs/agent-identity.md), over real sockets and the real binary.

mod codex;
pub(crate) mod fixture;
mod hostile;
mod limits;
mod operators;
mod outages;
mod revocation;
mod vectors;
mod wire;
