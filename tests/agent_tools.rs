//! The agent's own side: the real binary as a client, against a real service.

#[path = "agent_tools/cron.rs"]
mod cron;
#[path = "agent_tools/identity.rs"]
mod identity;
#[path = "agent_tools/mcp.rs"]
mod mcp;
#[path = "agent_tools/store.rs"]
mod store;
mod support;
#[path = "agent_tools/tools.rs"]
mod tools;
