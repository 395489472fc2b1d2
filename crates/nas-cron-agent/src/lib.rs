//! The agent's side of nas-cron: the client, and the commands built on it.
//!
//! | module | purpose |
//! |---|---|
//! | [`cli`] | the `cron` and `mcp` commands of `nas-cron` and of the small binary `nas-cron-agent` |
//! | [`mcp`] | an MCP server on stdin and stdout that offers one-shots as tools for a model |
//! | [`client`] | typed calls to any server, with an agent identity or an access token, and the auth store |
//!
//! Nothing here needs a database or a service in the same process.

// `println!` and `eprintln!` panic if the reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod client;
pub mod mcp;
