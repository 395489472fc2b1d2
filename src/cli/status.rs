//! `nas-cron status`: what fires, what does not, and what needs attention.

use std::fmt::Write as _;
use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, counted, or_dash, printable, relative, span};
use nas_cron_protocol::admin_api::{
    AttentionCounts, BackendOverview, FireSpan, KeyOverview, Overview, Problem, Replica, ServiceOverview,
    Severity, UpcomingLoad,
};

use super::audited::Audited;
use super::operator::Operator;
use crate::audit::Act;
use crate::operations::overview::OverviewRules;

/// Show what fires, what does not, and what needs attention.
///
/// The command reads the database with the settings of the service, also while the service is down, or with --server the
/// admin API of a running service. Each problem has the words of `nas-cron doctor`, which also checks what can only be seen
/// from the machine of the service.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron status
  nas-cron status --json | jq -r '.problems[].fix'
  watch -n 5 nas-cron status --server https://cron.example")]
pub struct StatusArgs {
    /// Print JSON, as `GET /api/admin/overview` returns it.
    #[arg(long)]
    json: bool,
}

impl Audited for StatusArgs {
    fn act(&self) -> Option<Act> {
        None
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(
    args: StatusArgs,
    on: &Operator,
    rules: Option<OverviewRules>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let overview = on.overview(rules).await?;
    if args.json {
        return terminal::json(out, &overview);
    }
    out.write_all(text(&overview).as_bytes())?;
    Ok(())
}

/// Formats the overview: first what needs attention, then the state of the service.
fn text(overview: &Overview) -> String {
    let mut text = attention(overview.org_id.as_deref(), &overview.counts);
    if let Some(service) = &overview.service {
        text.push('\n');
        text.push_str(&state(service, overview.at));
    }
    text.push('\n');
    text.push_str(&problems(&overview.problems));
    text
}

fn attention(org_id: Option<&str>, counts: &AttentionCounts) -> String {
    let mut facts: Vec<_> = org_id.map(|org_id| ("org", org_id.to_owned())).into_iter().collect();
    facts.extend([
        ("overdue", counts.overdue.to_string()),
        ("dead letters", counts.dead.to_string()),
        ("stuck", counts.stuck.to_string()),
        ("dormant jobs", counts.dormant.to_string()),
        ("unreachable agents", counts.unreachable.to_string()),
        ("waiting for them", counts.waiting_for_agent.to_string()),
        ("holds", counts.holds.to_string()),
        ("held one-shots", counts.held.to_string()),
    ]);
    terminal::text(terminal::facts(&facts))
}

fn state(service: &ServiceOverview, now: DateTime<Utc>) -> String {
    let ServiceOverview { replicas, backends, keys, fires, load } = service;
    let mut facts = vec![("fires per minute", fires.per_minute.to_string())];
    facts.extend([("lateness, last hour", worst(&fires.hour)), ("lateness, last day", worst(&fires.day))]);
    facts.push(("due within an hour", due(load)));
    facts.extend(backend_facts(backends, now));
    facts.push(("signing keys", key_words(keys, now)));
    let mut text = terminal::text(terminal::facts(&facts));
    text.push('\n');
    text.push_str(&replica_table(replicas, now));
    text
}

/// Describes the span with the largest lateness.
fn worst(spans: &[FireSpan]) -> String {
    let late = spans.iter().filter_map(|span| Some((span.lateness_p50_ms?, span.lateness_p99_ms?)));
    match late.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((p50, p99)) => format!("at most p50 {}, p99 {}", milliseconds(p50), milliseconds(p99)),
        None => "no fires".to_owned(),
    }
}

fn milliseconds(number: f64) -> String {
    if number < 1e3 { format!("{number:.1} ms") } else { format!("{:.1} s", number / 1e3) }
}

fn due(load: &UpcomingLoad) -> String {
    let (all, most) =
        load.minutes.iter().fold((0, 0), |(all, most), minute| (all + minute.due, most.max(minute.due)));
    let about = if load.estimated { "about " } else { "" };
    format!("{about}{}, at most {about}{most} per minute", counted(all, "one-shot"))
}

fn backend_facts(backends: &BackendOverview, now: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let BackendOverview { active, switched_at, missed_last_hour, missed_last_day, missed, outbox, .. } =
        backends;
    let mut facts = vec![("backend", format!("{active}, since {}", relative(now, *switched_at)))];
    if *missed_last_day > 0 {
        facts.push(("missed wake-ups", format!("{missed_last_hour} in an hour, {missed_last_day} in a day")));
    }
    facts.extend(missed.iter().map(|one| {
        let latest = relative(now, one.latest_at);
        ("missed so far", format!("{}: {}, the latest {latest}", one.backend, one.missed))
    }));
    facts.extend(
        outbox
            .iter()
            .map(|one| ("outbox", format!("{}: {} pending, {} late", one.backend, one.pending, one.late))),
    );
    facts
}

fn key_words(keys: &KeyOverview, now: DateTime<Utc>) -> String {
    let active = keys.published.iter().find(|key| key.state == "active");
    let mut words = active.map_or_else(|| "none is active".to_owned(), |key| format!("{} signs", key.kid));
    for step in &keys.upcoming {
        let when = step.at.filter(|at| *at > now).map_or_else(|| "now".to_owned(), |at| relative(now, at));
        let _ = write!(words, "; {when}: {}", step.step);
    }
    if keys.by_hand {
        words.push_str("; rotation is by hand");
    }
    words
}

fn replica_table(replicas: &[Replica], now: DateTime<Utc>) -> String {
    if replicas.is_empty() {
        return "No replica is registered.\n".to_owned();
    }
    let mut table = terminal::table(&["REPLICA", "HOST", "VERSION", "STARTED", "SEEN", "CLOCK OFFSET"]);
    for replica in replicas {
        let seen = relative(now, replica.seen_at);
        table.add_row([
            replica.replica_id.to_string(),
            printable(&replica.host_name),
            replica.version.clone(),
            relative(now, replica.started_at),
            if replica.running { seen } else { format!("{seen} (silent)") },
            or_dash(replica.clock_offset_ms.map(offset)),
        ]);
    }
    terminal::text(table)
}

fn offset(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "+" };
    format!("{sign}{}", span(TimeDelta::milliseconds(milliseconds)))
}

fn problems(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "No problems.\n".to_owned();
    }
    let mut table = terminal::table(&["STATUS", "CHECK", "FOUND"]);
    for Problem { check, status, found, fix } in problems {
        let status = match status {
            Severity::Warning => "warning",
            Severity::Wrong => "wrong",
        };
        let mut lines: Vec<_> = found.lines().map(printable).collect();
        lines.push(format!("fix: {}", printable(fix)));
        table.add_row([status, check, &lines.join("\n")]);
    }
    terminal::text(table)
}
