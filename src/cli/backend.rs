//! `nas-cron backend`: who wakes us first, and how one-shots move from one to another.

mod switch;

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use futures::future::join_all;
use nas_cron_base::terminal::{self, counted, or_dash, relative, shortened};
use nas_cron_protocol::BackendName;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::backends::outbox::Outbox;
use crate::backends::postgres::Postgres;
use crate::backends::{Backend, Limits, SchedulerBackend};
use crate::db::{Db, directory, wake_ups};
use crate::domain::active_backend::{ActiveBackend, BackendCounts, Left};

/// See who wakes us first at a fire's instant, and switch to another.
///
/// The active backend is a row of the database: new one-shots go to it, from one commit to the next. The others go on
/// bringing what they have. Whoever it is, what is overdue is fired by the service's own loop.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron backend status
  nas-cron backend switch nats
  nas-cron backend switch postgres            Away from an engine that is down: nothing is lost")]
pub struct BackendArgs {
    #[command(subcommand)]
    command: BackendCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum BackendCommand {
    /// Show which backend is active, what each holds, and whether it answers.
    ///
    /// An engine answers or not as it is reached from here, with the settings of this command.
    #[command(after_help = "\
ONE-SHOTS  what it is to wake (of postgres: what is armed, and no engine's)
WANTED     wake-ups that it has still to be told of
ARMED      wake-ups that it has confirmed
UNWANTED   wake-ups that it has still to take back

Example:
  nas-cron backend status --json | jq '.unfinished'")]
    Status {
        /// Print JSON: `{"active", "generation", "switched_at", "unfinished", "left", "backends": […]}`.
        #[arg(long)]
        json: bool,
    },
    Switch(switch::SwitchArgs),
}

/// What the commands work with.
#[derive(Debug)]
pub struct BackendContext {
    /// The database.
    pub db: Db,
    /// The backends that are configured here, and can be told by this command.
    pub outboxes: Vec<Outbox>,
    /// What is configured here, whether or not this command can tell it.
    pub configured: Vec<BackendName>,
    /// Somebody wants this to end.
    pub stop: CancellationToken,
}

impl BackendContext {
    /// Over these backends, one call to which may take `call_timeout`.
    pub fn new(
        db: Db,
        backends: Vec<Backend>,
        call_timeout: Duration,
        configured: Vec<BackendName>,
        stop: CancellationToken,
    ) -> Self {
        let outbox = |backend| Outbox::new(db.clone(), Arc::new(backend), call_timeout);
        let outboxes = backends.into_iter().map(outbox).collect();
        Self { db, outboxes, configured, stop }
    }

    fn outbox(&self, backend: BackendName) -> Option<&Outbox> {
        self.outboxes.iter().find(|outbox| outbox.backend().name() == backend)
    }

    fn has(&self, backend: BackendName) -> bool {
        backend == BackendName::Postgres || self.configured.contains(&backend)
    }
}

/// Does what was asked for, and says so on `out`.
pub async fn run(args: BackendArgs, context: &BackendContext, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        BackendCommand::Status { json } => status(json, context, out).await,
        BackendCommand::Switch(args) => switch::run(&args, context, out).await,
    }
}

/// Which one is active. No service has started yet where there is none.
async fn active(db: &Db) -> anyhow::Result<ActiveBackend> {
    match wake_ups::find_active(db).await? {
        Some(active) => Ok(active),
        None => bail!(
            "no backend is active yet: the service makes NAS_CRON_BACKEND the active one when it starts for the first \
             time (`nas-cron serve`)"
        ),
    }
}

/// One backend as `status` shows it.
#[derive(Debug, serde::Serialize)]
struct Standing {
    #[serde(flatten)]
    counts: BackendCounts,
    /// Whether this environment has its settings.
    configured: bool,
    /// What it can do, where it is configured.
    limits: Option<Limits>,
    /// Whether it answered just now; nothing where nobody could ask.
    answers: Option<bool>,
    /// Why it did not.
    error: Option<String>,
}

async fn status(json: bool, context: &BackendContext, out: &mut dyn Write) -> anyhow::Result<()> {
    let db = &context.db;
    let active = active(db).await?;
    let now = directory::now(db).await?;
    let left = wake_ups::left(db, active.switched_at).await?;
    let counts = wake_ups::counts(db).await?;
    let backends = join_all(counts.into_iter().map(async |counts| {
        let health = match context.outbox(counts.backend) {
            Some(outbox) => Some(outbox.backend().health().await.map_err(|error| error.to_string())),
            // Whoever could not reach it would not be here.
            None => (counts.backend == BackendName::Postgres).then_some(Ok(())),
        };
        let answers = health.as_ref().map(Result::is_ok);
        let error = health.and_then(Result::err);
        let limits = match counts.backend {
            BackendName::Postgres => Some(Backend::Postgres(Postgres).limits()),
            other => context.outbox(other).map(|outbox| outbox.backend().limits()),
        };
        Standing { configured: context.has(counts.backend), limits, answers, error, counts }
    }))
    .await;
    if json {
        let told = json!({
            "active": active.backend, "generation": active.generation, "switched_at": active.switched_at,
            "unfinished": left.count() > 0, "left": left, "backends": backends,
        });
        return terminal::json(out, &told);
    }
    out.write_all(status_text(&active, &left, &backends, now).as_bytes())?;
    Ok(())
}

fn status_text(active: &ActiveBackend, left: &Left, backends: &[Standing], now: DateTime<Utc>) -> String {
    let ActiveBackend { backend, generation, switched_at } = active;
    let since = relative(now, *switched_at);
    let mut text = format!("{backend} is active, since {since} (generation {generation}).\n\n");
    let mut table = terminal::table(&[
        "BACKEND",
        "CONFIGURED",
        "ANSWERS",
        "ONE-SHOTS",
        "WANTED",
        "ARMED",
        "UNWANTED",
        "LAST ERROR",
    ]);
    for one in backends {
        let counts = &one.counts;
        let ours = counts.backend == BackendName::Postgres;
        let count = |count: i64| if ours { "-".to_owned() } else { count.to_string() };
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
            or_dash(error.map(|error| shortened(&terminal::printable(error), 60))),
        ]);
    }
    text.push_str(&terminal::text(table));
    if left.put_off > 0 {
        text.push_str(&put_off(left, *backend));
    }
    if left.count() > 0 {
        let _ = writeln!(
            text,
            "\nA move is unfinished: {}. The running replicas go on with it; `nas-cron backend switch {backend}` does it \
             now.",
            still(left)
        );
    }
    text
}

/// What is left of a move, in words.
fn still(left: &Left) -> String {
    let parts = [
        (left.to_move, "one-shot", "to be moved"),
        (left.to_tell, "wake-up", "to be told"),
        (left.to_take_back, "wake-up", "to be taken back"),
    ];
    let parts = parts.iter().filter(|(count, ..)| *count > 0);
    parts
        .map(|(count, noun, what)| format!("{} {what}", counted(*count, noun)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn put_off(left: &Left, backend: BackendName) -> String {
    let (wake_ups, are) = (counted(left.put_off, "wake-up"), if left.put_off == 1 { "is" } else { "are" });
    format!("\n{wake_ups} {are} further ahead than {backend} takes: handed over when near enough.\n")
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

    fn standing(backend: BackendName, one_shots: i64) -> Standing {
        let counts = BackendCounts {
            backend,
            one_shots,
            wanted: 0,
            put_off: 0,
            armed: 0,
            unwanted: 0,
            last_error: None,
        };
        Standing { counts, configured: true, limits: None, answers: Some(true), error: None }
    }

    #[test]
    fn status_says_what_is_unfinished_and_who_goes_on() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let active = ActiveBackend {
            backend: BackendName::Nats,
            generation: 3,
            switched_at: now - TimeDelta::minutes(5),
        };
        let mut nats = standing(BackendName::Nats, 9_000);
        (nats.counts.wanted, nats.counts.armed) = (400, 8_600);
        let mut qstash = standing(BackendName::Qstash, 0);
        qstash.counts.unwanted = 12;
        (qstash.answers, qstash.error) = (Some(false), Some("did not answer in time".to_owned()));
        let direct = Standing { configured: false, answers: None, ..standing(BackendName::QstashDirect, 0) };
        let left = Left { to_move: 1_000, to_tell: 399, to_take_back: 12, put_off: 1, last_error: None };
        let all = [standing(BackendName::Postgres, 1_003), qstash, direct, nats];
        insta::assert_snapshot!(status_text(&active, &left, &all, now), @"
        nats is active, since 5 min ago (generation 3).

        BACKEND        CONFIGURED  ANSWERS  ONE-SHOTS  WANTED  ARMED  UNWANTED  LAST ERROR
        postgres       yes         yes      1003       -       -      -         -
        qstash         yes         no       0          0       0      12        did not answer in time
        qstash_direct  no          -        0          0       0      0         -
        nats           yes         yes      9000       400     8600   0         -

        1 wake-up is further ahead than nats takes: handed over when near enough.

        A move is unfinished: 1000 one-shots to be moved, 399 wake-ups to be told, 12 wake-ups to be taken back. The running replicas go on with it; `nas-cron backend switch nats` does it now.
        ");
        let quiet = [standing(BackendName::Postgres, 1)];
        let active = ActiveBackend { backend: BackendName::Postgres, ..active };
        insta::assert_snapshot!(status_text(&active, &Left::default(), &quiet, now), @"
        postgres is active, since 5 min ago (generation 3).

        BACKEND   CONFIGURED  ANSWERS  ONE-SHOTS  WANTED  ARMED  UNWANTED  LAST ERROR
        postgres  yes         yes      1          -       -      -         -
        ");
    }

    #[test]
    fn the_help_teaches() {
        let mut command = Cli::command().term_width(110);
        insta::assert_snapshot!(command.render_long_help(), @"
        See who wakes us first at a fire's instant, and switch to another.

        The active backend is a row of the database: new one-shots go to it, from one commit to the next. The others
        go on bringing what they have. Whoever it is, what is overdue is fired by the service's own loop.

        Usage: nas-cron backend <COMMAND>

        Commands:
          status  Show which backend is active, what each holds, and whether it answers
          switch  Make another backend the active one, and bring every one-shot to it
          help    Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron backend status
          nas-cron backend switch nats
          nas-cron backend switch postgres            Away from an engine that is down: nothing is lost
        ");
        let status = command.find_subcommand_mut("status").unwrap();
        insta::assert_snapshot!(status.render_long_help(), @r#"
        Show which backend is active, what each holds, and whether it answers.

        An engine answers or not as it is reached from here, with the settings of this command.

        Usage: status [OPTIONS]

        Options:
              --json
                  Print JSON: `{"active", "generation", "switched_at", "unfinished", "left", "backends": […]}`

          -h, --help
                  Print help (see a summary with '-h')

        ONE-SHOTS  what it is to wake (of postgres: what is armed, and no engine's)
        WANTED     wake-ups that it has still to be told of
        ARMED      wake-ups that it has confirmed
        UNWANTED   wake-ups that it has still to take back

        Example:
          nas-cron backend status --json | jq '.unfinished'
        "#);
        let switch = command.find_subcommand_mut("switch").unwrap();
        insta::assert_snapshot!(switch.render_long_help(), @r#"
        Make another backend the active one, and bring every one-shot to it.

        Configure it on every replica first. New one-shots go to it at once; the others follow in batches, their
        wake-ups are asked for there and taken back where they were. Provisions and fires go on meanwhile. It can be
        broken off at any moment, and nothing is lost: the running replicas finish it, and so does the same command
        again.

        Usage: switch [OPTIONS] <BACKEND>

        Arguments:
          <BACKEND>
                  Which one: `nas-cron backend status` lists them

        Options:
              --force
                  Also when it does not answer: what it misses, the service's own loop fires some seconds late

              --json
                  Print JSON: `{"active", "switched", "moved", "told", "taken_back", "finished", "left", "seconds"}`

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron backend switch nats
          nas-cron backend switch postgres --json
          nas-cron backend switch qstash --force      Although it does not answer now
        "#);
    }
}
