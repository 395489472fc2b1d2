//! `nas-cron hold` and `nas-cron release`: stop fires for a while without losing any.

use std::io::Write;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use nas_cron_base::terminal::{self, capital, counted, or_dash, printable, relative};
use nas_cron_protocol::admin_api::{Coverage, StandingHold};
use nas_cron_protocol::{InstanceId, JobId, OrgId};

use super::audited::Audited;
use super::operator::Operator;
use crate::audit::Act;
use crate::domain::hold::{HoldTarget, named};

/// Hold the fires of all agents, of an org, of one agent or of one job.
///
/// Agents can still arm, cancel and list one-shots. Attempts in flight are finished; after this command has returned, no
/// attempt starts. One-shots that come due are parked, not lost: `nas-cron release` ends the hold, and they fire at once.
#[derive(Clone, Debug, Args)]
// Settings may precede the subcommand, so arguments do not conflict with it.
#[command(subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  nas-cron hold --all --reason \"database maintenance\"
  nas-cron hold --org acme
  nas-cron hold --instance agent-1 --job 3f2a9c01d4e5
  nas-cron hold list")]
pub struct HoldArgs {
    #[command(subcommand)]
    command: Option<HoldCommand>,
    #[command(flatten)]
    scope: Option<ScopeArgs>,
    /// Reason for the hold, shown by `nas-cron hold list`.
    #[arg(long)]
    reason: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum HoldCommand {
    /// List the holds with their age, reason and number of parked one-shots.
    List {
        /// Print JSON: {"holds": […]}. With `"more": true`, there are others.
        #[arg(long)]
        json: bool,
    },
}

/// End a hold. Its parked one-shots fire at once, unless another hold covers them.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron release --all
  nas-cron release --instance agent-1")]
pub struct ReleaseArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Scope of a hold.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
struct ScopeArgs {
    /// All agents of the service.
    #[arg(long, conflicts_with_all = ["org", "instance"])]
    all: bool,
    /// All agents of this org.
    #[arg(long, conflicts_with = "instance")]
    org: Option<OrgId>,
    /// Only this agent.
    #[arg(long, value_name = "INSTANCE_ID")]
    instance: Option<InstanceId>,
    /// Only this job of the agent.
    #[arg(long, value_name = "JOB_ID", requires = "instance")]
    job: Option<JobId>,
}

impl ScopeArgs {
    fn target(&self) -> HoldTarget {
        match (&self.org, &self.instance, &self.job) {
            (Some(org), ..) => HoldTarget::Org(org.clone()),
            (_, Some(instance), Some(job)) => HoldTarget::Job(instance.clone(), job.clone()),
            (_, Some(instance), None) => HoldTarget::Instance(instance.clone()),
            _ => HoldTarget::All,
        }
    }

    /// Returns a line in the audit log about the scope. `actions` are those of the service, an org, an instance and a job.
    fn act(&self, actions: [&'static str; 4]) -> Act {
        let [of_service, of_org, of_instance, of_job] = actions;
        match self.target() {
            HoldTarget::All => Act::new(of_service),
            HoldTarget::Org(org_id) => Act::new(of_org).about("org_id", &org_id),
            HoldTarget::Instance(instance_id) => Act::new(of_instance).about("instance_id", &instance_id),
            HoldTarget::Job(instance_id, job_id) => {
                Act::new(of_job).about("instance_id", &instance_id).about("job_id", &job_id)
            }
        }
    }
}

impl Audited for HoldArgs {
    fn act(&self) -> Option<Act> {
        let actions = ["hold_service", "hold_org", "hold_instance", "hold_job"];
        self.scope.as_ref().map(|scope| scope.act(actions))
    }
}

impl Audited for ReleaseArgs {
    fn act(&self) -> Option<Act> {
        Some(self.scope.act(["release_service", "release_org", "release_instance", "release_job"]))
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(args: HoldArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    match (args.command, args.scope) {
        (Some(HoldCommand::List { json }), None) => list(json, on, out).await,
        (Some(HoldCommand::List { .. }), Some(_)) => {
            bail!("`nas-cron hold list` lists the holds of all scopes")
        }
        (None, Some(scope)) => hold(&scope, args.reason.as_deref(), args.json, on, out).await,
        (None, None) => unreachable!("clap requires a scope or a subcommand"),
    }
}

async fn hold(
    args: &ScopeArgs,
    reason: Option<&str>,
    json: bool,
    on: &Operator,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let target = args.target();
    let held = on.hold(&target, reason).await?;
    if json {
        return terminal::json(out, &held);
    }
    let already = if held.new { "is on hold" } else { "was already on hold" };
    let Coverage { agents, armed, more, .. } = held.covers;
    let (agents, armed) = (counted(agents, "agent"), counted(armed, "one-shot"));
    let at_least = if more { "at least " } else { "" };
    let name = capital(&named(target.scope(), target.scope_id(), target.job_id().map(JobId::as_str)));
    writeln!(out, "{name} {already}: {at_least}{agents} with {armed}. None fires until `nas-cron release`.")?;
    Ok(())
}

/// Ends a hold, and writes to `out` how many one-shots it released.
pub async fn release(args: ReleaseArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let target = args.scope.target();
    let ended = on.release(&target).await?;
    if args.json {
        return terminal::json(out, &ended);
    }
    let name = capital(&named(target.scope(), target.scope_id(), target.job_id().map(JobId::as_str)));
    if ended.existed {
        writeln!(out, "{name} is released: {} no longer parked.", counted(ended.released, "one-shot"))?;
    } else {
        writeln!(out, "{name} was not on hold. `nas-cron hold list` shows the holds.")?;
    }
    if ended.still_parked > 0 {
        let parked = counted(ended.still_parked, "one-shot");
        if ended.releasing {
            writeln!(out, "Still parked: {parked}; the running service releases the rest within minutes.")?;
        } else {
            writeln!(
                out,
                "Still parked: {parked}, because of another hold or a disabled agent; see `nas-cron hold list`."
            )?;
        }
    }
    Ok(())
}

async fn list(json: bool, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let list = on.holds().await?;
    if json {
        return terminal::json(out, &list);
    }
    let now = on.now().await?;
    out.write_all(holds_table(&list.holds, now).as_bytes())?;
    if list.more {
        writeln!(
            out,
            "There are more holds, of agents or of jobs: `nas-cron jobs list --parked hold` lists what they hold."
        )?;
    }
    Ok(())
}

fn holds_table(holds: &[StandingHold], now: DateTime<Utc>) -> String {
    if holds.is_empty() {
        return "Nothing is on hold.\n".to_owned();
    }
    let mut table = terminal::table(&["ON HOLD", "SINCE", "AGENTS", "ARMED", "PARKED", "REASON"]);
    for StandingHold { hold, covers } in holds {
        table.add_row([
            named(hold.scope, &hold.scope_id, hold.job_id.as_deref()),
            relative(now, hold.created_at),
            covers.agents.to_string(),
            covers.armed.to_string(),
            covers.parked.to_string(),
            or_dash(hold.reason.as_deref().map(printable)),
        ]);
    }
    terminal::text(table)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use clap::{CommandFactory, FromArgMatches};
    use nas_cron_protocol::admin_api::Hold;

    use nas_cron_protocol::admin_api::HoldScope;

    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "nas-cron hold")]
    struct Cli {
        #[command(flatten)]
        args: HoldArgs,
    }

    fn parse(args: &[&str]) -> Result<HoldArgs, String> {
        let matches = Cli::command().try_get_matches_from([&["hold"], args].concat());
        matches
            .and_then(|matches| Cli::from_arg_matches(&matches))
            .map(|cli| cli.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn exactly_one_scope_is_required() {
        for good in [
            &["--all"][..],
            &["--org", "o"],
            &["--instance", "i", "--reason", "r"],
            &["--instance", "i", "--job", "j"],
            &["list"],
            &["list", "--json"],
        ] {
            assert!(parse(good).is_ok(), "{good:?}: {:?}", parse(good));
        }
        for bad in [
            &[][..],
            &["--all", "--org", "o"],
            &["--reason", "r"],
            &["--job", "j"],
            &["--org", "o", "--instance", "i"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let parsed = parse(&["--org", "o"]).unwrap();
        assert_eq!(parsed.scope.unwrap().target(), HoldTarget::Org(OrgId::new("o").unwrap()));
    }

    #[test]
    fn help_matches_its_snapshot() {
        insta::assert_snapshot!(Cli::command().term_width(110).render_long_help(), @r#"
        Hold the fires of all agents, of an org, of one agent or of one job.

        Agents can still arm, cancel and list one-shots. Attempts in flight are finished; after this command has
        returned, no attempt starts. One-shots that come due are parked, not lost: `nas-cron release` ends the hold,
        and they fire at once.

        Usage: nas-cron hold [OPTIONS] <--all|--org <ORG>|--instance <INSTANCE_ID>|--job <JOB_ID>>
               nas-cron hold [OPTIONS] <COMMAND>

        Commands:
          list  List the holds with their age, reason and number of parked one-shots
          help  Print this message or the help of the given subcommand(s)

        Options:
              --all
                  All agents of the service

              --org <ORG>
                  All agents of this org

              --instance <INSTANCE_ID>
                  Only this agent

              --job <JOB_ID>
                  Only this job of the agent

              --reason <REASON>
                  Reason for the hold, shown by `nas-cron hold list`

              --json
                  Print JSON

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron hold --all --reason "database maintenance"
          nas-cron hold --org acme
          nas-cron hold --instance agent-1 --job 3f2a9c01d4e5
          nas-cron hold list
        "#);
    }

    #[test]
    fn table_matches_its_snapshot() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let hold = |scope, scope_id: &str, reason: Option<&str>| StandingHold {
            hold: Hold {
                scope,
                scope_id: scope_id.to_owned(),
                job_id: None,
                reason: reason.map(str::to_owned),
                created_at: now - TimeDelta::minutes(5),
            },
            covers: Coverage { agents: 2, armed: 7, parked: 3, more: false },
        };
        let holds =
            [hold(HoldScope::All, "", Some("maintenance")), hold(HoldScope::Instance, "agent-1", None)];
        insta::assert_snapshot!(holds_table(&holds, now), @r#"
        ON HOLD            SINCE      AGENTS  ARMED  PARKED  REASON
        the whole service  5 min ago  2       7      3       maintenance
        agent agent-1      5 min ago  2       7      3       -
        "#);
        insta::assert_snapshot!(holds_table(&[], now), @"Nothing is on hold.");
    }
}
