//! `nas-cron agents set-callback`.

use std::io::Write;

use clap::Args;
use nas_cron_base::terminal::{self, counted};
use nas_cron_protocol::{CallbackUrl, InstanceId};
use serde_json::json;

use crate::cli::directory_error::explained;
use crate::db::Db;
use crate::directory;

/// Tell where an agent is reached now: all its one-shots go there.
///
/// Agents do this themselves when they come with another callback; this is for one that cannot.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron agents set-callback agent-1 https://agent-1.agents.example")]
pub(super) struct SetCallbackArgs {
    /// Its name.
    instance_id: InstanceId,
    /// The base URL: fires go to {URL}/api/cron/fire.
    #[arg(value_name = "URL", value_parser = directory::callback_url)]
    callback_url: CallbackUrl,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Stores the callback, and prints how many one-shots moved there.
pub(super) async fn run(args: &SetCallbackArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let moved =
        directory::set_callback(db, &args.instance_id, &args.callback_url).await.map_err(explained)?;
    if args.json {
        let callback_url = args.callback_url.as_str();
        return terminal::json(
            out,
            &json!({ "instance_id": args.instance_id, "callback_url": callback_url, "moved": moved }),
        );
    }
    let (name, url, moved) = (&args.instance_id, args.callback_url.as_str(), counted(moved, "one-shot"));
    writeln!(out, "Agent {name} is reached at {url} from now on; {moved} moved there.")?;
    Ok(())
}
