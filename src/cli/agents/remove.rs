//! `nas-cron agents remove`.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use nas_cron_base::shell::CommandLine;
use nas_cron_base::terminal::{self, counted};
use nas_cron_protocol::InstanceId;
use serde_json::json;

use crate::audit::Act;
use crate::cli::operator::Operator;
use crate::cli::orgs;
use crate::operations::orgs::DeletionOf;

/// Remove an agent and its one-shots.
///
/// An agent with one-shots is removed only with --yes: they never fire. Their history is kept. To stop an agent for a
/// while, use `nas-cron agents disable` instead.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron agents remove agent-1 --yes")]
pub(super) struct RemoveArgs {
    /// Instance id of the agent.
    pub(super) instance_id: InstanceId,
    /// Remove the agent even if it has one-shots.
    #[arg(long)]
    yes: bool,
    /// Also delete its history, identities, logins and holds. Without --confirm, only count.
    #[arg(long)]
    everything: bool,
    /// With --everything: the value that the count has printed.
    #[arg(long, value_name = "VALUE", requires = "everything")]
    confirm: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl RemoveArgs {
    /// Returns the line in the audit log; `None` for a count.
    pub(super) fn act(&self) -> Option<Act> {
        let action = if self.everything { "delete_everything" } else { "delete_agent" };
        let counts = self.everything && self.confirm.is_none();
        (!counts).then(|| Act::new(action).about("instance_id", &self.instance_id))
    }
}

/// Removes the agent, and prints the number of removed one-shots.
pub(super) async fn run(args: &RemoveArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.everything {
        let (of, name) =
            (DeletionOf::Instance(args.instance_id.clone()), format!("agent {}", args.instance_id));
        return orgs::delete(on, &of, &name, args.confirm.as_deref(), args.json, out).await;
    }
    let agent = on.agent(&args.instance_id).await?.agent;
    let held = agent.armed + agent.dead;
    if held > 0 && !args.yes {
        bail!(
            "agent {name} has {} that would be removed with it: add --yes to remove them, or stop the agent for a while with \
             `{}`",
            counted(held, "one-shot"),
            CommandLine::new("agents disable").of([agent.instance_id.as_str()]),
            name = agent.instance_id
        );
    }
    let one_shots = on.remove_agent(&agent).await?;
    if args.json {
        return terminal::json(out, &json!({ "instance_id": agent.instance_id, "one_shots": one_shots }));
    }
    writeln!(out, "Agent {} is removed, and {} with it.", agent.instance_id, counted(one_shots, "one-shot"))?;
    Ok(())
}
