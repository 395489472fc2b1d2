//! `nas-cron cron show`

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::{self, or_dash, printable, relative, shortened, span};
use nas_cron_protocol::agent_api::MAX_SHOWN_ATTEMPTS;
use nas_cron_protocol::error::ErrorWord;
use nas_cron_protocol::{JobId, date_time};

use super::list::{last, state};
use super::when::format_instant;
use super::{job_not_found, print_warnings};
use crate::cli::connection::Connection;
use crate::client::api::{EffectiveAuth, JobAttempt, JobStatus, ListedJob};

/// Show what became of a job: its state, what comes next, and its latest attempts.
///
/// Delivered and cancelled jobs are shown too, as long as the server keeps their history.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  nas-cron cron show report --attempts 50")]
pub(super) struct Show {
    /// ID of the job.
    job_id: JobId,
    /// Maximum number of attempts.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHOWN_ATTEMPTS)))]
    attempts: u32,
    /// Print JSON: the response of the server.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let job = match connection.client.job(self.job_id.as_str(), Some(self.attempts)).await {
            Ok(job) => job,
            Err(error) if error.word() == Some(ErrorWord::NotFound) => {
                return Ok(job_not_found(&self.job_id, &error.to_string()));
            }
            Err(error) => return Err(connection.explain(error)),
        };
        print_warnings(job.one_shot.as_ref().map_or(&[], |one_shot| &one_shot.warnings));
        if self.json {
            terminal::print_json(&job)?;
        } else {
            terminal::print(&in_full(&job, SystemClock.now()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn in_full(job: &JobStatus, now: DateTime<Utc>) -> String {
    let mut rows = vec![("job", job.job_id.clone())];
    let Some(one_shot) = &job.one_shot else {
        rows.push(("state", job.state.clone()));
        rows.extend(job.cancelled_at.as_deref().map(|at| ("cancelled", format_instant(now, at))));
        rows.push(("next", job.next.clone()));
        return format!("{}\n{}", terminal::text(terminal::facts(&rows)), attempts_table(&job.attempts, now));
    };
    rows.extend([("state", state(one_shot)), ("next", job.next.clone())]);
    rows.extend(facts(one_shot, now));
    format!("{}\n{}", terminal::text(terminal::facts(&rows)), attempts_table(&job.attempts, now))
}

fn facts(job: &ListedJob, now: DateTime<Utc>) -> [(&'static str, String); 9] {
    let effective = |effective: &EffectiveAuth| match effective.source.as_str() {
        "job" => effective.auth.to_string(),
        source => format!("{} (default of the {source})", effective.auth),
    };
    let own = || job.auth.as_ref().map(ToString::to_string);
    [
        ("due", format!("{} ({})", format_instant(now, &job.fire_at), job.fire_at)),
        ("callback", or_dash(job.agent_callback_url.as_deref())),
        ("auth profile", or_dash(job.effective_auth.as_ref().map(effective).or_else(own))),
        ("not after", or_dash(job.not_after.as_deref().map(|at| format_instant(now, at)))),
        ("attempts", or_dash(job.attempts)),
        ("next attempt", or_dash(job.next_attempt_at.as_deref().map(|at| format_instant(now, at)))),
        ("last error", or_dash(last(job))),
        ("dead since", or_dash(job.died_at.as_deref().map(|at| format_instant(now, at)))),
        ("schedule", job.schedule_id.clone()),
    ]
}

fn attempts_table(attempts: &[JobAttempt], now: DateTime<Utc>) -> String {
    if attempts.is_empty() {
        return "No attempt has ended.\n".to_owned();
    }
    let mut table =
        terminal::table(&["ATTEMPT", "STARTED", "TOOK", "OUTCOME", "STATUS", "ERROR", "SCHEDULE", "ID"]);
    for one in attempts {
        // Another server may send a form that does not parse here.
        let (started, ended) = (instant(&one.started_at), instant(&one.ended_at));
        table.add_row([
            one.attempt.to_string(),
            started.map_or_else(|| printable(&one.started_at), |at| relative(now, at)),
            or_dash(started.zip(ended).map(|(started, ended)| span(ended - started))),
            outcome(one),
            or_dash(one.http_status),
            or_dash(one.error.as_deref().map(|error| shortened(&printable(error), 48))),
            printable(&one.schedule_id),
            printable(&one.attempt_id),
        ]);
    }
    terminal::text(table)
}

fn instant(text: &str) -> Option<DateTime<Utc>> {
    date_time::parse(text).ok().map(|at| at.to_utc())
}

/// Formats the outcome, with the agent's status of a delivery if the server does not know it.
fn outcome(attempt: &JobAttempt) -> String {
    let outcome = printable(&attempt.outcome);
    match &attempt.answer {
        None => outcome,
        Some(answer) => format!("{outcome}, answered \"{}\"", shortened(&printable(answer), 32)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-06-18T12:00:35Z".parse().unwrap()
    }

    fn shown(job: Value) -> String {
        in_full(&serde_json::from_value(job).unwrap(), now())
    }

    #[test]
    fn show_prints_every_field() {
        insta::assert_snapshot!(shown(json!({
            "job_id": "sync\u{1b}[2J", "state": "waiting", "next": "on hold\u{1b}[2J",
            "one_shot": {
                "job_id": "sync", "fire_at": "2026-06-18T12:00:00Z", "schedule_id": "s2", "state": "waiting", "attempts": 3,
                "next_attempt_at": "2026-06-18T12:00:45Z", "effective_auth": {"auth": "claude:all", "source": "org"},
                "last_status": 503, "parked": "hold", "not_after": "2026-06-18T13:00:00Z",
            },
            "attempts": [
                {"attempt_id": "a3", "schedule_id": "s2", "fire_at": "2026-06-18T12:00:00Z", "attempt": 3,
                 "started_at": "2026-06-18T12:00:15Z", "ended_at": "2026-06-18T12:00:15.012Z", "outcome": "failed",
                 "http_status": 503, "error": "not\u{1b}[2J now"},
                {"attempt_id": "a2", "schedule_id": "s1", "fire_at": "2026-06-18T12:00:00Z", "attempt": 2,
                 "started_at": "soon", "ended_at": "later", "outcome": "delivered", "answer": "queued"},
            ],
        })), @r#"
        job           sync [2J
        state         waiting, parked: hold
        next          on hold [2J
        due           35 s ago, 12:00:00 +00:00 (2026-06-18T12:00:00Z)
        callback      -
        auth profile  claude:all (default of the org)
        not after     in 59 min 25 s, 13:00:00 +00:00
        attempts      3
        next attempt  in 10 s, 12:00:45 +00:00
        last error    status 503
        dead since    -
        schedule      s2

        ATTEMPT  STARTED   TOOK   OUTCOME                       STATUS  ERROR        SCHEDULE  ID
        3        20 s ago  12 ms  failed                        503     not [2J now  s2        a3
        2        soon      -      delivered, answered "queued"  -       -            s1        a2
        "#);
    }

    #[test]
    fn show_tells_why_a_job_is_dead() {
        insta::assert_snapshot!(shown(json!({
            "job_id": "gone", "state": "dead", "next": "no more attempts",
            "one_shot": {
                "job_id": "gone", "fire_at": "2026-06-14T12:00:00Z", "schedule_id": "s4", "state": "dead", "attempts": 30,
                "last_error": "connection refused", "died_at": "2026-06-17T12:00:00Z", "dead_reason": "expired",
                "not_after": "2026-06-17T12:00:00Z", "effective_auth": {"auth": false, "source": "instance"},
            },
            "attempts": [],
        })), @"
        job           gone
        state         dead, expired
        next          no more attempts
        due           4 d ago, 2026-06-14 12:00:00 +00:00 (2026-06-14T12:00:00Z)
        callback      -
        auth profile  none (default of the instance)
        not after     1 d ago, 2026-06-17 12:00:00 +00:00
        attempts      30
        next attempt  -
        last error    connection refused
        dead since    1 d ago, 2026-06-17 12:00:00 +00:00
        schedule      s4

        No attempt has ended.
        ");
    }

    #[test]
    fn job_without_a_one_shot_is_shown_by_its_state() {
        insta::assert_snapshot!(shown(json!({
            "job_id": "report", "state": "cancelled", "cancelled_at": "2026-06-18T11:30:35Z", "next": "nothing is armed",
            "attempts": [],
        })), @"
        job        report
        state      cancelled
        cancelled  30 min ago, 11:30:35 +00:00
        next       nothing is armed

        No attempt has ended.
        ");
    }
}
