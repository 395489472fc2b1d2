//! The agent's own side: the real binary as a client, against a real service.

mod cron;
mod identity;
mod mcp;
mod store;
mod tools;
