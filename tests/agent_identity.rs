//! Agents that call with keys of their own (docs/agent-identity.md), over real sockets and the real binary.

#[path = "agent_identity/bed.rs"]
mod bed;
#[path = "agent_identity/codex.rs"]
mod codex;
#[path = "agent_identity/hostile.rs"]
mod hostile;
#[path = "agent_identity/limits.rs"]
mod limits;
#[path = "agent_identity/operators.rs"]
mod operators;
#[path = "agent_identity/outages.rs"]
mod outages;
#[path = "agent_identity/revocation.rs"]
mod revocation;
mod support;
#[path = "agent_identity/vectors.rs"]
mod vectors;
#[path = "agent_identity/wire.rs"]
mod wire;
