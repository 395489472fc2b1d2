//! `nas-cron agents set-callback`.

use std::io::Write;

use clap::Args;
use nas_cron_base::terminal::{self, counted};
use nas_cron_protocol::{CallbackUrl, InstanceId};

use crate::cli::operator::Operator;
use crate::directory;

/// Change the callback URL of an agent and of all its one-shots.
///
/// Needed only for an agent that has moved and is asleep: an agent sets its own callback URL when it arms a one-shot.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron agents set-callback agent-1 https://agent-1.agents.example")]
pub(super) struct SetCallbackArgs {
    /// Instance id of the agent.
    pub(super) instance_id: InstanceId,
    /// Callback URL: fires go to {URL}/api/cron/fire.
    #[arg(value_name = "URL", value_parser = directory::callback_url)]
    callback_url: CallbackUrl,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Stores the callback, and prints the number of one-shots that were changed.
pub(super) async fn run(args: &SetCallbackArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let moved = on.set_callback(&args.instance_id, &args.callback_url).await?;
    if args.json {
        return terminal::json(out, &moved);
    }
    let (name, url, moved) = (&args.instance_id, &moved.callback_url, counted(moved.moved, "one-shot"));
    writeln!(out, "The callback URL of agent {name} is now {url}; {moved} moved to it.")?;
    Ok(())
}
