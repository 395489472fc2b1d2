//! `nas-cron webhooks list` and `nas-cron webhooks show`.

use std::io::Write;

use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, or_dash, printable, relative};
use nas_cron_protocol::OrgId;

use super::OneArgs;
use crate::cli::operator::Place;
use crate::domain::webhook::{Webhook, WebhookState};
use crate::webhooks::Webhooks;

/// List webhooks, the oldest first.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  nas-cron webhooks list --json | jq '.webhooks[] | select(.state == \"failed\")'"
)]
pub(super) struct ListArgs {
    /// Only webhooks of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// Print JSON: {"webhooks": […]}. With `"more": true`, there are others: list them by org.
    #[arg(long)]
    json: bool,
}

pub(super) async fn list(args: &ListArgs, on: &Place<Webhooks>, out: &mut dyn Write) -> anyhow::Result<()> {
    let found = on.webhooks(args.org.as_ref()).await?;
    if args.json {
        return terminal::json(out, &found);
    }
    out.write_all(table(&found.webhooks).as_bytes())?;
    if found.more {
        writeln!(out, "There are more webhooks: --org lists those of one org.")?;
    }
    Ok(())
}

pub(super) async fn show(args: &OneArgs, on: &Place<Webhooks>, out: &mut dyn Write) -> anyhow::Result<()> {
    let webhook = on.webhook(args.webhook_id).await?;
    print(&webhook, on.now()?, args.json, out)
}

fn table(webhooks: &[Webhook]) -> String {
    if webhooks.is_empty() {
        return "No webhooks. `nas-cron webhooks add` adds one.\n".to_owned();
    }
    let mut table = terminal::table(&["WEBHOOK", "STATE", "ORG", "TYPES", "PENDING", "URL"]);
    for webhook in webhooks {
        table.add_row([
            webhook.webhook_id.to_string(),
            condition(webhook).to_owned(),
            or_dash(webhook.org_id.as_deref()),
            types(webhook),
            webhook.pending.to_string(),
            printable(&webhook.url),
        ]);
    }
    terminal::text(table)
}

/// Returns the state, or `retrying` for an enabled webhook whose attempts fail.
fn condition(webhook: &Webhook) -> &'static str {
    match webhook.state {
        WebhookState::Enabled if webhook.failures > 0 => "retrying",
        state => state.as_str(),
    }
}

fn types(webhook: &Webhook) -> String {
    webhook.types.as_ref().map_or_else(|| "all".to_owned(), |types| types.join("\n"))
}

/// Prints one webhook.
pub(super) fn print(
    webhook: &Webhook,
    now: DateTime<Utc>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if json {
        return terminal::json(out, webhook);
    }
    out.write_all(facts(webhook, now).as_bytes())?;
    Ok(())
}

fn facts(webhook: &Webhook, now: DateTime<Utc>) -> String {
    let at = |time: Option<DateTime<Utc>>| or_dash(time.map(|time| relative(now, time)));
    let last = match (webhook.last_status, &webhook.last_error) {
        (_, Some(error)) => error.clone(),
        (Some(status), None) => format!("accepted, status {status}"),
        (None, None) => "-".to_owned(),
    };
    let mut rows = vec![
        ("webhook", webhook.webhook_id.to_string()),
        ("url", webhook.url.clone()),
        ("description", or_dash(webhook.description.as_deref())),
        ("org", or_dash(webhook.org_id.as_deref())),
        ("types", webhook.types.as_ref().map_or_else(|| "all".to_owned(), |types| types.join(", "))),
        ("state", condition(webhook).to_owned()),
        ("last attempt", last),
        ("pending events", webhook.pending.to_string()),
        ("created", relative(now, webhook.created_at)),
    ];
    let more = [
        ("ended", webhook.ended_at),
        ("failing since", webhook.failing_since),
        ("next attempt", webhook.next_attempt_at),
        ("old secret until", webhook.old_secret_until),
    ];
    rows.extend(more.into_iter().filter(|(_, time)| time.is_some()).map(|(name, time)| (name, at(time))));
    terminal::text(terminal::facts(&rows))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;

    fn webhook(now: DateTime<Utc>) -> Webhook {
        Webhook {
            webhook_id: Uuid::from_u128(0x7f3f_0c5e_0d5a_4f0a_9d1a_3f8f_5f0c_5e0d),
            url: "https://ops.example/nas-cron".to_owned(),
            description: None,
            org_id: None,
            types: None,
            state: WebhookState::Enabled,
            ended_at: None,
            failing_since: None,
            failures: 0,
            next_attempt_at: None,
            last_status: Some(204),
            last_error: None,
            pending: 0,
            old_secret_until: None,
            created_at: now - TimeDelta::days(3),
        }
    }

    #[test]
    fn webhooks_match_their_snapshots() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let failing = Webhook {
            org_id: Some("acme".to_owned()),
            types: Some(vec!["dead_letter.created".to_owned(), "one_shot.stuck".to_owned()]),
            failures: 3,
            failing_since: Some(now - TimeDelta::minutes(2)),
            next_attempt_at: Some(now + TimeDelta::minutes(5)),
            last_status: Some(500),
            last_error: Some("status 500: no\u{1b}[2J".to_owned()),
            pending: 4,
            ..webhook(now)
        };
        let failed = Webhook { state: WebhookState::Failed, ended_at: Some(now), ..failing.clone() };
        insta::assert_snapshot!(table(&[webhook(now), failing.clone(), failed]), @"
        WEBHOOK                               STATE     ORG   TYPES                PENDING  URL
        7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d  enabled   -     all                  0        https://ops.example/nas-cron
        7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d  retrying  acme  dead_letter.created  4        https://ops.example/nas-cron
                                                              one_shot.stuck
        7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d  failed    acme  dead_letter.created  4        https://ops.example/nas-cron
                                                              one_shot.stuck
        ");
        insta::assert_snapshot!(facts(&failing, now), @"
        webhook         7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d
        url             https://ops.example/nas-cron
        description     -
        org             acme
        types           dead_letter.created, one_shot.stuck
        state           retrying
        last attempt    status 500: no [2J
        pending events  4
        created         3 d ago
        failing since   2 min ago
        next attempt    in 5 min
        ");
        insta::assert_snapshot!(facts(&webhook(now), now), @"
        webhook         7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d
        url             https://ops.example/nas-cron
        description     -
        org             -
        types           all
        state           enabled
        last attempt    accepted, status 204
        pending events  0
        created         3 d ago
        ");
        insta::assert_snapshot!(table(&[]), @"No webhooks. `nas-cron webhooks add` adds one.");
    }
}
