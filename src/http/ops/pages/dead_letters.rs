//! Dead letters and stuck one-shots, grouped by their error.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_base::terminal::counted;
use nas_cron_protocol::OneShotState;

use crate::domain::dead_letters::DeadLetterGroup;
use crate::domain::job_filter::{JobFilter, MAX_ERROR_TEXT};
use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::Session;
use crate::http::ops::view::{CommandLine, Html, agents_words, link, shown, text, when, with_query};

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    frame: Frame,
    rows: Vec<Row>,
    more: bool,
    /// True if the operator may redrive.
    may: bool,
    all: String,
    command: Html,
}

struct Row {
    count: Html,
    agents: String,
    reason: String,
    error: Html,
    first: Html,
    last: Html,
    /// Path of the page that redrives them.
    redrive: String,
}

/// Shows the groups, the largest first.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    session.params(&[])?;
    let operations = ops.admin.operations.within(session.actor.org_filter());
    let found = operations.dead_letters().await?;
    let page = DeadLettersPage {
        frame: session.frame("Dead letters").of(Section::DeadLetters),
        rows: found.groups.iter().map(|group| row(group, session.now)).collect(),
        more: found.more,
        may: session.may("redrive_jobs"),
        all: redriving(&JobFilter { states: vec![OneShotState::Dead], ..JobFilter::default() }),
        command: shown(&CommandLine::new("jobs list --state dead,stuck")),
    };
    Ok(rendered(&page))
}

fn row(group: &DeadLetterGroup, now: DateTime<Utc>) -> Row {
    let filter = JobFilter {
        states: vec![group.state],
        error: group.error.as_deref().and_then(searched),
        ..JobFilter::default()
    };
    let pairs = filter.pairs();
    let list = with_query("/ops/jobs", pairs.iter().map(|(name, value)| (*name, value.as_str())));
    let status = group.status.map(|status| format!(", status {status}")).unwrap_or_default();
    let reason = match (group.state, group.expired) {
        (OneShotState::Stuck, _) => "stuck: the same key was armed again".to_owned(),
        (_, true) => format!("its latest start (not_after) passed{status}"),
        (_, false) => format!("the retry budget is spent{status}"),
    };
    Row {
        count: link(&list, &text(&group.count.to_string())),
        agents: counted(group.agents, "agent"),
        reason,
        error: group.error.as_deref().map_or_else(Html::dash, agents_words),
        first: when(group.first_at, now),
        last: when(group.last_at, now),
        redrive: redriving(&filter),
    }
}

/// Returns the part of an error by which its jobs are found: a filter has no control characters, and a limited length.
fn searched(error: &str) -> Option<String> {
    let mut found = String::new();
    for c in error.chars().take_while(|c| !c.is_control()) {
        if found.len() + c.len_utf8() > MAX_ERROR_TEXT {
            break;
        }
        found.push(c);
    }
    (!found.is_empty()).then_some(found)
}

/// Returns the page that redrives the jobs of a filter.
fn redriving(filter: &JobFilter) -> String {
    let pairs = filter.pairs();
    let conditions = pairs.iter().map(|(name, value)| (*name, value.as_str()));
    with_query("/ops/batch", [("operation", "redrive_jobs")].into_iter().chain(conditions))
}
