//! `nas-cron agents enable` and `disable`.

use std::io::Write;

use nas_cron_base::terminal::{self, counted};

use super::OneArgs;
use crate::cli::operator::Operator;
use crate::domain::registration::EnabledAgent;

/// Enables or disables the agent, and prints the effect on its one-shots.
pub(super) async fn run(
    args: &OneArgs,
    enabled: bool,
    on: &Operator,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let done = on.set_enabled(&args.instance_id, enabled).await?;
    if args.json {
        return terminal::json(out, &done);
    }
    let EnabledAgent { changed, released, agent } = done;
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
