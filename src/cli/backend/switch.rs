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
use nas_cron_protocol::admin_api::Count;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{remaining, too_far_ahead};
use crate::audit::Act;
use crate::backends::moving;
use crate::cli::operator::{AdminClient, Place};
use crate::db::{DbResult, directory, ride_out, wake_ups};
use crate::domain::active_backend::Left;
use crate::operations::backends::{BackendOperations, BackendStatus, BackendSwitch, PLANNED, plan_text};

/// Concurrent rounds of arming and cancelling per backend.
const ROUNDS: usize = 4;
/// Time without progress after which the rest is left to the replicas, if a backend fails.
const NO_PROGRESS: Duration = Duration::from_secs(15);
/// Interval between checks of the progress of replicas.
const PAUSE: Duration = Duration::from_millis(100);
/// Interval between questions to a server whose replicas move the one-shots.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Time without progress after which a server's switch is left to its replicas: two of their rounds.
const NO_PROGRESS_THERE: Duration = Duration::from_secs(40);
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
  nas-cron backend switch nats --dry-run      Count what would be moved, and test the backend
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
    /// Show what would be moved and test the backend, without changing anything.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: `{"active", "switched", "moved", "told", "taken_back", "finished", "left", "seconds"}`.
    #[arg(long)]
    json: bool,
}

impl SwitchArgs {
    /// Returns the line in the audit log; `None` for a dry run.
    pub(super) fn act(&self) -> Option<Act> {
        (!self.dry_run).then(|| Act::new("switch_backend").about("backend", self.backend))
    }
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
    on: &Place<BackendOperations>,
    stop: &CancellationToken,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let to = args.backend;
    if args.dry_run {
        return plan(&on.plan_switch(to).await?, args.json, out);
    }
    let begun = Instant::now();
    let mut report = Report::default();
    let bar = bar(args.json)?;
    let (switched, unconfigured, moved) = match on {
        Place::Database(here) => {
            let since = directory::now(here.db()).await?;
            let switched = on.switch_backend(to, args.force).await?;
            let moved = carry_out(here, stop, since, &bar, &mut report).await.map_err(anyhow::Error::from);
            (switched, here.unconfigured().collect(), moved)
        }
        Place::Server(client) => {
            let switched = on.switch_backend(to, args.force).await?;
            (switched, Vec::new(), follow(client, stop, &bar).await)
        }
    };
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
            "active": to, "switched": switched.switched, "moved": moved, "told": told, "taken_back": taken_back,
            "finished": finished, "left": left, "seconds": seconds,
        });
        terminal::json(out, &report)?;
    } else {
        let was = if switched.switched { "is active" } else { "was already active" };
        let moved = counted(i64::try_from(moved).unwrap_or(i64::MAX), "one-shot");
        writeln!(
            out,
            "{to} {was}: {moved} moved, {told} wake-ups armed and {taken_back} cancelled by this command, in {seconds:.1} s."
        )?;
        if left.postponed > 0 {
            out.write_all(too_far_ahead(&left, to).trim_start().as_bytes())?;
        }
    }
    if stop.is_cancelled() && !finished {
        bail!(
            "interrupted with {}. Nothing is lost: the running replicas complete the switch, and so does the same command \
             again",
            remaining(&left)
        );
    }
    ensure!(finished, "{}", unfinished(&left, &unconfigured));
    Ok(())
}

/// Prints what a switch would do. Fails if the backend is unreachable.
fn plan(plan: &BackendSwitch, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let BackendSwitch { from, to, left, .. } = plan;
    if json {
        terminal::json(out, plan)?;
    } else {
        writeln!(out, "{}", plan_text(*from, *to, Count::up_to(left.to_move, PLANNED)))?;
    }
    match &plan.error {
        Some(error) => bail!("{to} {}: fix it first, or use --force", terminal::printable(error)),
        None => Ok(()),
    }
}

fn bar(json: bool) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} ({msg})")?;
    // Drawn on stderr, and only if it is a terminal.
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    Ok(ProgressBar::with_draw_target(Some(0), target).with_style(style))
}

/// Waits while the server's replicas move the one-shots, until nothing is left, the command is interrupted, or progress
/// stops. Returns the remaining work.
async fn follow(client: &AdminClient, stop: &CancellationToken, bar: &ProgressBar) -> anyhow::Result<Left> {
    let (mut least, mut progressed) = (i64::MAX, Instant::now());
    loop {
        let left = client.get::<BackendStatus>(&["backends"], &[]).await?.left;
        show_progress(bar, &left);
        if left.count() < least {
            (least, progressed) = (left.count(), Instant::now());
        }
        if left.count() == 0 || progressed.elapsed() > NO_PROGRESS_THERE {
            return Ok(left);
        }
        if stop.run_until_cancelled(sleep(ASKED_EVERY)).await.is_none() {
            return Ok(left);
        }
    }
}

/// Moves one-shots, and arms and cancels wake-ups, until nothing is left, the command is interrupted, or progress stops.
/// Returns the remaining work.
async fn carry_out(
    here: &BackendOperations,
    stop: &CancellationToken,
    since: DateTime<Utc>,
    bar: &ProgressBar,
    report: &mut Report,
) -> DbResult<Left> {
    let db = here.db();
    let mut left = again(|| wake_ups::left(db, since)).await?;
    let mut least = i64::MAX;
    let mut progressed = Instant::now();
    loop {
        show_progress(bar, &left);
        if left.count() == 0 || stop.is_cancelled() {
            return Ok(left);
        }
        if left.count() < least {
            (least, progressed) = (left.count(), Instant::now());
        } else if progressed.elapsed() > patience(here, &left) {
            return Ok(left);
        }
        let moved = if left.to_move > 0 { move_all(here, stop, bar, report).await? } else { 0 };
        if moved > 0 {
            // Each moved one-shot adds a wake-up to arm and perhaps one to cancel: the count may have grown.
            progressed = Instant::now();
        } else if tell(here, report).await? == 0 {
            // The replicas hold the rest, or the backend is in back-off.
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
        }
        left = again(|| wake_ups::left(db, since)).await?;
    }
}

/// Moves batch after batch. Returns the number of moved one-shots.
async fn move_all(
    here: &BackendOperations,
    stop: &CancellationToken,
    bar: &ProgressBar,
    report: &mut Report,
) -> DbResult<u64> {
    let mut moved = 0;
    while !stop.is_cancelled() {
        let batch = again(|| moving::batch(here.db())).await?;
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
fn patience(here: &BackendOperations, left: &Left) -> Duration {
    let leases = here.outboxes().iter().map(|outbox| outbox.lease() + NO_PROGRESS);
    let longest = leases.max().filter(|_| left.last_error.is_none());
    longest.unwrap_or(NO_PROGRESS)
}

/// Arms and cancels wake-ups at all backends for one round. Returns the number of processed outbox rows.
async fn tell(here: &BackendOperations, report: &mut Report) -> DbResult<usize> {
    let rounds = here.outboxes().iter().flat_map(|outbox| std::iter::repeat_n(outbox, ROUNDS));
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

fn unfinished(left: &Left, unconfigured: &[BackendName]) -> String {
    let mut text = format!("the switch is unfinished: {}", remaining(left));
    if let Some(error) = &left.last_error {
        text = format!("{text} ({})", terminal::printable(error));
    }
    if left.to_take_back > 0 && !unconfigured.is_empty() {
        let names: Vec<_> = unconfigured.iter().map(|one| one.as_str()).collect();
        text = format!("{text}; left to the replicas, because not configured here: {}", names.join(", "));
    }
    format!(
        "{text}. Nothing is lost: the running replicas complete the switch, and so does the same command again"
    )
}
