//! nas-cron: one-shot cron for agents that scale to zero.

pub mod clock;
pub mod db;
pub mod domain;
