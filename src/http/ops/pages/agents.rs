//! The list of agents, with a search.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::terminal::span;
use nas_cron_protocol::{InvalidField, OrgId};

use super::agent_view::badges;
use crate::domain::agent_search::AgentSearch;
use crate::domain::quota::DefaultQuotas;
use crate::domain::registration::{Agent, AgentFilter};
use crate::http::error::{ApiError, ErrorPage};
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::Session;
use crate::http::ops::view::{
    CommandLine, Html, agent, id, lasting, link, plots, scheduled, shown, text, when, when_any, with_query,
};

/// Agents of a page.
const PER_PAGE: u32 = 100;
/// Orgs that the field for an org suggests.
const SUGGESTED_ORGS: u32 = 50;

#[derive(Template)]
#[template(path = "agents.html")]
#[expect(clippy::struct_excessive_bools, reason = "each is a box of the form or a sentence of the page")]
struct AgentsPage {
    frame: Frame,
    search: String,
    org: String,
    disabled: bool,
    unreachable: bool,
    is_filtered: bool,
    /// True if this is not the first page.
    is_later: bool,
    /// True if the search does not list all callbacks that match.
    more_callbacks: bool,
    orgs: Vec<String>,
    rows: Vec<Row>,
    next: Option<String>,
    command: Html,
}

struct Row {
    agent: Html,
    org: Html,
    badges: Vec<(Tone, String)>,
    jobs: Html,
    /// Its quota of scheduled jobs.
    quota: String,
    /// The last contact, and what delays its fires: an outage, its `Retry-After`, or its slow clock.
    contact: Vec<Html>,
    dead: Html,
    next: Html,
    callback: Html,
}

/// Shows a page of agents.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&["search", "org_id", "disabled", "unreachable", "after"])?;
    let given = |name: &str| params.text(name).map(str::trim).filter(|text| !text.is_empty());
    let (search, org, after) = (given("search"), given("org_id"), given("after"));
    let disabled = params.flag("disabled")?.unwrap_or(false);
    let unreachable = params.flag("unreachable")?.unwrap_or(false);
    let filter = AgentFilter {
        org_id: org.map(OrgId::new).transpose()?,
        enabled: disabled.then_some(false),
        search: search.map(AgentSearch::new).transpose()?,
        unreachable,
        ..AgentFilter::default()
    };
    if after.is_some_and(|after| after.chars().any(char::is_control)) {
        return Err(
            ApiError::Field(InvalidField::new("after", "must be the `next` of the previous page")).into()
        );
    }
    let operations = ops.admin.operations.within(session.actor.org_filter());
    let page = operations.agents(&filter, PER_PAGE, after).await?;
    let orgs = operations.orgs(SUGGESTED_ORGS, None).await?.orgs;
    let mut kept: Vec<_> = [("search", search), ("org_id", org)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let flags = [("disabled", disabled), ("unreachable", unreachable)];
    kept.extend(flags.iter().filter(|(_, given)| *given).map(|(name, _)| (*name, "true")));
    let options = [("--org", org), ("--search", search)];
    let texts = options.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let list = texts.fold(CommandLine::new("agents list"), |list, (name, value)| list.option(name, value));
    let set = [("--disabled", disabled), ("--unreachable", unreachable)];
    let list = set.iter().filter(|(_, given)| *given).fold(list, |list, (name, _)| list.flag(name));
    let quotas = operations.default_quotas();
    let shown_page = AgentsPage {
        frame: session.frame("Agents").of(Section::Agents),
        search: search.unwrap_or_default().to_owned(),
        org: org.unwrap_or_default().to_owned(),
        disabled,
        unreachable,
        is_filtered: !kept.is_empty(),
        is_later: after.is_some(),
        more_callbacks: page.more_callbacks,
        orgs: orgs.into_iter().map(|org| org.org_id).collect(),
        rows: page.agents.iter().map(|agent| row(agent, quotas, session.now)).collect(),
        next: page
            .next
            .as_deref()
            .map(|next| with_query("/ops/agents", kept.iter().copied().chain([("after", next)]))),
        command: shown(&list),
    };
    Ok(rendered(&shown_page))
}

fn contact(of: &Agent, now: DateTime<Utc>) -> Vec<Html> {
    let at = |words, at| Html::joined([text(words), when(at, now)]);
    let outage = of.unreachable_since.map(|since| Html::joined([text("unreachable "), lasting(since, now)]));
    let busy = of.busy_until.map(|until| at("asked to wait, tried again ", until));
    let skew = of
        .skew_guard_ms
        .map(|ms| format!("clock is slow: fires {} later", span(TimeDelta::milliseconds(ms.into()))));
    let last = of.last_contact_at.map(|last| at("last contact ", last));
    outage.into_iter().chain(busy).chain(skew.as_deref().map(text)).chain(last).collect()
}

fn row(of: &Agent, quotas: DefaultQuotas, now: DateTime<Utc>) -> Row {
    let instance = of.instance_id.as_str();
    let dead = with_query("/ops/jobs", [("instance_id", instance), ("state", "dead,stuck")]);
    let number = |count: i64, path: &str| match count {
        0 => text("0"),
        count => link(path, &text(&count.to_string())),
    };
    Row {
        agent: link(&agent(instance), &id(instance)),
        org: id(&of.org_id),
        badges: badges(of, of.quota(quotas)),
        jobs: number(of.armed, &scheduled(instance)),
        quota: plots::number(of.quota(quotas)),
        contact: contact(of, now),
        dead: number(of.dead, &dead),
        next: when_any(of.next_attempt_at, now),
        callback: of.callback_url.as_deref().map_or_else(Html::dash, id),
    }
}
