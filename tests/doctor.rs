//! `nas-cron doctor`: the real binary on a real Postgres, with a real service, NATS server and QStash emulator beside
//! it. Every fault shows on its own line, with its mend.

#[path = "doctor/around.rs"]
mod around;
#[path = "doctor/database.rs"]
mod database;
#[path = "doctor/engines.rs"]
mod engines;
#[path = "doctor/examined.rs"]
mod examined;
mod qstash_emulator;
mod support;
#[path = "doctor/work.rs"]
mod work;
