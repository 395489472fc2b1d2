//! `nas-cron doctor`: the real binary with a real Postgres, service, NATS server and QStash emulator. Every fault is
//! reported by its own check, with a fix.

mod backends;
mod database;
pub mod fixture;
mod keys;
mod replicas;
mod work;
