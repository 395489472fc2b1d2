//! The Postgres of `nas-cron dev`, for the schedulers that nas-cron is compared with.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::task::spawn_blocking;

use super::print;
use crate::private_postgres::{Options, PrivatePostgres};

const DATABASE: &str = "bench";

/// Runs the server until stdin ends.
pub(super) async fn run(dir: PathBuf) -> anyhow::Result<()> {
    let start = || {
        let postgres = PrivatePostgres::start(Options { remove_on_drop: true, ..Options::new(dir) })?;
        postgres.create_database(DATABASE)?;
        anyhow::Ok(postgres)
    };
    let postgres = spawn_blocking(start).await.context("starting Postgres panicked")??;
    print(&json!({ "url": postgres.url(DATABASE), "programs": postgres.programs() }))?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    spawn_blocking(move || postgres.stop()).await.context("stopping Postgres panicked")
}
