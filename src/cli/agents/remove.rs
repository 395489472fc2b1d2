//! `nas-cron agents remove`.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use nas_cron_base::terminal::{self, counted};
use nas_cron_protocol::InstanceId;
use serde_json::json;

use super::find;
use crate::cli::directory_error::explained;
use crate::db::Db;
use crate::directory::{self, DirectoryError};

/// Remove an agent, and its one-shots with it.
///
/// None of them fires any more; their history stays. To stop an agent for a while, disable it instead.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron agents remove agent-1 --yes")]
pub(super) struct RemoveArgs {
    /// Its name.
    instance_id: InstanceId,
    /// Yes, also if it has one-shots.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Removes the agent, and prints how many one-shots went with it.
pub(super) async fn run(args: &RemoveArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let agent = find(db, &args.instance_id).await?;
    let held = agent.armed + agent.dead;
    if held > 0 && !args.yes {
        bail!(
            "agent {} has {} that would be forgotten; say --yes if that is meant, or disable it instead",
            agent.instance_id,
            counted(held, "one-shot")
        );
    }
    let one_shots = match directory::remove(db, &args.instance_id).await {
        // Somebody else was faster: it is gone all the same.
        Err(DirectoryError::Unknown(_)) => 0,
        other => other.map_err(explained)?,
    };
    if args.json {
        return terminal::json(out, &json!({ "instance_id": agent.instance_id, "one_shots": one_shots }));
    }
    writeln!(out, "Agent {} is removed, and {} with it.", agent.instance_id, counted(one_shots, "one-shot"))?;
    Ok(())
}
