//! Helper of `make bench-peers`: see `nas_cron_dev::bench::helper`.

use clap::Parser;
use nas_cron_dev::bench::helper::Helper;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Helper::parse().run().await
}
