//! `nas-cron doctor`: the real binary on a real Postgres, with a real service, NATS server and QStash emulator beside
//! it. Every fault shows on its own line, with its mend.

mod backends;
mod database;
pub mod fixture;
mod keys;
mod work;
