//! Fixtures of the integration tests.
//!
//! Most tests begin with a [`world::World`]: a database, a portal, agents, and a running service. [`cluster::Cluster`]
//! is the same with several replicas. [`nats`] starts real NATS servers; [`qstash_emulator`] emulates QStash, and
//! [`newer_agent`] the fire endpoint of a hermes-agent that cannot be installed here.

use std::path::PathBuf;

pub mod abuse;
pub mod agent;
pub mod browser;
pub mod chaos;
pub mod cluster;
pub mod corpora;
pub mod database;
pub mod frozen;
pub mod jwt;
pub mod nats;
pub mod newer_agent;
pub mod nginx;
pub mod pgbouncer;
pub mod portal;
pub mod ports;
mod programs;
pub mod prometheus;
pub mod proxy;
pub mod qstash_emulator;
pub mod raw_agent;
pub mod service;
#[cfg(target_os = "linux")]
pub mod terminal;
pub mod time;
pub mod world;

/// Returns a path below the repository's `target/`, where `make` installs the programs that tests run.
pub fn in_target(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")).join(path)
}
