//! Dead letters and stuck one-shots, grouped by their error.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_protocol::OneShotState;

use crate::domain::dead_letters::DeadLetterGroup;
use crate::domain::job_filter::{JobFilter, LastStatus, error_text};
use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::Session;
use crate::http::ops::view::{CommandLine, Html, agents_words, link, plots, shown, text, when, with_query};

/// The list of all dead letters and stuck one-shots.
const LIST: &str = "/ops/jobs?state=dead%2Cstuck";

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    frame: Frame,
    rows: Vec<Row>,
    /// True if not all dead letters are counted.
    more: bool,
    /// True if there are smaller groups.
    more_groups: bool,
    /// The list of all dead letters and stuck one-shots.
    list: &'static str,
    /// True if the operator may redrive.
    may: bool,
    all: String,
    command: Html,
}

struct Row {
    /// Number of one-shots and of their agents, with the list that has both.
    count: Html,
    agents: Html,
    reason: String,
    error: Html,
    first: Html,
    last: Html,
    /// Path of the page that redrives them; `None` if no filter selects exactly them.
    redrive: Option<String>,
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
        rows: found.groups.iter().map(|group| row(group, found.more, session.now)).collect(),
        more: found.more,
        more_groups: found.more_groups,
        list: LIST,
        may: session.may("redrive_jobs"),
        all: redriving(&JobFilter { states: vec![OneShotState::Dead], ..JobFilter::default() }),
        command: shown(&CommandLine::new("jobs list --state dead,stuck")),
    };
    Ok(rendered(&page))
}

/// Returns the row of a group. `more` is true if it may have one-shots that are not counted.
fn row(group: &DeadLetterGroup, more: bool, now: DateTime<Utc>) -> Row {
    let filter = selecting(group);
    let list = filter.as_ref().map(|filter| {
        let pairs = filter.pairs();
        with_query("/ops/jobs", pairs.iter().map(|(name, value)| (*name, value.as_str())))
    });
    let status = group.status.map(|status| format!(", status {status}")).unwrap_or_default();
    let reason = match (group.state, group.expired) {
        (OneShotState::Stuck, _) => "stuck: the same key was armed again".to_owned(),
        (_, true) => format!("its latest start (not_after) passed{status}"),
        (_, false) => format!("the retry budget is spent{status}"),
    };
    let listed = |number: i64| {
        let number = text(&format!("{}{}", plots::number(number), if more { "+" } else { "" }));
        list.as_ref().map_or(number.clone(), |list| link(list, &number))
    };
    Row {
        count: listed(group.count),
        agents: listed(group.agents),
        reason,
        error: group.error.as_deref().map_or_else(Html::dash, agents_words),
        first: when(group.first_at, now),
        last: when(group.last_at, now),
        redrive: filter.as_ref().map(redriving),
    }
}

/// Returns the filter that selects exactly the one-shots of a group; `None` if there is none, because a filter has no control
/// characters.
fn selecting(group: &DeadLetterGroup) -> Option<JobFilter> {
    let error_group =
        group.error.as_deref().map(|error| error_text("error_group", error)).transpose().ok()?;
    Some(JobFilter {
        states: vec![group.state],
        expired: Some(group.expired),
        last_status: Some(group.status.map_or(LastStatus::None, LastStatus::Code)),
        no_error: error_group.is_none(),
        error_group,
        ..JobFilter::default()
    })
}

/// Returns the page that redrives the jobs of a filter.
fn redriving(filter: &JobFilter) -> String {
    let pairs = filter.pairs();
    let conditions = pairs.iter().map(|(name, value)| (*name, value.as_str()));
    with_query("/ops/batch", [("operation", "redrive_jobs")].into_iter().chain(conditions))
}
