//! `nas-cron agents add`.

use std::io::Write;

use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::{CallbackUrl, Given, InstanceId, OrgId, SessionId};
use serde_json::json;

use crate::cli::directory_error::explained;
use crate::db::Db;
use crate::directory::{self, Change};
use crate::domain::registration::Registration;

/// Register an agent, or change its registration.
///
/// What is left out keeps what an earlier registration, or the agent itself, said. Repeating it changes nothing.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents add agent-1 --org acme --session 0192f3a1
  nas-cron agents add agent-2 --org acme                 Known by its tokens' client agent:agent-2 only")]
pub(super) struct AddArgs {
    /// Its name in the portal.
    instance_id: InstanceId,
    /// The org that owns it.
    #[arg(long, value_name = "ORG")]
    org: OrgId,
    /// The bootstrap session planted in it: its tokens' `sid`.
    #[arg(long, value_name = "SID")]
    session: Option<SessionId>,
    /// Where it is reached. It brings this along with its first provision.
    #[arg(long, value_name = "URL", value_parser = directory::callback_url)]
    callback_url: Option<CallbackUrl>,
    /// Register it, but hold its fires and refuse its calls until it is enabled.
    #[arg(long)]
    disabled: bool,
    /// Yes, it may leave its org for this one; the old org's tokens stop working.
    #[arg(long)]
    move_org: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Registers the agent, and prints what has changed.
pub(super) async fn run(args: AddArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted = Registration {
        instance_id: args.instance_id,
        org_id: args.org,
        bootstrap_session_id: args.session.map_or(Given::Keep, Given::Set),
        callback_url: args.callback_url,
        enabled: args.disabled.then_some(false),
    };
    let (change, agent) = directory::register(db, wanted, args.move_org).await.map_err(explained)?;
    if args.json {
        return terminal::json(out, &json!({ "change": change, "agent": agent }));
    }
    let did = match change {
        Change::Added => "added",
        Change::Updated => "updated",
        Change::Unchanged => "is registered like this already",
    };
    let disabled = if agent.enabled { "" } else { " It is disabled: `nas-cron agents enable` lets it work." };
    writeln!(out, "Agent {} of org {} {did}.{disabled}", agent.instance_id, agent.org_id)?;
    Ok(())
}
