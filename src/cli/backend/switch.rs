//! `nas-cron backend switch`: changes the active backend, then moves all one-shots to it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use futures::future::try_join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nas_cron_base::terminal::{self, counted};
use nas_cron_protocol::BackendName;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{BackendContext, active, remaining, too_far_ahead};
use crate::backends::{SchedulerBackend, moving};
use crate::config::backends::variables_of;
use crate::db::{DbResult, directory, ride_out, wake_ups};
use crate::domain::active_backend::Left;

/// Concurrent rounds of arming and cancelling per backend.
const ROUNDS: usize = 4;
/// Time without progress after which the rest is left to the replicas, if a backend fails.
const NO_PROGRESS: Duration = Duration::from_secs(15);
/// Interval between checks of the progress of replicas.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum outage of the database that is bridged by retries.
const PATIENCE: Duration = Duration::from_secs(15);

/// Activate another backend, and move all one-shots to it.
///
/// Configure the backend on every replica first. New one-shots go to it at once. The others are moved in batches: their
/// wake-ups are armed at the new backend and cancelled at the old one. Provisions and fires continue meanwhile. You can
/// interrupt the command at any time and lose nothing: the running replicas complete the switch, and so does the same
/// command again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron backend switch nats
  nas-cron backend switch postgres --json
  nas-cron backend switch qstash --force      Even if it is unreachable now")]
pub(super) struct SwitchArgs {
    /// Backend to activate; `nas-cron backend status` lists them.
    #[arg(value_name = "BACKEND")]
    pub(super) backend: BackendName,
    /// Switch even if the backend is unreachable. The Postgres loop then fires its one-shots some seconds late.
    #[arg(long)]
    force: bool,
    /// Print JSON: `{"active", "switched", "moved", "told", "taken_back", "finished", "left", "seconds"}`.
    #[arg(long)]
    json: bool,
}

/// Work done by this process. Running replicas do a share of the total.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    moved: u64,
    told: usize,
    taken_back: usize,
}

pub(super) async fn run(
    args: &SwitchArgs,
    context: &BackendContext,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (db, to) = (&context.db, args.backend);
    let from = active(db).await?.backend;
    require_usable(args, context).await?;
    let begun = Instant::now();
    let since = directory::now(db).await?;
    again(|| wake_ups::activate(db, to)).await?;
    again(|| wake_ups::try_again(db)).await?;
    let bar = bar(args.json)?;
    let mut report = Report::default();
    let moved = carry_out(context, since, &bar, &mut report).await;
    bar.finish_and_clear();
    let left = moved.with_context(|| {
        format!(
            "{to} is active, but moving the one-shots failed. Nothing is lost: the running replicas complete the switch, \
             and so does the same command again"
        )
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let finished = left.count() == 0;
    let Report { moved, told, taken_back } = report;
    if args.json {
        let report = json!({
            "active": to, "switched": from != to, "moved": moved, "told": told, "taken_back": taken_back,
            "finished": finished, "left": left, "seconds": seconds,
        });
        terminal::json(out, &report)?;
    } else {
        let was = if from == to { "was already active" } else { "is active" };
        let moved = counted(i64::try_from(moved).unwrap_or(i64::MAX), "one-shot");
        writeln!(
            out,
            "{to} {was}: {moved} moved, {told} wake-ups armed and {taken_back} cancelled by this command, in {seconds:.1} s."
        )?;
        if left.postponed > 0 {
            out.write_all(too_far_ahead(&left, to).trim_start().as_bytes())?;
        }
    }
    if context.stop.is_cancelled() && !finished {
        bail!(
            "interrupted with {}. Nothing is lost: the running replicas complete the switch, and so does the same command \
             again",
            remaining(&left)
        );
    }
    ensure!(finished, "{}", unfinished(&left, context));
    Ok(())
}

/// Fails if the new backend is unconfigured or unreachable: all its one-shots would be backend misses.
async fn require_usable(args: &SwitchArgs, context: &BackendContext) -> anyhow::Result<()> {
    let to = args.backend;
    if to == BackendName::Postgres {
        return Ok(());
    }
    ensure!(
        context.has(to),
        "{to} is not configured here: set {} for this command and on every replica (see docs/backends.md)",
        variables_of(to)
    );
    let Some(outbox) = context.outbox(to) else {
        bail!(
            "{to} needs fire tokens in advance, which this command cannot sign with its settings: run it with all \
             settings of the service, for example on one of its replicas"
        )
    };
    match outbox.backend().health().await {
        Err(error) if !args.force => bail!(
            "{to} {error}. Nothing was changed; fix the backend (`nas-cron backend status` shows its state), or switch \
             anyway with --force"
        ),
        _ => Ok(()),
    }
}

fn bar(json: bool) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} ({msg})")?;
    // Drawn on stderr, and only if it is a terminal.
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    Ok(ProgressBar::with_draw_target(Some(0), target).with_style(style))
}

/// Moves one-shots, and arms and cancels wake-ups, until nothing is left, the command is interrupted, or progress stops.
/// Returns the remaining work.
async fn carry_out(
    context: &BackendContext,
    since: DateTime<Utc>,
    bar: &ProgressBar,
    report: &mut Report,
) -> DbResult<Left> {
    let db = &context.db;
    let mut left = again(|| wake_ups::left(db, since)).await?;
    let mut least = i64::MAX;
    let mut progressed = Instant::now();
    loop {
        show_progress(bar, &left);
        if left.count() == 0 || context.stop.is_cancelled() {
            return Ok(left);
        }
        if left.count() < least {
            (least, progressed) = (left.count(), Instant::now());
        } else if progressed.elapsed() > patience(context, &left) {
            return Ok(left);
        }
        let moved = if left.to_move > 0 { move_all(context, bar, report).await? } else { 0 };
        if moved > 0 {
            // Each moved one-shot adds a wake-up to arm and perhaps one to cancel: the count may have grown.
            progressed = Instant::now();
        } else if tell(context, report).await? == 0 {
            // The replicas hold the rest, or the backend is in back-off.
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
        }
        left = again(|| wake_ups::left(db, since)).await?;
    }
}

/// Moves batch after batch. Returns the number of moved one-shots.
async fn move_all(context: &BackendContext, bar: &ProgressBar, report: &mut Report) -> DbResult<u64> {
    let mut moved = 0;
    while !context.stop.is_cancelled() {
        let batch = again(|| moving::batch(&context.db)).await?;
        if batch == 0 {
            break;
        }
        moved += batch;
        report.moved += batch;
        bar.set_message(format!("{} moved", report.moved));
    }
    Ok(moved)
}

/// Returns the time without progress to allow. Without an error, the rest may be leased by a process that died, so this
/// includes the longest lease.
fn patience(context: &BackendContext, left: &Left) -> Duration {
    let leases = context.outboxes.iter().map(|outbox| outbox.lease() + NO_PROGRESS);
    let longest = leases.max().filter(|_| left.last_error.is_none());
    longest.unwrap_or(NO_PROGRESS)
}

/// Arms and cancels wake-ups at all backends for one round. Returns the number of processed outbox rows.
async fn tell(context: &BackendContext, report: &mut Report) -> DbResult<usize> {
    let rounds = context.outboxes.iter().flat_map(|outbox| std::iter::repeat_n(outbox, ROUNDS));
    let mut rows = 0;
    for done in try_join_all(rounds.map(|outbox| again(|| outbox.run_round()))).await? {
        report.told += done.armed;
        report.taken_back += done.taken_back;
        rows += done.armed + done.taken_back;
    }
    Ok(rows)
}

fn show_progress(bar: &ProgressBar, left: &Left) {
    let count = left.count().unsigned_abs();
    // Moving creates wake-ups to arm: the total grows meanwhile.
    bar.set_length(bar.length().unwrap_or(0).max(bar.position() + count));
    bar.set_position(bar.length().unwrap_or(0) - count);
    bar.set_message(remaining(left));
}

/// Retries a step through a short outage of the database. Every step may run twice.
async fn again<T, F: Future<Output = DbResult<T>>>(step: impl FnMut() -> F) -> DbResult<T> {
    ride_out(Instant::now() + PATIENCE, step).await
}

fn unfinished(left: &Left, context: &BackendContext) -> String {
    let unconfigured: Vec<_> =
        BackendName::ALL.iter().filter(|one| !context.has(**one)).map(|one| one.as_str()).collect();
    let mut text = format!("the switch is unfinished: {}", remaining(left));
    if let Some(error) = &left.last_error {
        text = format!("{text} ({})", terminal::printable(error));
    }
    if left.to_take_back > 0 && !unconfigured.is_empty() {
        text =
            format!("{text}; left to the replicas, because not configured here: {}", unconfigured.join(", "));
    }
    format!(
        "{text}. Nothing is lost: the running replicas complete the switch, and so does the same command again"
    )
}
