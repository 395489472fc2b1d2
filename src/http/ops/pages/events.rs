//! Events and the webhooks that receive them.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_base::terminal::shortened;
use serde_json::Value;

use super::webhook_view::{last_result, scope, shown_url, state, types};
use crate::domain::event::{Event, EventFilter, EventType};
use crate::domain::webhook::Webhook;
use crate::http::error::ErrorPage;
use crate::http::extract::refuse;
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::Session;
use crate::http::ops::view::{
    CommandLine, Html, agent, id, job, link, shown, text, when, when_any, with_query,
};

/// Events of a page.
const PER_PAGE: u32 = 50;
/// Facts of an event that are shown, of those in its data.
const FACTS: usize = 5;
/// Maximum length of a value in a fact, in characters.
const VALUE: usize = 80;

/// Fields of a fact that are not in its text: its time and org are the event's own.
const SUBJECT: [&str; 4] = ["at", "instance_id", "job_id", "org_id"];

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    webhooks: Vec<WebhookRow>,
    /// True if there are more webhooks than rows.
    more_webhooks: bool,
    kind: String,
    kinds: &'static [&'static str],
    /// True if this is not the first page.
    is_later: bool,
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
    pending: Html,
    last: Html,
    next: Html,
}

struct EventRow {
    at: Html,
    kind: String,
    org: Html,
    count: i64,
    facts: Vec<Html>,
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
    let (webhooks, more_webhooks) = ops.admin.webhooks.list(org).await?;
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
        more_webhooks,
        kind: kind.unwrap_or_default().to_owned(),
        kinds: EventType::WORDS,
        is_later: before.is_some(),
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
    let page = with_query("/ops/webhook", [("webhook_id", of.webhook_id.to_string().as_str())]);
    WebhookRow {
        url: link(&page, &shown_url(of)),
        description: of.description.as_deref().map_or_else(Html::dash, text),
        scope: scope(of),
        types: types(of),
        badge: state(of),
        pending: link(&page, &text(&of.pending.to_string())),
        last: last_result(of),
        next: when_any(of.next_attempt_at, now),
    }
}

fn event_row(of: &Event, now: DateTime<Utc>) -> EventRow {
    EventRow {
        at: when(of.occurred_at, now),
        kind: of.kind.clone(),
        org: of.org_id.as_deref().map_or_else(Html::dash, id),
        count: of.count,
        facts: facts(of),
    }
}

/// The first facts of an event, and the number of the others.
fn facts(of: &Event) -> Vec<Html> {
    let items = of.data["items"].as_array().into_iter().flatten();
    let mut facts: Vec<_> = items.take(FACTS).map(fact).collect();
    let others = of.count - i64::try_from(facts.len()).unwrap_or(i64::MAX);
    if facts.is_empty() {
        // A test, or a fact about the service.
        facts.push(Html::dash());
    } else if others > 0 {
        facts.push(text(&format!("and {others} more")));
    }
    facts
}

/// One fact: a link to its job or agent, and the rest of its data.
fn fact(item: &Value) -> Html {
    let subject = match (item["instance_id"].as_str(), item["job_id"].as_str()) {
        (Some(instance_id), Some(job_id)) => {
            link(&job(instance_id, job_id), &Html::joined([id(job_id), text(" of "), id(instance_id)]))
        }
        (Some(instance_id), None) => link(&agent(instance_id), &id(instance_id)),
        (None, _) => text(""),
    };
    let rest = item.as_object().into_iter().flatten().filter(|(name, _)| !SUBJECT.contains(&name.as_str()));
    let values = rest.map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name} {}", shortened(&value, VALUE))
    });
    let values = values.collect::<Vec<_>>().join(", ");
    Html::joined([subject, text(" "), text(&values)])
}
