//! nas-cron: one-shot cron for agents that scale to zero.

pub mod clock;
pub mod db;
pub mod domain;
pub mod fire;
pub mod keys;
pub mod metrics;
pub mod oneshot;
pub mod scheduler;
