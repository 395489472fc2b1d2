//! `nas-cron backend`: the state of the scheduler backends, and the switch to another one.

mod switch;

use std::fmt::Write as _;
use std::io::Write;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use nas_cron_base::terminal::{self, counted, or_dash, relative, shortened};
use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::Count;
use tokio_util::sync::CancellationToken;

use super::audited::Audited;
use super::operator::Place;
use crate::audit::Act;
use crate::domain::active_backend::Left;
use crate::operations::backends::{BackendOperations, BackendStatus};

/// Show or switch the scheduler backend.
///
/// A scheduler backend wakes the service when a one-shot is due. The active backend, stored in the database, gets all new
/// one-shots; the other backends still send the wake-ups that they hold. If an external backend misses a wake-up, the
/// Postgres loop fires the one-shot.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron backend status
  nas-cron backend switch nats
  nas-cron backend switch postgres            Leave an external backend that is down; nothing is lost

Settings go before the subcommand: nas-cron backend --config nas-cron.toml status")]
pub struct BackendArgs {
    #[command(subcommand)]
    command: BackendCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum BackendCommand {
    /// Show the active backend, and the wake-ups and reachability of each backend.
    ///
    /// Reachability is tested from this machine with the settings of this command, or with --server from the server.
    #[command(after_help = "\
Columns:
  ONE-SHOTS  one-shots whose next wake-up comes from the backend; those that are withheld have none
  WANTED     wake-ups that are not yet armed at the backend
  ARMED      wake-ups that the backend has confirmed
  UNWANTED   wake-ups that are not yet cancelled at the backend
  OVERDUE    one-shots that are due and whose wake-up has not arrived: misses, if the grace period ends first
  MISSED     wake-ups that the backend has missed so far

Example:
  nas-cron backend status --json | jq '.unfinished'")]
    Status {
        /// Print JSON: `{"active", "generation", "switched_at", "unfinished", "left", "backends": […]}`.
        #[arg(long)]
        json: bool,
    },
    Switch(switch::SwitchArgs),
}

impl Audited for BackendArgs {
    fn act(&self) -> Option<Act> {
        match &self.command {
            BackendCommand::Status { .. } => None,
            BackendCommand::Switch(args) => args.act(),
        }
    }
}

/// Runs the command until `stop`, and writes its result to `out`.
pub async fn run(
    args: BackendArgs,
    on: &Place<BackendOperations>,
    stop: CancellationToken,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match args.command {
        BackendCommand::Status { json } => status(json, on, out).await,
        BackendCommand::Switch(args) => switch::run(&args, on, &stop, out).await,
    }
}

async fn status(json: bool, on: &Place<BackendOperations>, out: &mut dyn Write) -> anyhow::Result<()> {
    let status = on.backends().await?;
    if json {
        return terminal::json(out, &status);
    }
    let now = on.now().await?;
    out.write_all(status_text(&status, now).as_bytes())?;
    Ok(())
}

fn status_text(status: &BackendStatus, now: DateTime<Utc>) -> String {
    let BackendStatus { active: backend, generation, switched_at, left, backends, .. } = status;
    let since = relative(now, *switched_at);
    let mut text = format!("Active backend: {backend} (activated {since}, generation {generation}).\n\n");
    let mut table = terminal::table(&[
        "BACKEND",
        "CONFIGURED",
        "REACHABLE",
        "ONE-SHOTS",
        "WANTED",
        "ARMED",
        "UNWANTED",
        "OVERDUE",
        "MISSED",
        "LAST ERROR",
    ]);
    for one in backends {
        let counts = &one.counts;
        let postgres = counts.backend == BackendName::Postgres;
        let count = |count: Count| if postgres { "-".to_owned() } else { count.to_string() };
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let error = one.error.as_ref().or(counts.last_error.as_ref());
        table.add_row([
            counts.backend.to_string(),
            yes(one.configured),
            or_dash(one.answers.map(yes)),
            counts.one_shots.to_string(),
            count(counts.wanted),
            count(counts.armed),
            count(counts.unwanted),
            count(counts.overdue),
            if postgres { "-".to_owned() } else { counts.missed.to_string() },
            or_dash(error.map(|error| shortened(&terminal::printable(error), 60))),
        ]);
    }
    text.push_str(&terminal::text(table));
    if left.postponed > 0 {
        text.push_str(&too_far_ahead(left, *backend));
    }
    if left.count() > 0 {
        let _ = writeln!(
            text,
            "\nThe switch is unfinished: {}. The running replicas complete it; `nas-cron backend switch {backend}` \
             completes it now.",
            remaining(left)
        );
    }
    text
}

/// Describes the remaining work of a switch.
fn remaining(left: &Left) -> String {
    let parts = [
        (left.to_move, "one-shot", "to move"),
        (left.to_tell, "wake-up", "to arm"),
        (left.to_take_back, "wake-up", "to cancel"),
    ];
    let parts = parts.iter().filter(|(count, ..)| *count > 0);
    parts
        .map(|(count, noun, what)| format!("{} {what}", counted(*count, noun)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Describes the wake-ups that the backend does not accept yet.
fn too_far_ahead(left: &Left, backend: BackendName) -> String {
    let (wake_ups, are) =
        (counted(left.postponed, "wake-up"), if left.postponed == 1 { "is" } else { "are" });
    format!(
        "\n{wake_ups} {are} further in the future than {backend} accepts, and will be armed there later.\n"
    )
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "nas-cron backend")]
    struct Cli {
        #[command(flatten)]
        _args: BackendArgs,
    }

    use crate::domain::active_backend::BackendCounts;
    use crate::operations::backends::Standing;

    fn standing(backend: BackendName, one_shots: i64) -> Standing {
        let counts = BackendCounts {
            backend,
            one_shots: Count::exactly(one_shots),
            wanted: Count::default(),
            postponed: Count::default(),
            armed: Count::default(),
            unwanted: Count::default(),
            overdue: Count::default(),
            missed: 0,
            last_error: None,
        };
        Standing { counts, configured: true, limits: None, answers: Some(true), error: None }
    }

    #[test]
    fn status_shows_an_unfinished_switch() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut nats = standing(BackendName::Nats, 9_000);
        (nats.counts.wanted, nats.counts.armed) = (Count::exactly(400), Count::up_to(8_600, 8_600));
        let mut qstash = standing(BackendName::Qstash, 0);
        qstash.counts.unwanted = Count::exactly(12);
        (qstash.answers, qstash.error) = (Some(false), Some("did not answer in time".to_owned()));
        let direct = Standing { configured: false, answers: None, ..standing(BackendName::QstashDirect, 0) };
        let left = Left { to_move: 1_000, to_tell: 399, to_take_back: 12, postponed: 1, last_error: None };
        (nats.counts.overdue, nats.counts.missed) = (Count::exactly(2), 31);
        let backends = vec![standing(BackendName::Postgres, 1_003), qstash, direct, nats];
        let status = BackendStatus {
            active: BackendName::Nats,
            generation: 3,
            switched_at: now - TimeDelta::minutes(5),
            unfinished: true,
            left,
            backends,
        };
        insta::assert_snapshot!(status_text(&status, now), @"
        Active backend: nats (activated 5 min ago, generation 3).

        BACKEND        CONFIGURED  REACHABLE  ONE-SHOTS  WANTED  ARMED         UNWANTED  OVERDUE  MISSED  LAST ERROR
        postgres       yes         yes        1003       -       -             -         -        -       -
        qstash         yes         no         0          0       0             12        0        0       did not answer in time
        qstash_direct  no          -          0          0       0             0         0        0       -
        nats           yes         yes        9000       400     8600 or more  0         2        31      -

        1 wake-up is further in the future than nats accepts, and will be armed there later.

        The switch is unfinished: 1000 one-shots to move, 399 wake-ups to arm, 12 wake-ups to cancel. The running replicas complete it; `nas-cron backend switch nats` completes it now.
        ");
        let quiet = BackendStatus {
            active: BackendName::Postgres,
            left: Left::default(),
            backends: vec![standing(BackendName::Postgres, 1)],
            ..status
        };
        insta::assert_snapshot!(status_text(&quiet, now), @"
        Active backend: postgres (activated 5 min ago, generation 3).

        BACKEND   CONFIGURED  REACHABLE  ONE-SHOTS  WANTED  ARMED  UNWANTED  OVERDUE  MISSED  LAST ERROR
        postgres  yes         yes        1          -       -      -         -        -       -
        ");
    }

    #[test]
    fn help_matches_its_snapshot() {
        let mut command = Cli::command().term_width(110);
        insta::assert_snapshot!(command.render_long_help(), @"
        Show or switch the scheduler backend.

        A scheduler backend wakes the service when a one-shot is due. The active backend, stored in the database, gets
        all new one-shots; the other backends still send the wake-ups that they hold. If an external backend misses a
        wake-up, the Postgres loop fires the one-shot.

        Usage: nas-cron backend <COMMAND>

        Commands:
          status  Show the active backend, and the wake-ups and reachability of each backend
          switch  Activate another backend, and move all one-shots to it
          help    Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron backend status
          nas-cron backend switch nats
          nas-cron backend switch postgres            Leave an external backend that is down; nothing is lost

        Settings go before the subcommand: nas-cron backend --config nas-cron.toml status
        ");
        let status = command.find_subcommand_mut("status").unwrap();
        insta::assert_snapshot!(status.render_long_help(), @r#"
        Show the active backend, and the wake-ups and reachability of each backend.

        Reachability is tested from this machine with the settings of this command, or with --server from the server.

        Usage: status [OPTIONS]

        Options:
              --json
                  Print JSON: `{"active", "generation", "switched_at", "unfinished", "left", "backends": […]}`

          -h, --help
                  Print help (see a summary with '-h')

        Columns:
          ONE-SHOTS  one-shots whose next wake-up comes from the backend; those that are withheld have none
          WANTED     wake-ups that are not yet armed at the backend
          ARMED      wake-ups that the backend has confirmed
          UNWANTED   wake-ups that are not yet cancelled at the backend
          OVERDUE    one-shots that are due and whose wake-up has not arrived: misses, if the grace period ends first
          MISSED     wake-ups that the backend has missed so far

        Example:
          nas-cron backend status --json | jq '.unfinished'
        "#);
        let switch = command.find_subcommand_mut("switch").unwrap();
        insta::assert_snapshot!(switch.render_long_help(), @r#"
        Activate another backend, and move all one-shots to it.

        Configure the backend on every replica first. New one-shots go to it at once. The others are moved in batches:
        their wake-ups are armed at the new backend and cancelled at the old one. Provisions and fires continue
        meanwhile. You can interrupt the command at any time and lose nothing: the running replicas complete the
        switch, and so does the same command again.

        Usage: switch [OPTIONS] <BACKEND>

        Arguments:
          <BACKEND>
                  Backend to activate; `nas-cron backend status` lists them

        Options:
              --force
                  Switch even if the backend is unreachable. The Postgres loop then fires its one-shots some seconds
                  late

              --dry-run
                  Show what would be moved and test the backend, without changing anything

              --json
                  Print JSON: `{"active", "switched", "moved", "told", "taken_back", "finished", "left", "seconds"}`

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron backend switch nats --dry-run      Count what would be moved, and test the backend
          nas-cron backend switch nats
          nas-cron backend switch postgres --json
          nas-cron backend switch qstash --force      Even if it is unreachable now
        "#);
    }
}
