//! `nas-cron orgs`: the orgs of the registered agents, and the deletion of everything of an org.

use std::io::Write;

use clap::{Args, Subcommand};
use nas_cron_base::terminal;
use nas_cron_protocol::OrgId;
use nas_cron_protocol::admin_api::{DeletionCount, DeletionReport, ListedOrg, Org, OrgPage};

use super::audited::Audited;
use super::operator::Operator;
use super::quota::{self, QuotaArgs};
use crate::audit::Act;
use crate::domain::quota::QuotaTarget;
use crate::operations::orgs::{DeletionOf, MAX_ORGS, in_words};

/// List and show orgs, and delete everything of an org.
///
/// The command works on the database, also while the service is down, or with --server on a running service.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron orgs list
  nas-cron orgs show acme
  nas-cron orgs delete acme                   Count what would be deleted

Settings go before the subcommand: nas-cron orgs --config nas-cron.toml list")]
pub struct OrgsArgs {
    #[command(subcommand)]
    command: OrgsCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum OrgsCommand {
    /// List the orgs with agents, ordered by ID.
    List {
        /// Maximum number of orgs.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Resume after this cursor: the last line of the previous page.
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
        /// Print JSON: {"orgs": […], "next": … or null}.
        #[arg(long)]
        json: bool,
    },
    /// Show the counts of an org's agents and jobs.
    Show {
        /// Org to show.
        org: OrgId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show or set the quota of armed jobs of all agents of an org together.
    ///
    /// A new job beyond the quota is rejected. Jobs that are armed stay armed, and are always armed again.
    #[command(after_help = "\
Examples:
  nas-cron orgs quota acme
  nas-cron orgs quota acme --set 50000")]
    Quota {
        /// Org of the agents.
        org: OrgId,
        #[command(flatten)]
        args: QuotaArgs,
    },
    /// Delete everything of an org: its agents, their jobs, history, identities, logins, auth profiles and holds.
    ///
    /// Without --confirm, the command only counts, and prints the value that confirms the deletion. Stop the agents at the
    /// portal first, or they register again.
    #[command(after_help = "\
Examples:
  nas-cron orgs delete acme
  nas-cron orgs delete acme --confirm 4f0c11aa93d2")]
    Delete {
        /// Org to delete.
        org: OrgId,
        /// The value that the count has printed.
        #[arg(long, value_name = "VALUE")]
        confirm: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Audited for OrgsArgs {
    fn act(&self) -> Option<Act> {
        match &self.command {
            OrgsCommand::Delete { org, confirm: Some(_), .. } => {
                Some(Act::new("delete_everything").about("org_id", org))
            }
            OrgsCommand::Quota { org, args } => args.act(&QuotaTarget::Org(org.clone())),
            _ => None,
        }
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(args: OrgsArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        OrgsCommand::List { limit, after, json } => list(on, limit, after, json, out).await,
        OrgsCommand::Show { org, json } => {
            let found = on.org(&org).await?;
            if json {
                return terminal::json(out, &found);
            }
            out.write_all(facts(&found).as_bytes())?;
            Ok(())
        }
        OrgsCommand::Quota { org, args } => quota::run(&args, &QuotaTarget::Org(org), on, out).await,
        OrgsCommand::Delete { org, confirm, json } => {
            let name = format!("org {org}");
            delete(on, &DeletionOf::Org(org), &name, confirm.as_deref(), json, out).await
        }
    }
}

async fn list(
    on: &Operator,
    limit: u32,
    after: Option<String>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut all = OrgPage { orgs: Vec::new(), next: after };
    loop {
        let room = limit - u32::try_from(all.orgs.len()).unwrap_or(limit);
        let page = on.orgs(room.min(MAX_ORGS), all.next.as_deref()).await?;
        all.orgs.extend(page.orgs);
        all.next = page.next;
        if all.next.is_none() || all.orgs.len() >= limit as usize {
            break;
        }
    }
    if json {
        return terminal::json(out, &all);
    }
    out.write_all(table(&all.orgs).as_bytes())?;
    if let Some(next) = all.next {
        writeln!(out, "More orgs follow: --after {next}")?;
    }
    Ok(())
}

/// Counts what a deletion removes, or with `confirm` deletes it to its end.
pub(super) async fn delete(
    on: &Operator,
    of: &DeletionOf,
    name: &str,
    confirm: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut report = on.delete_everything(of, confirm).await?;
    while let (Some(_), Some(next)) = (confirm, &report.confirm) {
        let rest = on.delete_everything(of, Some(next.as_str())).await?;
        report = DeletionReport { deleted: sum(report.deleted, rest.deleted), ..rest };
    }
    if json {
        return terminal::json(out, &report);
    }
    match &report.confirm {
        Some(value) => {
            let more = if report.more { ", and more" } else { "" };
            writeln!(out, "Nothing was deleted. There are {}{more} of {name}.", in_words(report.found))?;
            writeln!(out, "To delete all of it, run the command again with --confirm {value}")?;
        }
        None => writeln!(out, "Everything of {name} is deleted: {}.", in_words(report.deleted))?,
    }
    Ok(())
}

const fn sum(a: DeletionCount, b: DeletionCount) -> DeletionCount {
    DeletionCount {
        agents: a.agents + b.agents,
        jobs: a.jobs + b.jobs,
        attempts: a.attempts + b.attempts,
        settings: a.settings + b.settings,
        events: a.events + b.events,
    }
}

fn table(orgs: &[ListedOrg]) -> String {
    if orgs.is_empty() {
        return "No orgs: no agent is registered.\n".to_owned();
    }
    let mut table = terminal::table(&["ORG", "AGENTS", "ON HOLD"]);
    for org in orgs {
        let more = if org.more { "+" } else { "" };
        let on_hold = if org.on_hold { "yes" } else { "-" };
        table.add_row([org.org_id.clone(), format!("{}{more}", org.agents), on_hold.to_owned()]);
    }
    terminal::text(table)
}

fn facts(org: &Org) -> String {
    let more = if org.more { " or more" } else { "" };
    let count = |number: i64| format!("{number}{more}");
    terminal::text(terminal::facts(&[
        ("org", org.org_id.clone()),
        ("on hold", if org.on_hold { "yes" } else { "no" }.to_owned()),
        ("agents", count(org.agents)),
        ("disabled", count(org.disabled)),
        ("unreachable", count(org.unreachable)),
        ("armed", count(org.armed)),
        ("parked", count(org.parked)),
        ("dead", count(org.dead)),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_facts_match_their_snapshots() {
        let org =
            |org_id: &str, more, on_hold| ListedOrg { org_id: org_id.to_owned(), agents: 7, more, on_hold };
        insta::assert_snapshot!(table(&[org("acme", false, true), org("big", true, false)]), @"
        ORG   AGENTS  ON HOLD
        acme  7       yes
        big   7+      -
        ");
        let org = Org {
            org_id: "acme".to_owned(),
            agents: 7,
            disabled: 1,
            unreachable: 0,
            armed: 20,
            parked: 2,
            dead: 3,
            more: false,
            on_hold: false,
        };
        insta::assert_snapshot!(facts(&org), @"
        org          acme
        on hold      no
        agents       7
        disabled     1
        unreachable  0
        armed        20
        parked       2
        dead         3
        ");
    }
}
