//! The holds in force, and the forms that begin and end them.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_base::terminal::counted;
use nas_cron_protocol::admin_api::{HoldScope, StandingHold};

use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::actions::Action;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::Session;
use crate::http::ops::view::{CommandLine, Html, agent, id, job, link, shown, text, when, with_query};

#[derive(Template)]
#[template(path = "holds.html")]
struct HoldsPage {
    frame: Frame,
    rows: Vec<Row>,
    /// True if there are more holds than rows.
    more: bool,
    /// True if a row has a form.
    may: bool,
    /// Forms that begin a hold.
    begin: Vec<Action>,
    command: Html,
}

struct Row {
    scope: Html,
    since: Html,
    reason: Html,
    covers: Html,
    release: Option<Action>,
}

/// Shows the holds.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    session.params(&[])?;
    let operations = ops.admin.operations.within(session.actor.org_filter());
    let list = operations.holds().await?;
    let rows: Vec<_> = list.holds.iter().map(|hold| row(&session, hold, session.now)).collect();
    let page = HoldsPage {
        frame: session.frame("Holds").of(Section::Holds),
        may: rows.iter().any(|row| row.release.is_some()),
        rows,
        more: list.more,
        begin: begin(&session),
        command: shown(&CommandLine::new("hold list")),
    };
    Ok(rendered(&page))
}

fn row(session: &Session, of: &StandingHold, now: DateTime<Utc>) -> Row {
    let hold = &of.hold;
    let scope_id = hold.scope_id.as_str();
    let scope = match (hold.scope, hold.job_id.as_deref()) {
        (HoldScope::All, _) => text("the whole service"),
        (HoldScope::Org, _) => Html::joined([
            text("org "),
            link(&with_query("/ops/agents", [("org_id", scope_id)]), &id(scope_id)),
        ]),
        (_, Some(name)) => Html::joined([
            text("job "),
            link(&job(scope_id, name), &id(name)),
            text(" of agent "),
            link(&agent(scope_id), &id(scope_id)),
        ]),
        (_, None) => Html::joined([text("agent "), link(&agent(scope_id), &id(scope_id))]),
    };
    Row {
        scope,
        since: when(hold.created_at, now),
        reason: hold.reason.as_deref().map_or_else(Html::dash, text),
        covers: covered(of),
        release: release(session, of),
    }
}

/// Describes what a hold covers. Each number leads to its list.
fn covered(of: &StandingHold) -> Html {
    let (covers, scope_id) = (of.covers, of.hold.scope_id.as_str());
    let scope = match (of.hold.scope, of.hold.job_id.as_deref()) {
        (HoldScope::All, _) => vec![],
        (HoldScope::Org, _) => vec![("org_id", scope_id)],
        (_, Some(name)) => vec![("instance_id", scope_id), ("job_id", name)],
        (_, None) => vec![("instance_id", scope_id)],
    };
    let jobs = |condition| with_query("/ops/jobs", scope.iter().copied().chain([condition]));
    let agents = match of.hold.scope {
        HoldScope::All | HoldScope::Org => with_query("/ops/agents", scope.iter().copied()),
        _ => agent(scope_id),
    };
    Html::joined([
        text(if covers.more { "more than " } else { "" }),
        link(&jobs(("state", "armed,leased,firing,waiting")), &text(&counted(covers.armed, "one-shot"))),
        text(" of "),
        link(&agents, &text(&counted(covers.agents, "agent"))),
        text("; "),
        link(&jobs(("parked", "hold")), &text(&format!("{} parked", covers.parked))),
    ])
}

fn release(session: &Session, of: &StandingHold) -> Option<Action> {
    let scope_id = of.hold.scope_id.as_str();
    let offered = |operation, line: &CommandLine| Action::offered(session, operation, "End the hold", line);
    let line = CommandLine::new("release");
    match (of.hold.scope, of.hold.job_id.as_deref()) {
        (HoldScope::All, _) => offered("release_service", &line.flag("--all")),
        (HoldScope::Org, _) => offered("release_org", &line.option("--org", scope_id))
            .map(|action| action.about("org_id", scope_id)),
        (_, Some(name)) => offered("release_job", &line.option("--instance", scope_id).option("--job", name))
            .map(|action| action.about("instance_id", scope_id).about("job_id", name)),
        (_, None) => offered("release_instance", &line.option("--instance", scope_id))
            .map(|action| action.about("instance_id", scope_id)),
    }
}

/// Returns the forms that begin a hold of a scope that has no page of its own.
fn begin(session: &Session) -> Vec<Action> {
    let service = Action::offered(
        session,
        "hold_service",
        "Hold the whole service",
        &CommandLine::new("hold --all --reason REASON"),
    );
    let org = Action::offered(
        session,
        "hold_org",
        "Hold an org",
        &CommandLine::new("hold --org ORG --reason REASON"),
    );
    let org = org.map(|action| {
        action.with_input("org_id", "Org", session.actor.org.as_ref().map(ToString::to_string))
    });
    [service, org].into_iter().flatten().map(Action::with_reason).collect()
}
