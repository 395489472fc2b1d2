//! `nas-cron webhooks test`, `deliveries`, `redeliver` and `events`.

use std::io::Write;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::{Args, value_parser};
use nas_cron_base::terminal::{self, counted, or_dash, printable, relative, shortened};
use nas_cron_protocol::OrgId;
use serde_json::json;
use uuid::Uuid;

use super::OneArgs;
use crate::cli::operator::Place;
use crate::domain::event::{Event, EventFilter, EventType};
use crate::domain::webhook::Delivery;
use crate::webhooks::Webhooks;

/// Maximum length of an error in a table.
const SHOWN_ERROR: usize = 60;

/// List the deliveries of a webhook with their attempts, the latest event first.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  nas-cron webhooks deliveries 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d --limit 5 --json"
)]
pub(super) struct DeliveriesArgs {
    /// Id of the webhook.
    webhook_id: Uuid,
    #[command(flatten)]
    page: PageArgs,
}

/// Deliver an event again, also one that the receiver has accepted.
///
/// The event keeps its id, so a receiver that has processed it may ignore it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  nas-cron webhooks redeliver 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d 01b2c3d4-0d5a-4f0a-9d1a-3f8f5f0c5e0d")]
pub(super) struct RedeliverArgs {
    /// Id of the webhook.
    pub(super) webhook_id: Uuid,
    /// Id of the event.
    pub(super) event_id: Uuid,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// List events, the latest first. Events are recorded while there is a webhook.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron webhooks events --type dead_letter.created --limit 5 --json")]
pub(super) struct EventsArgs {
    /// Only events for webhooks of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<EventType>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Clone, Debug, Args)]
struct PageArgs {
    /// Maximum number of lines.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Resume before this cursor: the last line of the previous page.
    #[arg(long, value_name = "CURSOR")]
    before: Option<i64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn test(args: &OneArgs, on: &Place<Webhooks>, out: &mut dyn Write) -> anyhow::Result<()> {
    let tested = on.test_webhook(args.webhook_id).await?;
    if args.json {
        terminal::json(out, &tested)?;
    } else if tested.accepted {
        let (status, took) = (or_dash(tested.status), tested.duration_ms);
        writeln!(out, "The receiver accepted event {} in {took} ms, status {status}.", tested.event_id)?;
    }
    if let Some(error) = tested.error {
        bail!("the receiver did not accept event {}: {}", tested.event_id, printable(&error));
    }
    Ok(())
}

pub(super) async fn redeliver(
    args: &RedeliverArgs,
    on: &Place<Webhooks>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let RedeliverArgs { webhook_id, event_id, json } = args;
    on.redeliver(*webhook_id, *event_id).await?;
    if *json {
        return terminal::json(out, &json!({ "webhook_id": webhook_id, "event_id": event_id }));
    }
    writeln!(out, "Event {event_id} waits for its delivery to webhook {webhook_id}.")?;
    Ok(())
}

pub(super) async fn list(
    args: &DeliveriesArgs,
    on: &Place<Webhooks>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let PageArgs { limit, before, json } = args.page;
    let page = on.deliveries(args.webhook_id, before, limit).await?;
    if json {
        return terminal::json(out, &page);
    }
    out.write_all(deliveries_table(&page.deliveries, on.now()?).as_bytes())?;
    more(page.next, out)
}

pub(super) async fn events(
    args: EventsArgs,
    on: &Place<Webhooks>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let PageArgs { limit, before, json } = args.page;
    let org_id = args.org.map(|org_id| org_id.as_str().to_owned());
    let filter = EventFilter { org_id, kind: args.kind, within: None };
    let page = on.events(&filter, before, limit).await?;
    if json {
        return terminal::json(out, &page);
    }
    out.write_all(events_table(&page.events, on.now()?).as_bytes())?;
    more(page.next, out)
}

fn more(next: Option<String>, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(next) = next {
        writeln!(out, "More follow: --before {next}")?;
    }
    Ok(())
}

fn deliveries_table(deliveries: &[Delivery], now: DateTime<Utc>) -> String {
    if deliveries.is_empty() {
        return "No deliveries. `nas-cron webhooks test` sends a test event.\n".to_owned();
    }
    let mut table =
        terminal::table(&["EVENT", "TYPE", "COUNT", "STATE", "ATTEMPTS", "LAST ATTEMPT", "RESULT"]);
    for Delivery { event, state, attempts } in deliveries {
        let last = attempts.first();
        let result = last.map(|last| match (&last.error, last.status) {
            (Some(error), _) => shortened(&printable(error), SHOWN_ERROR),
            (None, status) => format!("status {}", or_dash(status)),
        });
        table.add_row([
            event.event_id.to_string(),
            event.kind.clone(),
            event.count.to_string(),
            state.to_string(),
            last.map_or(0, |last| last.attempt).to_string(),
            or_dash(last.map(|last| relative(now, last.started_at))),
            or_dash(result),
        ]);
    }
    terminal::text(table)
}

fn events_table(events: &[Event], now: DateTime<Utc>) -> String {
    if events.is_empty() {
        return "No events. They are recorded while there is a webhook.\n".to_owned();
    }
    let mut table = terminal::table(&["EVENT", "TYPE", "ORG", "OCCURRED", "REPORTS"]);
    for event in events {
        table.add_row([
            event.event_id.to_string(),
            event.kind.clone(),
            or_dash(event.org_id.as_deref()),
            relative(now, event.occurred_at),
            counted(event.count, "occurrence"),
        ]);
    }
    terminal::text(table)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::webhook::{DeliveryAttempt, DeliveryState};

    #[test]
    fn tables_match_their_snapshots() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let event = Event {
            event_id: Uuid::from_u128(0x01b2_c3d4_0d5a_4f0a_9d1a_3f8f_5f0c_5e0d),
            kind: "dead_letter.created".to_owned(),
            org_id: Some("acme".to_owned()),
            occurred_at: now - TimeDelta::minutes(7),
            count: 5000,
            data: json!({}),
        };
        let attempt = |attempt, status, error: Option<&str>| DeliveryAttempt {
            attempt,
            started_at: now - TimeDelta::minutes(1),
            duration_ms: 12,
            status,
            error: error.map(str::to_owned),
        };
        let delivery = |state, attempts| Delivery { event: event.clone(), state, attempts };
        let deliveries = [
            delivery(DeliveryState::Pending, vec![]),
            delivery(
                DeliveryState::Delivered,
                vec![attempt(2, Some(204), None), attempt(1, None, Some("x"))],
            ),
            delivery(DeliveryState::Refused, vec![attempt(9, Some(400), Some("status 400: bad\u{1b}[2J"))]),
        ];
        insta::assert_snapshot!(deliveries_table(&deliveries, now), @"
        EVENT                                 TYPE                 COUNT  STATE      ATTEMPTS  LAST ATTEMPT  RESULT
        01b2c3d4-0d5a-4f0a-9d1a-3f8f5f0c5e0d  dead_letter.created  5000   pending    0         -             -
        01b2c3d4-0d5a-4f0a-9d1a-3f8f5f0c5e0d  dead_letter.created  5000   delivered  2         1 min ago     status 204
        01b2c3d4-0d5a-4f0a-9d1a-3f8f5f0c5e0d  dead_letter.created  5000   refused    9         1 min ago     status 400: bad [2J
        ");
        insta::assert_snapshot!(events_table(&[event], now), @"
        EVENT                                 TYPE                 ORG   OCCURRED   REPORTS
        01b2c3d4-0d5a-4f0a-9d1a-3f8f5f0c5e0d  dead_letter.created  acme  7 min ago  5000 occurrences
        ");
        insta::assert_snapshot!(deliveries_table(&[], now), @"No deliveries. `nas-cron webhooks test` sends a test event.");
        insta::assert_snapshot!(events_table(&[], now), @"No events. They are recorded while there is a webhook.");
    }
}
