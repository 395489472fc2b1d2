//! `nas-cron webhooks`: the receivers of events, and their deliveries.

mod change;
mod deliveries;
mod list;

use std::io::Write;

use clap::{Args, Subcommand};
use uuid::Uuid;

use self::change::{AddArgs, SetArgs};
use self::deliveries::{DeliveriesArgs, EventsArgs, RedeliverArgs};
use self::list::ListArgs;
use crate::audit::Act;
use crate::cli::audited::Audited;
use crate::cli::operator::Place;
use crate::webhooks::Webhooks;

/// Add, list, change and test the webhooks that receive events.
///
/// nas-cron POSTs events to them, such as dead letters and unreachable agents, signed by the Standard Webhooks
/// specification. The command works on the database, also while the service is down, or with --server on a running service.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron webhooks add https://ops.example/nas-cron
  nas-cron webhooks add https://acme.example/cron --org acme --type dead_letter.created --type one_shot.stuck
  nas-cron webhooks test 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d
  nas-cron webhooks deliveries 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d

Settings go before the subcommand: nas-cron webhooks --config nas-cron.toml list")]
pub struct WebhooksArgs {
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum WebhooksCommand {
    Add(AddArgs),
    List(ListArgs),
    /// Show a webhook.
    #[command(after_help = "Example:\n  nas-cron webhooks show 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d")]
    Show(OneArgs),
    Set(SetArgs),
    /// Disable a webhook. It does not get the events that come meanwhile.
    #[command(after_help = "Example:\n  nas-cron webhooks disable 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d")]
    Disable(OneArgs),
    /// Enable a webhook, also one that has failed. The events that wait for it are sent at once.
    #[command(after_help = "Example:\n  nas-cron webhooks enable 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d")]
    Enable(OneArgs),
    /// Replace the secret of a webhook, and print the new one.
    ///
    /// For 24 hours, deliveries are signed with the previous secret as well.
    #[command(
        after_help = "Example:\n  nas-cron webhooks rotate-secret 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d"
    )]
    RotateSecret(OneArgs),
    /// Remove a webhook and its deliveries.
    #[command(after_help = "Example:\n  nas-cron webhooks remove 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d")]
    Remove(OneArgs),
    /// Send a test event to a webhook, and print the result. Fails unless the receiver accepts it.
    #[command(after_help = "Example:\n  nas-cron webhooks test 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d")]
    Test(OneArgs),
    Deliveries(DeliveriesArgs),
    Redeliver(RedeliverArgs),
    Events(EventsArgs),
}

/// A webhook.
#[derive(Clone, Debug, Args)]
struct OneArgs {
    /// Id of the webhook, as `nas-cron webhooks list` shows it.
    webhook_id: Uuid,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Audited for WebhooksArgs {
    fn act(&self) -> Option<Act> {
        let act = |action, webhook_id: &Uuid| Some(Act::new(action).about("webhook_id", webhook_id));
        match &self.command {
            WebhooksCommand::Add(args) => Some(args.act()),
            WebhooksCommand::Set(args) => act("update_webhook", &args.webhook_id),
            WebhooksCommand::Disable(args) | WebhooksCommand::Enable(args) => {
                act("update_webhook", &args.webhook_id)
            }
            WebhooksCommand::RotateSecret(args) => act("rotate_webhook_secret", &args.webhook_id),
            WebhooksCommand::Remove(args) => act("delete_webhook", &args.webhook_id),
            WebhooksCommand::Test(args) => act("test_webhook", &args.webhook_id),
            WebhooksCommand::Redeliver(args) => Some(
                Act::new("redeliver_event")
                    .about("webhook_id", args.webhook_id)
                    .about("event_id", args.event_id),
            ),
            WebhooksCommand::List(_)
            | WebhooksCommand::Show(_)
            | WebhooksCommand::Deliveries(_)
            | WebhooksCommand::Events(_) => None,
        }
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(args: WebhooksArgs, on: &Place<Webhooks>, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        WebhooksCommand::Add(args) => change::add(args, on, out).await,
        WebhooksCommand::List(args) => list::list(&args, on, out).await,
        WebhooksCommand::Show(args) => list::show(&args, on, out).await,
        WebhooksCommand::Set(args) => change::set(args, on, out).await,
        WebhooksCommand::Disable(args) => change::enable(&args, false, on, out).await,
        WebhooksCommand::Enable(args) => change::enable(&args, true, on, out).await,
        WebhooksCommand::RotateSecret(args) => change::rotate_secret(&args, on, out).await,
        WebhooksCommand::Remove(args) => change::remove(&args, on, out).await,
        WebhooksCommand::Test(args) => deliveries::test(&args, on, out).await,
        WebhooksCommand::Deliveries(args) => deliveries::list(&args, on, out).await,
        WebhooksCommand::Redeliver(args) => deliveries::redeliver(&args, on, out).await,
        WebhooksCommand::Events(args) => deliveries::events(args, on, out).await,
    }
}
