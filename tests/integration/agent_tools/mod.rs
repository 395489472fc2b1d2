//! The agent's tools: the real binary as a client of a real service.

mod cron;
mod fixture;
mod identity;
mod mcp;
mod store;
