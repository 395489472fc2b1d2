//! The audit log: who changed what.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_protocol::InstanceId;

use crate::audit::{AuditFilter, AuditLine, AuditOutcome, subject};
use crate::http::admin::access::OPERATIONS;
use crate::http::error::{ApiError, ErrorPage};
use crate::http::extract::{QueryParams, refuse};
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::Session;
use crate::http::ops::view::{CommandLine, Html, id, link, shown, text, when, with_query};

/// Lines of a page.
const PER_PAGE: u32 = 100;
/// Conditions of the list.
const CONDITIONS: [(&str, &str); 4] =
    [("actor", "--actor"), ("action", "--action"), ("subject", "--subject"), ("instance_id", "--instance")];

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    actor: String,
    action: String,
    subject: String,
    agent: String,
    actions: Vec<&'static str>,
    /// Actors that the field suggests: those of the page.
    actors: BTreeSet<String>,
    rows: Vec<Row>,
    next: Option<String>,
    is_filtered: bool,
    /// True if this is not the first page.
    is_later: bool,
    command: Html,
}

struct Row {
    at: Html,
    actor: Html,
    origin: Html,
    action: Html,
    subject: Vec<(String, Html)>,
    tone: Tone,
    outcome: String,
    detail: Option<Html>,
}

/// Shows a page of lines, latest first.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&["actor", "action", "subject", "instance_id", "before"])?;
    let filter = AuditFilter {
        actor: condition(&params, "actor")?,
        action: condition(&params, "action")?,
        subject: condition(&params, "subject")?.as_deref().map(about).transpose()?,
        instance_id: condition(&params, "instance_id")?.map(InstanceId::new).transpose()?,
        within: session.actor.org.clone(),
        ..AuditFilter::default()
    };
    let cursor =
        |text: &str| text.parse().map_err(|_| refuse("before", "must be the `next` of the previous page"));
    let before: Option<i64> = params.text("before").map(cursor).transpose()?;
    let page = ops.admin.audit.list(&filter, before, PER_PAGE).await?;
    let given: Vec<_> = CONDITIONS
        .iter()
        .filter_map(|(name, option)| {
            Some((*name, *option, params.text(name).filter(|text| !text.is_empty())?))
        })
        .collect();
    let list = CommandLine::new("audit list");
    let line = given.iter().fold(list, |line, (_, option, value)| line.option(option, value));
    let kept = given.iter().map(|(name, _, value)| (*name, *value));
    let text_of = |name| params.text(name).unwrap_or_default().to_owned();
    let shown = AuditPage {
        frame: session.frame("Audit log").of(Section::Audit),
        actor: text_of("actor"),
        action: text_of("action"),
        subject: text_of("subject"),
        agent: text_of("instance_id"),
        actions: OPERATIONS.iter().map(|row| row.id).filter(|id| !is_reading(id)).collect(),
        actors: page.items.iter().map(|line| line.actor.clone()).collect(),
        rows: page.items.iter().map(|line| row(line, session.now)).collect(),
        next: page.next.as_deref().map(|next| with_query("/ops/audit", kept.chain([("before", next)]))),
        is_filtered: !given.is_empty(),
        is_later: before.is_some(),
        command: shown(&line),
    };
    Ok(rendered(&shown))
}

fn is_reading(operation: &str) -> bool {
    ["list_", "get_", "explain_", "count_"].iter().any(|verb| operation.starts_with(verb))
}

/// Reads a condition. An empty field of the form is none.
fn condition(params: &QueryParams, name: &str) -> Result<Option<String>, ApiError> {
    match params.text(name) {
        Some(text) if text.chars().any(char::is_control) => {
            Err(refuse(name, "must not contain control characters"))
        }
        text => Ok(text.filter(|text| !text.is_empty()).map(str::to_owned)),
    }
}

fn about(text: &str) -> Result<String, ApiError> {
    subject(text).map_err(|problem| refuse("subject", problem))
}

fn row(line: &AuditLine, now: DateTime<Utc>) -> Row {
    let tone = match line.outcome {
        AuditOutcome::Done => Tone::Calm,
        AuditOutcome::Unknown => Tone::Busy,
        AuditOutcome::Refused => Tone::Warning,
        AuditOutcome::Failed => Tone::Alarm,
    };
    let subject = line.subject.iter().map(|(name, value)| {
        // May be a list, which no single entry has.
        if name == "job" {
            return (name.clone(), id(value));
        }
        let about = with_query("/ops/audit", [("subject", format!("{name}={value}").as_str())]);
        (name.clone(), link(&about, &id(value)))
    });
    Row {
        at: when(line.at, now),
        actor: link(&with_query("/ops/audit", [("actor", line.actor.as_str())]), &text(&line.actor)),
        origin: line.origin.as_deref().map_or_else(Html::dash, text),
        action: text(&line.action),
        subject: subject.collect(),
        tone,
        outcome: line.outcome.to_string(),
        detail: line.detail.as_deref().map(text),
    }
}
