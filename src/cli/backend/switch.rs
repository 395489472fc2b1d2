//! `nas-cron backend switch`: one row changes, and every one-shot follows.

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

use super::{BackendContext, active, put_off, still};
use crate::backends::{SchedulerBackend, moving};
use crate::config::backends::variables_of;
use crate::db::{DbResult, directory, ride_out, wake_ups};
use crate::domain::active_backend::Left;

/// Rounds of telling one backend at once.
const ROUNDS: usize = 4;
/// How long nothing may get done before the rest is left to the replicas, where a backend fails.
const FAILING: Duration = Duration::from_secs(15);
/// Between looks at what others are doing.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the database may be away.
const PATIENCE: Duration = Duration::from_secs(15);

/// Make another backend the active one, and bring every one-shot to it.
///
/// Configure it on every replica first. New one-shots go to it at once; the others follow in batches, their wake-ups
/// are asked for there and taken back where they were. Provisions and fires go on meanwhile. It can be broken off at
/// any moment, and nothing is lost: the running replicas finish it, and so does the same command again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron backend switch nats
  nas-cron backend switch postgres --json
  nas-cron backend switch qstash --force      Although it does not answer now")]
pub(super) struct SwitchArgs {
    /// Which one: `nas-cron backend status` lists them.
    #[arg(value_name = "BACKEND")]
    backend: BackendName,
    /// Also when it does not answer: what it misses, the service's own loop fires some seconds late.
    #[arg(long)]
    force: bool,
    /// Print JSON: `{"active", "switched", "moved", "told", "taken_back", "finished", "left", "seconds"}`.
    #[arg(long)]
    json: bool,
}

/// What this process has done; running replicas do their share.
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
            "{to} is active, but the move broke off. Nothing is lost: the running replicas go on with it, and so does \
             the same command again"
        )
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let finished = left.count() == 0;
    let Report { moved, told, taken_back } = report;
    if args.json {
        let told = json!({
            "active": to, "switched": from != to, "moved": moved, "told": told, "taken_back": taken_back,
            "finished": finished, "left": left, "seconds": seconds,
        });
        terminal::json(out, &told)?;
    } else {
        let was = if from == to { "was active already" } else { "is active" };
        let moved = counted(i64::try_from(moved).unwrap_or(i64::MAX), "one-shot");
        writeln!(
            out,
            "{to} {was}: {moved} moved, {told} wake-ups told and {taken_back} taken back from here, in {seconds:.1} s."
        )?;
        if left.put_off > 0 {
            out.write_all(put_off(&left, to).trim_start().as_bytes())?;
        }
    }
    if context.stop.is_cancelled() && !finished {
        bail!(
            "stopped: {} still. Nothing is lost: the running replicas go on with it, and so does the same command again",
            still(&left)
        );
    }
    ensure!(finished, "{}", unfinished(&left, context));
    Ok(())
}

/// Refuses what would only wait for the watchdog.
async fn require_usable(args: &SwitchArgs, context: &BackendContext) -> anyhow::Result<()> {
    let to = args.backend;
    if to == BackendName::Postgres {
        return Ok(());
    }
    ensure!(
        context.has(to),
        "{to} is not configured here: set {}, here and on every replica (see docs/backends.md)",
        variables_of(to)
    );
    let Some(outbox) = context.outbox(to) else {
        bail!(
            "{to} mints the agents' tokens itself: run this with all settings of the service, as one of its replicas \
             has them"
        )
    };
    match outbox.backend().health().await {
        Err(error) if !args.force => bail!(
            "{to} {error}. Nothing was changed; `nas-cron backend status` shows more, and --force switches all the same"
        ),
        _ => Ok(()),
    }
}

fn bar(json: bool) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} ({msg})")?;
    // On stderr, and only on a terminal.
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    Ok(ProgressBar::with_draw_target(Some(0), target).with_style(style))
}

/// Moves and tells until nothing is left, somebody stops it, or nothing gets done any more. Returns what is left.
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
            // Every one of them is to be told, and its old wake-up to be taken back: there may be more left than before.
            progressed = Instant::now();
        } else if tell(context, report).await? == 0 {
            // The replicas are at it, or the backend is left alone for a while.
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
        }
        left = again(|| wake_ups::left(db, since)).await?;
    }
}

/// Moves batch after batch. Returns how many have moved.
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

/// What somebody who has died was telling is told again when that one's lease of it is over.
fn patience(context: &BackendContext, left: &Left) -> Duration {
    let leases = context.outboxes.iter().map(|outbox| outbox.lease() + FAILING);
    let longest = leases.max().filter(|_| left.last_error.is_none());
    longest.unwrap_or(FAILING)
}

/// Tells all backends one round. Returns how many orders were carried out.
async fn tell(context: &BackendContext, report: &mut Report) -> DbResult<usize> {
    let rounds = context.outboxes.iter().flat_map(|outbox| std::iter::repeat_n(outbox, ROUNDS));
    let mut orders = 0;
    for done in try_join_all(rounds.map(|outbox| again(|| outbox.run_round()))).await? {
        report.told += done.armed;
        report.taken_back += done.taken_back;
        orders += done.armed + done.taken_back;
    }
    Ok(orders)
}

fn show_progress(bar: &ProgressBar, left: &Left) {
    let count = left.count().unsigned_abs();
    // What is told was to be moved before: the whole grows while it moves.
    bar.set_length(bar.length().unwrap_or(0).max(bar.position() + count));
    bar.set_position(bar.length().unwrap_or(0) - count);
    bar.set_message(still(left));
}

/// Waits out a short absence of the database: every step may be done twice.
async fn again<T, F: Future<Output = DbResult<T>>>(step: impl FnMut() -> F) -> DbResult<T> {
    ride_out(Instant::now() + PATIENCE, step).await
}

fn unfinished(left: &Left, context: &BackendContext) -> String {
    let away: Vec<_> =
        BackendName::ALL.iter().filter(|one| !context.has(**one)).map(|one| one.as_str()).collect();
    let mut text = format!("the move is unfinished: {} still", still(left));
    if let Some(error) = &left.last_error {
        text = format!("{text} ({})", terminal::printable(error));
    }
    if left.to_take_back > 0 && !away.is_empty() {
        text = format!("{text}; not configured here, and so left to the replicas: {}", away.join(", "));
    }
    format!("{text}. Nothing is lost: the running replicas go on with it, and so does the same command again")
}
