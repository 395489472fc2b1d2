//! One webhook: its state, its deliveries, and what can be done about them.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_protocol::InvalidField;
use uuid::Uuid;

use super::subject::Subject;
use super::webhook_view::{last_result, scope, shown_url, state, types};
use crate::domain::webhook::{Delivery, DeliveryState, Webhook, WebhookState};
use crate::http::error::ErrorPage;
use crate::http::extract::refuse;
use crate::http::ops::OpsState;
use crate::http::ops::actions::Action;
use crate::http::ops::actions::webhooks::ENABLED;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::Session;
use crate::http::ops::view::{
    CommandLine, Html, agents_words, shown, text, when, when_any, whole_id, with_query,
};

/// Deliveries of a page.
const PER_PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "webhook.html")]
struct WebhookPage {
    frame: Frame,
    subject: Subject,
    rows: Vec<Row>,
    /// True if a row may have a form.
    may_redeliver: bool,
    next: Option<String>,
    /// True if this is not the first page.
    is_later: bool,
}

struct Row {
    event: Html,
    occurred: Html,
    kind: String,
    count: i64,
    badge: (Tone, String),
    attempts: i32,
    last: Html,
    result: Html,
    redeliver: Option<Action>,
}

/// Shows a webhook, and a page of its deliveries.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&["webhook_id", "before"])?;
    let name = params.text("webhook_id").ok_or_else(|| InvalidField::new("webhook_id", "is missing"))?;
    let webhook_id =
        Uuid::try_parse(name).map_err(|_| refuse("webhook_id", "must be the ID of a webhook"))?;
    let before = params.text("before").map(str::parse).transpose();
    let before = before.map_err(|_| refuse("before", "must be the `next` of the previous page"))?;
    let (webhooks, org) = (&ops.admin.webhooks, session.actor.org_filter());
    let webhook = webhooks.find(webhook_id, org).await?;
    let deliveries = webhooks.deliveries(webhook_id, org, before, PER_PAGE).await?;
    let subject = Subject {
        kind: "Webhook",
        name: shown_url(&webhook),
        of: Html::joined([text(&format!("gets {} of ", types(&webhook))), scope(&webhook)]),
        here: None,
        question: "State",
        badges: vec![state(&webhook)],
        state: text(""),
        actions: actions(&session, &webhook),
        facts: ("Contact", facts(&webhook, session.now)),
        audit: with_query("/ops/audit", [("subject", format!("webhook_id={name}").as_str())]),
        command: shown(&CommandLine::new("webhooks deliveries").of([name])),
    };
    let page = WebhookPage {
        frame: session.frame("Webhook").of(Section::Events).below("Events and webhooks", "/ops/events"),
        subject,
        rows: deliveries.items.iter().map(|delivery| row(&session, &webhook, delivery)).collect(),
        is_later: before.is_some(),
        may_redeliver: session.may("redeliver_event") && webhook.state == WebhookState::Enabled,
        next: deliveries.next.map(|next| {
            with_query("/ops/webhook", [("webhook_id", name), ("before", next.to_string().as_str())])
        }),
    };
    Ok(rendered(&page))
}

fn facts(of: &Webhook, now: DateTime<Utc>) -> Vec<(&'static str, Html)> {
    let times = [
        ("Next attempt", of.next_attempt_at),
        ("Failing since", of.failing_since),
        ("Ended", of.ended_at),
        ("The previous secret signs until", of.old_secret_until),
        ("Created", Some(of.created_at)),
    ];
    let facts = [
        ("Purpose", of.description.as_deref().map_or_else(Html::dash, text)),
        ("Events that wait", text(&of.pending.to_string())),
        ("Latest attempt", last_result(of)),
        ("ID", whole_id(&of.webhook_id.to_string())),
    ];
    facts.into_iter().chain(times.into_iter().filter_map(|(name, at)| Some((name, when(at?, now))))).collect()
}

fn actions(session: &Session, of: &Webhook) -> Vec<Action> {
    let name = of.webhook_id.to_string();
    let offered = |operation, label, verb| {
        let action = Action::offered(
            session,
            operation,
            label,
            &CommandLine::new("webhooks").flag(verb).of([name.as_str()]),
        )?;
        Some(action.about("webhook_id", &*name))
    };
    let test = offered("test_webhook", "Send a test", "test");
    let switch = if of.state == WebhookState::Enabled {
        offered("update_webhook", "Disable", "disable").map(|action| {
            action.about(ENABLED, "false").warned("It does not get the events that come until it is enabled.")
        })
    } else {
        offered("update_webhook", "Enable", "enable").map(|action| action.about(ENABLED, "true"))
    };
    [test, switch].into_iter().flatten().collect()
}

fn row(session: &Session, webhook: &Webhook, of: &Delivery) -> Row {
    let tone = match of.state {
        DeliveryState::Pending if of.attempts.is_empty() => Tone::Busy,
        DeliveryState::Pending => Tone::Warning,
        DeliveryState::Delivered => Tone::Good,
        DeliveryState::Refused => Tone::Alarm,
    };
    let last = of.attempts.first();
    let result = match last.map(|last| (last.error.as_deref(), last.status)) {
        Some((Some(error), _)) => agents_words(error),
        Some((None, Some(status))) => text(&format!("status {status}")),
        Some((None, None)) | None => Html::dash(),
    };
    Row {
        event: whole_id(&of.event.event_id.to_string()),
        occurred: when(of.event.occurred_at, session.now),
        kind: of.event.kind.clone(),
        count: of.event.count,
        badge: (tone, of.state.to_string()),
        attempts: last.map_or(0, |last| last.attempt),
        last: when_any(last.map(|last| last.started_at), session.now),
        result,
        redeliver: redeliver(session, webhook, of),
    }
}

/// Returns the form that delivers an event again, unless it waits for its delivery anyway.
fn redeliver(session: &Session, webhook: &Webhook, of: &Delivery) -> Option<Action> {
    if webhook.state != WebhookState::Enabled || of.state == DeliveryState::Pending {
        return None;
    }
    let (webhook_id, event_id) = (webhook.webhook_id.to_string(), of.event.event_id.to_string());
    let line = CommandLine::new("webhooks redeliver").of([webhook_id.as_str(), event_id.as_str()]);
    let action = Action::offered(session, "redeliver_event", "Deliver again", &line)?;
    Some(action.about("webhook_id", webhook_id).about("event_id", event_id))
}
