//! `nas-cron agents add`.

use std::io::Write;

use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::{CallbackUrl, Given, InstanceId, OrgId, SessionId};
use serde_json::json;

use crate::cli::operator::Operator;
use crate::directory::{self, Change};
use crate::domain::registration::Registration;

/// Register an agent, or change its registration.
///
/// Values that are left out keep their present values. Repeating the command changes nothing.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents add agent-1 --org acme --session 0192f3a1
  nas-cron agents add agent-2 --org acme                 Identified by client id agent:agent-2 only")]
pub(super) struct AddArgs {
    /// Instance id of the agent in the portal.
    pub(super) instance_id: InstanceId,
    /// Org that owns the agent.
    #[arg(long, value_name = "ORG")]
    org: OrgId,
    /// Bootstrap session of the agent: the `sid` claim of its tokens.
    #[arg(long, value_name = "SID")]
    session: Option<SessionId>,
    /// Callback URL of the agent. The agent also sets it when it arms its first one-shot.
    #[arg(long, value_name = "URL", value_parser = directory::callback_url)]
    callback_url: Option<CallbackUrl>,
    /// Register the agent as disabled: its fires are held and its calls are refused until `nas-cron agents enable`.
    #[arg(long)]
    disabled: bool,
    /// Allow moving the agent to another org. Tokens of the old org then stop working.
    #[arg(long)]
    move_org: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Registers the agent, and prints the kind of change.
pub(super) async fn run(args: AddArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted = Registration {
        instance_id: args.instance_id,
        org_id: args.org,
        bootstrap_session_id: args.session.map_or(Given::Keep, Given::Set),
        callback_url: args.callback_url,
        enabled: args.disabled.then_some(false),
    };
    let (change, agent) = on.put_agent(wanted, args.move_org).await?;
    if args.json {
        return terminal::json(out, &json!({ "change": change, "agent": agent }));
    }
    let did = match change {
        Change::Added => "is registered",
        Change::Updated => "is updated",
        Change::Unchanged => "is unchanged: it was already registered with these values",
    };
    let disabled = if agent.enabled { "" } else { " It is disabled; `nas-cron agents enable` enables it." };
    writeln!(out, "Agent {} of org {} {did}.{disabled}", agent.instance_id, agent.org_id)?;
    Ok(())
}
