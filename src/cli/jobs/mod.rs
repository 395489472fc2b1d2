//! `nas-cron jobs`: the one-shots of all agents.

mod cancel;
mod conditions;
mod dismiss;
mod fire;
pub(in crate::cli) mod import;
mod list;
mod nudge;
mod redrive;
mod show;
mod shown;

use std::io::Write;

use clap::{Args, Subcommand};

use self::cancel::CancelArgs;
use self::dismiss::DismissArgs;
use self::fire::FireArgs;
use self::list::ListArgs;
use self::nudge::NudgeArgs;
use self::redrive::RedriveArgs;
use self::show::ShowArgs;
use super::audited::Audited;
use super::import_file::ImportArgs;
use super::operator::Operator;
use crate::audit::Act;

/// List, show, cancel, fire, redrive, nudge and import one-shots.
///
/// The command works on the database, also while the service is down, or with --server on a running service.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron jobs list --state dead,stuck
  nas-cron jobs list --state dormant
  nas-cron jobs show agent-1 3f2a9c01d4e5
  nas-cron jobs redrive --org acme --dry-run
  nas-cron jobs import one-shots.jsonl

Settings go before the subcommand: nas-cron jobs --config nas-cron.toml list")]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum JobsCommand {
    List(ListArgs),
    Show(ShowArgs),
    Cancel(CancelArgs),
    Fire(FireArgs),
    Redrive(RedriveArgs),
    Nudge(NudgeArgs),
    Dismiss(DismissArgs),
    /// Import one-shots of another service from JSON Lines, and arm them.
    ///
    /// Fields: `instance_id`, `job_id`, `fire_at`, `agent_callback_url`, and optionally `dedup_key` [default:
    /// `{job_id}:{fire_at}`, as real agents write it]. The agents must be registered.
    ///
    /// A one-shot that the agent has already armed here is kept. One-shots with a past `fire_at` fire at once. Valid lines
    /// are imported and invalid lines are reported, with exit code 1. Importing a file again changes nothing.
    #[command(after_help = "\
Examples:
  nas-cron hold --all --reason cut-over && nas-cron jobs import one-shots.jsonl && nas-cron release --all
  ssh old-nas dump-one-shots | nas-cron jobs import - --dry-run")]
    Import(ImportArgs),
}

impl Audited for JobsArgs {
    fn act(&self) -> Option<Act> {
        match &self.command {
            JobsCommand::List(_) | JobsCommand::Show(_) => None,
            JobsCommand::Cancel(args) => Some(args.act()),
            JobsCommand::Fire(args) => Some(args.act()),
            JobsCommand::Redrive(args) => args.act(),
            JobsCommand::Nudge(args) => Some(args.act()),
            JobsCommand::Dismiss(args) => Some(args.act()),
            JobsCommand::Import(args) => (!args.dry_run).then(|| Act::new("import_jobs")),
        }
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(args: JobsArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        JobsCommand::List(args) => list::run(args, on, out).await,
        JobsCommand::Show(args) => show::run(&args, on, out).await,
        JobsCommand::Fire(args) => fire::run(&args, on, out).await,
        JobsCommand::Cancel(args) => cancel::run(&args, on, out).await,
        JobsCommand::Redrive(args) => redrive::run(args, on, out).await,
        JobsCommand::Nudge(args) => nudge::run(&args, on, out).await,
        JobsCommand::Dismiss(args) => dismiss::run(&args, on, out).await,
        JobsCommand::Import(args) => {
            import::run(&args, on.database("it stores a thousand one-shots per statement")?, out).await
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "nas-cron jobs")]
    struct Cli {
        #[command(flatten)]
        args: JobsArgs,
    }

    fn parse(args: &[&str]) -> Result<JobsArgs, String> {
        let matches = Cli::command().try_get_matches_from([&["jobs"], args].concat());
        matches
            .and_then(|matches| Cli::from_arg_matches(&matches))
            .map(|cli| cli.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn help_matches_its_snapshot() {
        let mut command = Cli::command().term_width(110);
        insta::assert_snapshot!(command.render_long_help(), @"
        List, show, cancel, fire, redrive, nudge and import one-shots.

        The command works on the database, also while the service is down, or with --server on a running service.

        Usage: nas-cron jobs <COMMAND>

        Commands:
          list     List one-shots, ordered by agent and job, or by the next attempt if that is a condition and neither
                   an agent nor an org is
          show     Show the current one-shot of a job and its latest attempts
          cancel   Cancel the one-shot of a job: no attempt starts any more
          fire     Fire the one-shot of a job now, before its instant
          redrive  Redrive dead letters: they are due now, with a fresh retry budget
          nudge    Fire the latest delivered key of a job once more, so that its agent arms the next fire
          dismiss  Dismiss a dormant job that has finished: it is no longer shown as dormant
          import   Import one-shots of another service from JSON Lines, and arm them
          help     Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron jobs list --state dead,stuck
          nas-cron jobs list --state dormant
          nas-cron jobs show agent-1 3f2a9c01d4e5
          nas-cron jobs redrive --org acme --dry-run
          nas-cron jobs import one-shots.jsonl

        Settings go before the subcommand: nas-cron jobs --config nas-cron.toml list
        ");
        let redrive = command.find_subcommand_mut("redrive").unwrap();
        insta::assert_snapshot!(redrive.render_long_help(), @"
        Redrive dead letters: they are due now, with a fresh retry budget.

        Select jobs of an agent (dead or stuck), all dead letters of an agent, of an org, or of the service. Those of
        one agent fire one after the other, so that thousands of them do not keep it from its other jobs.

        Usage: redrive [OPTIONS] <INSTANCE_ID|--org <ORG>|--all> [JOB_ID]...

        Arguments:
          [INSTANCE_ID]
                  Agent whose dead letters are redriven

          [JOB_ID]...
                  Jobs of the agent, at most 1,000 [default: all jobs]

        Options:
              --org <ORG>
                  All dead letters of this org

              --all
                  All dead letters of the service

              --job <JOB_ID>
                  Only the jobs with this ID, of each agent

              --include-stuck
                  Include stuck one-shots: the agent sent the same key again after three second fires

              --outcome <OUTCOME>
                  Only one-shots whose latest attempt ended so: delivered, gone, dropped, duplicate, failed, lost

              --error <TEXT>
                  Only one-shots whose last error contains this text, in any case

              --expired <true|false>
                  Only dead letters whose latest start (`not_after`) has passed, or whose retry budget is spent
                  
                  [possible values: true, false]

              --last-status <STATUS>
                  Only one-shots whose last response had this status; `none`: without a response

              --error-group <TEXT>
                  Only one-shots whose last error has this text as its first 48 characters, as dead letters are
                  grouped

              --no-error
                  Only one-shots without an error

              --fire-at-from <TIME>
                  Only one-shots with an instant from this one on

              --fire-at-before <TIME>
                  Only one-shots with an instant before this one

              --per-second <N>
                  Maximum number of redriven one-shots that fire per second and agent
                  
                  [default: 4]

              --dry-run
                  Count the one-shots without changing anything

              --json
                  Print JSON

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron jobs redrive agent-1 3f2a9c01d4e5
          nas-cron jobs redrive agent-1 3f2a9c01d4e5 7b10c2d3e4f5
          nas-cron jobs redrive agent-1
          nas-cron jobs redrive --org acme --error 503 --fire-at-from 2027-01-15T09:00:00Z
          nas-cron jobs redrive --all --include-stuck --dry-run
        ");
    }

    #[test]
    fn invalid_arguments_are_named() {
        assert!(parse(&["list", "--state", "dead,stuck"]).is_ok());
        for good in [
            &["list", "--job", "j"][..],
            &["redrive", "a"],
            &["redrive", "a", "j"],
            &["redrive", "--org", "o"],
            &[
                "redrive",
                "--all",
                "--job",
                "j",
                "--outcome",
                "failed",
                "--fire-at-before",
                "2027-01-15T09:00:00Z",
            ],
        ] {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            &["redrive"][..],
            &["redrive", "a", "--all"],
            &["redrive", "--org", "o", "--all"],
            &["redrive", "--job", "j"],
            &["redrive", "a", "j", "--job", "j"],
            &["redrive", "a", "j", "--error", "503"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        insta::assert_snapshot!(parse(&["list", "--state", "lost"]).unwrap_err(), @"
        error: invalid value 'lost' for '--state <STATE>': unknown value `lost`: one of armed, leased, firing, waiting, delivered, stuck, dead, dormant

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(parse(&["list", "--state", "parked"]).unwrap_err(), @"
        error: invalid value 'parked' for '--state <STATE>': a parked one-shot keeps its state; use `parked` instead of the state `parked`

        For more information, try '--help'.
        ");
    }
}
