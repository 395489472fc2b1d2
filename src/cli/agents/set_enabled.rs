//! `nas-cron agents enable` and `disable`.

use std::io::Write;

use nas_cron_base::terminal::{self, counted};
use serde_json::json;

use super::{OneArgs, find};
use crate::cli::directory_error::explained;
use crate::db::Db;
use crate::directory;

/// Enables or disables the agent, and prints the effect on its one-shots.
pub(super) async fn run(args: &OneArgs, enabled: bool, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let before = find(db, &args.instance_id).await?;
    let changed = directory::set_enabled(db, &args.instance_id, enabled).await.map_err(explained)?;
    let agent = find(db, &args.instance_id).await?;
    let released = if agent.on_hold { 0 } else { (before.parked - agent.parked).max(0) };
    if args.json {
        return terminal::json(out, &json!({ "changed": changed, "released": released, "agent": agent }));
    }
    let already = if changed { "" } else { " already" };
    let name = &agent.instance_id;
    match (enabled, agent.on_hold) {
        (false, _) => {
            let waiting = counted(agent.armed, "one-shot");
            writeln!(
                out,
                "Agent {name} is{already} disabled. It has {waiting}; none fires until `nas-cron agents enable`."
            )?;
        }
        (true, true) => writeln!(
            out,
            "Agent {name} is{already} enabled, but still on hold, with {} parked; see `nas-cron hold list`.",
            counted(agent.parked, "one-shot")
        )?,
        (true, false) => {
            writeln!(out, "Agent {name} is{already} enabled; {} released.", counted(released, "one-shot"))?;
        }
    }
    Ok(())
}
