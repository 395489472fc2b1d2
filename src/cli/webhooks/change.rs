//! `nas-cron webhooks add`, `set`, `enable`, `disable`, `rotate-secret` and `remove`.

use std::io::Write;

use clap::{Args, value_parser};
use nas_cron_base::terminal::{self, printable};
use nas_cron_protocol::{Given, OrgId};
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::OneArgs;
use super::list::print;
use crate::audit::Act;
use crate::cli::operator::Place;
use crate::domain::event::EventType;
use crate::webhooks::Webhooks;
use crate::webhooks::input::{self, Change, Wanted};

/// Add a webhook, and print its secret.
///
/// The secret signs the deliveries: configure it at the receiver. It is not shown again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron webhooks add https://ops.example/nas-cron --description \"on-call channel\"
  nas-cron webhooks add https://acme.example/cron --org acme --type dead_letter.created")]
pub(super) struct AddArgs {
    /// URL that receives the events: https and a public address, unless `callback_allow` permits it.
    #[arg(value_parser = input::url)]
    url: Url,
    /// Only events of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// Only events of this type. Repeat it for several types.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<EventType>,
    /// Purpose, for people.
    #[arg(long, value_parser = description)]
    description: Option<String>,
    /// Print JSON: the webhook and its secret.
    #[arg(long)]
    json: bool,
}

impl AddArgs {
    /// Returns the line in the audit log.
    pub(super) fn act(&self) -> Act {
        let act = Act::new("create_webhook");
        match &self.org {
            Some(org_id) => act.about("org_id", org_id),
            None => act,
        }
    }
}

/// Change the URL, the description or the types of a webhook.
#[derive(Clone, Debug, Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)), after_help = "\
Example:
  nas-cron webhooks set 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d --url https://ops.example/new --all-types")]
pub(super) struct SetArgs {
    /// Id of the webhook.
    #[arg(value_parser = value_parser!(Uuid))]
    pub(super) webhook_id: Uuid,
    /// New URL. The next attempt is due at once.
    #[arg(long, group = "change", value_parser = input::url)]
    url: Option<Url>,
    /// New purpose.
    #[arg(long, group = "change", value_parser = description)]
    description: Option<String>,
    /// Only events of this type. Repeat it for several types.
    #[arg(long = "type", value_name = "TYPE", group = "change", conflicts_with = "all_types")]
    types: Vec<EventType>,
    /// Events of all types.
    #[arg(long, group = "change")]
    all_types: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn description(text: &str) -> Result<String, String> {
    input::description(text.to_owned()).map_err(|error| error.problem)
}

/// Returns the types in their order, each once; `None` for an empty list.
fn filter(mut types: Vec<EventType>) -> Option<Vec<EventType>> {
    types.sort_unstable();
    types.dedup();
    Some(types).filter(|types| !types.is_empty())
}

pub(super) async fn add(args: AddArgs, on: &Place<Webhooks>, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted =
        Wanted { url: args.url, description: args.description, org_id: args.org, types: filter(args.types) };
    let created = on.create_webhook(wanted).await?;
    if args.json {
        return terminal::json(out, &created);
    }
    let id = created.webhook.webhook_id;
    writeln!(out, "Webhook {id} is added. Its secret, which is not shown again:\n")?;
    writeln!(out, "  {}\n", created.secret)?;
    writeln!(out, "Configure it at the receiver, then run `nas-cron webhooks test {id}`.")?;
    Ok(())
}

pub(super) async fn set(args: SetArgs, on: &Place<Webhooks>, out: &mut dyn Write) -> anyhow::Result<()> {
    let types = match filter(args.types) {
        Some(types) => Given::Set(types),
        None if args.all_types => Given::Clear,
        None => Given::Keep,
    };
    let description = args.description.map_or(Given::Keep, Given::Set);
    let change = Change { url: args.url, description, types, enabled: None };
    let webhook = on.update_webhook(args.webhook_id, change).await?;
    print(&webhook, on.now()?, args.json, out)
}

pub(super) async fn enable(
    args: &OneArgs,
    enabled: bool,
    on: &Place<Webhooks>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let change = Change { enabled: Some(enabled), ..Change::default() };
    let webhook = on.update_webhook(args.webhook_id, change).await?;
    if args.json {
        return terminal::json(out, &webhook);
    }
    writeln!(out, "Webhook {} ({}) is {}.", webhook.webhook_id, printable(&webhook.url), webhook.state)?;
    Ok(())
}

pub(super) async fn rotate_secret(
    args: &OneArgs,
    on: &Place<Webhooks>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let rotated = on.rotate_webhook_secret(args.webhook_id).await?;
    if args.json {
        return terminal::json(out, &rotated);
    }
    writeln!(out, "The new secret of webhook {}, which is not shown again:\n", args.webhook_id)?;
    writeln!(out, "  {}\n", rotated.secret)?;
    writeln!(
        out,
        "Until {}, deliveries are signed with the previous secret as well.",
        rotated.old_secret_until
    )?;
    Ok(())
}

pub(super) async fn remove(args: &OneArgs, on: &Place<Webhooks>, out: &mut dyn Write) -> anyhow::Result<()> {
    on.delete_webhook(args.webhook_id).await?;
    if args.json {
        return terminal::json(out, &json!({ "webhook_id": args.webhook_id }));
    }
    writeln!(out, "Webhook {} is removed.", args.webhook_id)?;
    Ok(())
}
