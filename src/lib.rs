//! nas-cron: one-shot cron for agents that scale to zero.

pub mod db;
pub mod domain;
