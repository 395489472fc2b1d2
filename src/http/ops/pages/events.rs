//! Events and the webhooks that receive them.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};

use super::webhook_view::{last_result, scope, shown_url, state, types};
use crate::domain::event::{Event, EventFilter, EventType};
use crate::domain::webhook::Webhook;
use crate::http::error::ErrorPage;
use crate::http::extract::refuse;
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::Session;
use crate::http::ops::view::{CommandLine, Html, id, link, shown, text, when, when_any, with_query};

/// Events of a page.
const PER_PAGE: u32 = 50;
/// Maximum length of an event's data, in characters.
const DATA: usize = 600;

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    webhooks: Vec<WebhookRow>,
    kind: String,
    kinds: &'static [&'static str],
    rows: Vec<EventRow>,
    next: Option<String>,
    commands: [Html; 2],
}

struct WebhookRow {
    url: Html,
    description: Html,
    scope: Html,
    types: String,
    badge: (Tone, String),
    pending: i64,
    last: Html,
    next: Html,
}

struct EventRow {
    at: Html,
    kind: String,
    org: Html,
    count: i64,
    data: Html,
}

/// Shows the webhooks, and a page of events.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&["type", "before"])?;
    let kind = params.text("type").filter(|kind| !kind.is_empty());
    let known: Option<EventType> =
        kind.map(|kind| kind.parse().map_err(|problem: String| refuse("type", problem))).transpose()?;
    let cursor =
        |text: &str| text.parse().map_err(|_| refuse("before", "must be the `next` of the previous page"));
    let before: Option<i64> = params.text("before").map(cursor).transpose()?;
    let org = session.actor.org_filter();
    let webhooks = ops.admin.webhooks.list(org).await?;
    let filter = EventFilter { kind: known, within: org.map(ToString::to_string), ..EventFilter::default() };
    let events = ops.admin.webhooks.events(&filter, before, PER_PAGE).await?;
    let next = events.next.map(|next| {
        let next = next.to_string();
        let kind = kind.map(|kind| ("type", kind));
        with_query("/ops/events", kind.into_iter().chain([("before", next.as_str())]))
    });
    let page = EventsPage {
        frame: session.frame("Events and webhooks").of(Section::Events),
        webhooks: webhooks.iter().map(|webhook| webhook_row(webhook, session.now)).collect(),
        kind: kind.unwrap_or_default().to_owned(),
        kinds: EventType::WORDS,
        rows: events.items.iter().map(|event| event_row(event, session.now)).collect(),
        next,
        commands: [
            shown(&CommandLine::new("webhooks list")),
            shown(
                &kind
                    .iter()
                    .fold(CommandLine::new("webhooks events"), |line, kind| line.option("--type", kind)),
            ),
        ],
    };
    Ok(rendered(&page))
}

fn webhook_row(of: &Webhook, now: DateTime<Utc>) -> WebhookRow {
    let name = of.webhook_id.to_string();
    WebhookRow {
        url: link(&with_query("/ops/webhook", [("webhook_id", name.as_str())]), &shown_url(of)),
        description: of.description.as_deref().map_or_else(Html::dash, text),
        scope: scope(of),
        types: types(of),
        badge: state(of),
        pending: of.pending,
        last: last_result(of),
        next: when_any(of.next_attempt_at, now),
    }
}

fn event_row(of: &Event, now: DateTime<Utc>) -> EventRow {
    let data = nas_cron_base::terminal::shortened(&of.data.to_string(), DATA);
    EventRow {
        at: when(of.occurred_at, now),
        kind: of.kind.clone(),
        org: of.org_id.as_deref().map_or_else(Html::dash, id),
        count: of.count,
        data: text(&data),
    }
}
