//! The agent's own side: the real binary as a client, against a real service.

mod cron;
mod fixture;
mod identity;
mod mcp;
mod store;
