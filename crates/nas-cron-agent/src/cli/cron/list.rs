//! `nas-cron cron list`

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::{self, or_dash, printable, shortened};

use super::print_warnings;
use super::when::format_instant;
use crate::cli::connection::Connection;
use crate::client::api::{EffectiveAuth, ListedJob, Listing, Warning};

/// List this agent's one-shots: the armed ones, soonest first, then the dead ones.
///
/// Delivered one-shots are not listed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron cron list
  nas-cron cron list --json | jq -r '.armed[].job_id'")]
pub(super) struct List {
    /// Print JSON: {"armed": […], "dead": […]}.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let listing = connection.client.list().await.map_err(|error| connection.explain(error))?;
        print_warnings(&all_warnings(&listing));
        if self.json {
            terminal::print_json(&listing)?;
        } else {
            terminal::print(&in_table(&listing, SystemClock.now()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns each warning once: many jobs may share an unknown auth profile.
fn all_warnings(listing: &Listing) -> Vec<Warning> {
    let mut all: Vec<Warning> = Vec::new();
    for warning in listing.armed.iter().chain(&listing.dead).flat_map(|job| &job.warnings) {
        if !all.contains(warning) {
            all.push(warning.clone());
        }
    }
    all
}

fn in_table(listing: &Listing, now: DateTime<Utc>) -> String {
    let mut table = terminal::table(&["JOB", "STATE", "DUE", "ATTEMPTS", "AUTH", "LAST ERROR"]);
    for job in listing.armed.iter().chain(&listing.dead) {
        table.add_row([
            printable(&job.job_id),
            state(job),
            format_instant(now, &job.fire_at),
            or_dash(job.attempts),
            auth(job),
            or_dash(last(job).map(|text| shortened(&text, 60))),
        ]);
    }
    if listing.armed.is_empty() && listing.dead.is_empty() {
        return "No one-shots are armed. `nas-cron cron add` arms one.\n".to_owned();
    }
    terminal::text(table)
}

pub(super) fn state(job: &ListedJob) -> String {
    let state = or_dash(job.state.as_deref().map(printable));
    match (&job.parked, job.dead_reason.as_deref()) {
        (Some(parked), _) => format!("{state}, parked: {}", printable(parked)),
        (None, Some("expired")) => format!("{state}, expired"),
        (None, _) => state,
    }
}

/// The auth profile of the next fire, with its source if it is a default.
fn auth(job: &ListedJob) -> String {
    let unknown = job.warnings.iter().filter(|warning| warning.code == "auth_profile_unknown").count();
    let unknown = match unknown {
        0 => "",
        unknown if job.auth.as_ref().is_some_and(|auth| unknown < auth.names()) => " (some unknown)",
        _ => " (unknown)",
    };
    match (&job.effective_auth, &job.auth) {
        (Some(effective), _) if effective.source != "job" => {
            let (auth, source) = (printable(&effective.auth.to_string()), printable(&effective.source));
            format!("{auth} ({source} default){unknown}")
        }
        (Some(EffectiveAuth { auth, .. }), _) | (None, Some(auth)) => {
            format!("{}{unknown}", printable(&auth.to_string()))
        }
        (None, None) => "-".to_owned(),
    }
}

pub(super) fn last(job: &ListedJob) -> Option<String> {
    match (&job.last_error, job.last_status) {
        (Some(error), _) => Some(printable(error)),
        (None, Some(status)) => {
            let outcome =
                job.last_outcome.as_deref().filter(|outcome| *outcome != "delivered").map(printable);
            Some(outcome.unwrap_or_else(|| format!("status {status}")))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listing() -> Listing {
        serde_json::from_value(json!({
            "armed": [
                {"job_id": "report", "fire_at": "2026-06-18T14:02:05+02:00", "schedule_id": "s1", "state": "armed", "attempts": 0,
                 "agent_callback_url": "https://a.example", "auth": "claude:work", "effective_auth": {"auth": "claude:work", "source": "job"},
                 "warnings": [{"code": "auth_profile_unknown", "message": "claude:work is not registered"}]},
                {"job_id": "sync\u{1b}[2J", "fire_at": "2026-06-18T12:00:00Z", "schedule_id": "s2", "state": "waiting", "attempts": 3,
                 "next_attempt_at": "2026-06-18T12:00:45Z", "effective_auth": {"auth": "claude:all", "source": "org"},
                 "last_status": 503, "parked": "hold"},
                {"job_id": "old-server", "fire_at": "2026-06-18T12:05:00Z", "schedule_id": "s3"},
            ],
            "dead": [
                {"job_id": "gone", "fire_at": "2026-06-14T12:00:00Z", "schedule_id": "s4", "state": "dead", "attempts": 30,
                 "last_error": "connection refused", "died_at": "2026-06-17T12:00:00Z", "dead_reason": "expired",
                 "not_after": "2026-06-17T12:00:00Z", "effective_auth": {"auth": false, "source": "instance"}},
            ],
        }))
        .unwrap()
    }

    fn now() -> DateTime<Utc> {
        "2026-06-18T12:00:35Z".parse().unwrap()
    }

    #[test]
    fn listing_prints_a_table() {
        insta::assert_snapshot!(in_table(&listing(), now()), @"
        JOB         STATE                  DUE                                  ATTEMPTS  AUTH                      LAST ERROR
        report      armed                  in 1 min 30 s, 14:02:05 +02:00       0         claude:work (unknown)     -
        sync [2J    waiting, parked: hold  35 s ago, 12:00:00 +00:00            3         claude:all (org default)  status 503
        old-server  -                      in 4 min 25 s, 12:05:00 +00:00       -         -                         -
        gone        dead, expired          4 d ago, 2026-06-14 12:00:00 +00:00  30        none (instance default)   connection refused
        ");
        insta::assert_snapshot!(in_table(&Listing::default(), now()), @"No one-shots are armed. `nas-cron cron add` arms one.");
    }

    #[test]
    fn warning_shared_by_jobs_is_printed_once() {
        let mut listing = listing();
        listing.dead[0].warnings = listing.armed[0].warnings.clone();
        assert_eq!(all_warnings(&listing).len(), 1);
    }
}
