//! The agent's side of nas-cron: everything that calls a server instead of being one.
//!
//! | module | what it is for |
//! |---|---|
//! | [`cli`] | the `cron` and `mcp` commands, of `nas-cron` and of the small binary `nas-cron-agent` |
//! | [`mcp`] | one-shots as tools for a model, on stdin and stdout |
//! | [`client`] | typed calls to any server, as an agent identity or with a token, and the auth store |
//!
//! Nothing in here needs a database, or a service in the same process.

pub mod cli;
pub mod client;
pub mod mcp;
