//! `nas-cron jobs show`.

use std::io::Write;

use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, or_dash, printable, relative, shortened, span};
use nas_cron_protocol::admin_api::{Attempt, JobDetails};
use nas_cron_protocol::{InstanceId, JobId};

use super::shown;
use crate::cli::operator::Operator;

/// Show the current one-shot of a job and its latest attempts.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron jobs show agent-1 3f2a9c01d4e5 --attempts 50")]
pub(super) struct ShowArgs {
    /// Agent of the job.
    instance_id: InstanceId,
    /// Job to show.
    job_id: JobId,
    /// Maximum number of attempts.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=200))]
    attempts: u32,
    /// Show only the attempts after this cursor: the last line of the previous page.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Print JSON: an object with `job` and `cancelled_at`, each a value or null, `why`, and the array `attempts`; with
    /// --after, {"attempts": […], "next": … or null}.
    #[arg(long)]
    json: bool,
}

/// Prints the job and its latest attempts.
pub(super) async fn run(args: &ShowArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(after) = &args.after {
        return more(args, after, on, out).await;
    }
    let details = on.job(&args.instance_id, &args.job_id, args.attempts).await?;
    if args.json {
        return terminal::json(out, &details);
    }
    let now = on.now().await?;
    let text = match &details.job {
        Some(job) => shown::facts(job, &details.why, now),
        None => gone(&details, now),
    };
    out.write_all(text.as_bytes())?;
    if args.attempts > 0 {
        writeln!(out)?;
        out.write_all(attempts_table(&details.attempts, now).as_bytes())?;
    }
    if args.attempts > 0 && details.attempts.len() >= args.attempts as usize {
        let page = on.attempts(&args.instance_id, &args.job_id, args.attempts, None).await?;
        write_next(page.next, out)?;
    }
    Ok(())
}

/// Prints the attempts after a cursor.
async fn more(args: &ShowArgs, after: &str, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let limit = args.attempts.max(1);
    let page = on.attempts(&args.instance_id, &args.job_id, limit, Some(after)).await?;
    if args.json {
        return terminal::json(out, &page);
    }
    out.write_all(attempts_table(&page.attempts, on.now().await?).as_bytes())?;
    write_next(page.next, out)
}

fn write_next(next: Option<String>, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(next) = next {
        writeln!(out, "More attempts follow: --after {next}")?;
    }
    Ok(())
}

/// Describes a job without a one-shot by its cancel and its last attempt.
fn gone(details: &JobDetails, now: DateTime<Utc>) -> String {
    let last = details
        .attempts
        .first()
        .map(|one| format!(" Its last attempt ended {}: {}.", relative(now, one.ended_at), outcome(one)));
    format!("No current one-shot: {}.{}\n", details.why, last.unwrap_or_default())
}

fn attempts_table(attempts: &[Attempt], now: DateTime<Utc>) -> String {
    if attempts.is_empty() {
        return "No attempts.\n".to_owned();
    }
    let mut table = terminal::table(&[
        "ATTEMPT",
        "STARTED",
        "LATE",
        "TOOK",
        "OUTCOME",
        "STATUS",
        "RETRY-AFTER",
        "ERROR",
        "SCHEDULE",
        "ID",
    ]);
    for one in attempts {
        let late = one.started_at - one.fire_at;
        table.add_row([
            one.attempt.to_string(),
            relative(now, one.started_at),
            span(late.max(chrono::TimeDelta::zero())),
            span(one.ended_at - one.started_at),
            outcome(one),
            or_dash(one.http_status),
            or_dash(one.retry_after_s.map(|seconds| span(chrono::TimeDelta::seconds(seconds.into())))),
            or_dash(one.error.as_deref().map(|error| shortened(&printable(error), 48))),
            one.schedule_id.to_string(),
            one.attempt_id.to_string(),
        ]);
    }
    terminal::text(table)
}

/// Formats the outcome, with the agent's status of a delivery if nas-cron does not know it.
fn outcome(attempt: &Attempt) -> String {
    match &attempt.answer {
        None => attempt.outcome.to_string(),
        Some(answer) => format!("{}, answered \"{}\"", attempt.outcome, shortened(&printable(answer), 32)),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use nas_cron_protocol::ScheduleId;
    use uuid::Uuid;

    use super::*;
    use crate::domain::FireOutcome;
    use crate::operations::jobs::fixtures::now;

    #[test]
    fn attempts_table_matches_its_snapshot() {
        let attempt = Attempt {
            attempt_id: Uuid::from_u128(9),
            schedule_id: ScheduleId(Uuid::from_u128(7)),
            dedup_key: "k".to_owned(),
            fire_at: now() - TimeDelta::seconds(60),
            attempt: 2,
            armed_at: None,
            started_at: now() - TimeDelta::seconds(20),
            ended_at: now() - TimeDelta::milliseconds(19_988),
            outcome: FireOutcome::Failed,
            http_status: Some(503),
            retry_after_s: Some(90),
            error: Some("the agent answered 503".to_owned()),
            answer: None,
        };
        let queued = Attempt {
            outcome: FireOutcome::Delivered,
            http_status: Some(200),
            retry_after_s: None,
            error: None,
            answer: Some("queued\u{1b}[2J".to_owned()),
            ..attempt.clone()
        };
        insta::assert_snapshot!(attempts_table(&[attempt, queued], now()), @r#"
        ATTEMPT  STARTED   LATE  TOOK   OUTCOME                           STATUS  RETRY-AFTER  ERROR                   SCHEDULE                              ID
        2        20 s ago  40 s  12 ms  failed                            503     1 min 30 s   the agent answered 503  00000000-0000-0000-0000-000000000007  00000000-0000-0000-0000-000000000009
        2        20 s ago  40 s  12 ms  delivered, answered "queued [2J"  200     -            -                       00000000-0000-0000-0000-000000000007  00000000-0000-0000-0000-000000000009
        "#);
        insta::assert_snapshot!(attempts_table(&[], now()), @"No attempts.");
    }
}
