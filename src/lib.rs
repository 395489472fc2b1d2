//! nas-cron: one-shot cron for agents that scale to zero.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod domain;
pub mod fire;
pub mod http;
pub mod instance;
pub mod jwt;
pub mod keys;
pub mod metrics;
pub mod oneshot;
pub mod private_postgres;
pub mod scheduler;
pub mod shutdown;
pub mod telemetry;
