//! The load to come: one-shots that come due within an hour.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use nas_cron_protocol::admin_api::{DueMinute, UpcomingLoad};

use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::Session;
use crate::http::ops::view::{CommandLine, Html, due_link, plots, shown, when};

/// Number of minutes in the list of the busiest.
const BUSIEST: usize = 10;

#[derive(Template)]
#[template(path = "load.html")]
struct LoadPage {
    frame: Frame,
    here: String,
    /// Nothing for an operator who is limited to an org.
    load: Option<Load>,
}

struct Load {
    at: Html,
    plot: Html,
    estimated: bool,
    busiest: Vec<Busy>,
    command: Html,
}

/// A minute with many one-shots.
struct Busy {
    minute: Html,
    due: String,
    path: String,
    command: Html,
}

/// Shows the page.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    session.params(&[])?;
    let overview = ops.overview(&session).await?;
    let now = session.now;
    let load = overview.service.as_ref().map(|service| Load {
        at: when(overview.at, now),
        plot: plots::load("due", "One-shots due per minute, next hour", &service.load, due_link),
        estimated: service.load.estimated,
        busiest: busiest(&service.load).iter().map(|minute| busy(minute, now)).collect(),
        command: shown(&CommandLine::new("status")),
    });
    let page =
        LoadPage { frame: session.frame("Upcoming load").of(Section::Load), here: session.here(), load };
    Ok(rendered(&page))
}

/// Returns the minutes with the most one-shots, the busiest first.
fn busiest(load: &UpcomingLoad) -> Vec<DueMinute> {
    let mut minutes: Vec<_> = load.minutes.iter().copied().filter(|minute| minute.due > 0).collect();
    minutes.sort_by_key(|minute| (-minute.due, minute.minute));
    minutes.truncate(BUSIEST);
    minutes
}

fn busy(of: &DueMinute, now: DateTime<Utc>) -> Busy {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (from, before) = (time(of.minute), time(of.minute + TimeDelta::minutes(1)));
    let list = CommandLine::new("jobs list --parked=none").option("--next-attempt-from", &from);
    Busy {
        minute: when(of.minute, now),
        due: plots::number(of.due),
        path: due_link(of.minute),
        command: shown(&list.option("--next-attempt-before", &before)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busiest_minutes_come_first() {
        let at = |minute| DateTime::UNIX_EPOCH + TimeDelta::minutes(minute);
        let minute = |minute, due| DueMinute { minute: at(minute), due };
        let minutes = vec![minute(0, 3), minute(1, 0), minute(2, 9), minute(3, 3)];
        let found = busiest(&UpcomingLoad { minutes, estimated: false });
        assert_eq!(found, [minute(2, 9), minute(0, 3), minute(3, 3)]);
    }
}
