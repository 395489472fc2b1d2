//! `nas-cron export` and `nas-cron import`: agents, logins, auth profiles and one-shots as JSON Lines.

pub mod export;
pub mod import;
mod lines;
mod partial;
