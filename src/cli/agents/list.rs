//! `nas-cron agents list`.

use std::io::Write;

use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, or_dash, printable, relative};
use nas_cron_protocol::{InstanceId, OrgId};

use super::show::condition;
use crate::cli::operator::Operator;
use crate::domain::agent_search::AgentSearch;
use crate::domain::registration::{Agent, AgentFilter, AgentPage};

/// List agents, ordered by instance id.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(after_help = "\
Examples:
  nas-cron agents list --org acme
  nas-cron agents list --search gateway.example    Hosts of callbacks, or IDs, that begin so
  nas-cron agents list --unreachable
  nas-cron agents list --limit 1000 --after agent-0999 --json")]
pub(super) struct ListArgs {
    /// Only agents of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// Only agents whose ID, or whose callback with or without the scheme, begins with this text.
    #[arg(long, value_name = "TEXT")]
    search: Option<AgentSearch>,
    /// Only enabled agents.
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Only disabled agents.
    #[arg(long)]
    disabled: bool,
    /// Only agents whose callback is unreachable.
    #[arg(long)]
    unreachable: bool,
    /// Maximum number of agents.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Resume after this agent: the last line of the previous page.
    #[arg(long, value_name = "INSTANCE_ID")]
    after: Option<InstanceId>,
    /// Print JSON: {"agents": […], "next": … or null}; and `more_callbacks` if a search does not list all.
    #[arg(long)]
    json: bool,
}

/// The hint that a search is not complete.
const MORE_CALLBACKS: &str =
    "Not all are listed: more than 1,000 callbacks begin with this text. Use a longer one, or --org.";

/// Prints a page of the list.
pub(super) async fn run(args: ListArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let enabled = match (args.enabled, args.disabled) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let is_filtered = args.org.is_some()
        || args.search.is_some()
        || enabled.is_some()
        || args.unreachable
        || args.after.is_some();
    let filter = AgentFilter {
        org_id: args.org,
        search: args.search,
        enabled,
        unreachable: args.unreachable,
        ..AgentFilter::default()
    };
    let after = args.after.map(|after| after.to_string());
    let mut all = AgentPage { agents: Vec::new(), more_callbacks: false, next: after };
    loop {
        let room = args.limit - u32::try_from(all.agents.len()).unwrap_or(args.limit);
        let page = on.agents(&filter, room, all.next.as_deref()).await?;
        all.agents.extend(page.agents);
        all.more_callbacks |= page.more_callbacks;
        all.next = page.next;
        if all.next.is_none() || all.agents.len() >= args.limit as usize {
            break;
        }
    }
    if args.json {
        return terminal::json(out, &all);
    }
    let now = on.now().await?;
    out.write_all(agents_table(&all.agents, is_filtered, now).as_bytes())?;
    if all.more_callbacks {
        writeln!(out, "{MORE_CALLBACKS}")?;
    }
    if let Some(next) = all.next {
        writeln!(out, "More agents follow: --after {next}")?;
    }
    Ok(())
}

fn agents_table(agents: &[Agent], is_filtered: bool, now: DateTime<Utc>) -> String {
    if agents.is_empty() {
        let none =
            if is_filtered { "No agent matches." } else { "No agents. `nas-cron agents add` registers one." };
        return format!("{none}\n");
    }
    let mut table =
        terminal::table(&["AGENT", "ORG", "STATE", "ARMED", "PARKED", "DEAD", "NEXT ATTEMPT", "CALLBACK"]);
    for agent in agents {
        table.add_row([
            agent.instance_id.clone(),
            agent.org_id.clone(),
            condition(agent).to_owned(),
            agent.armed.to_string(),
            agent.parked.to_string(),
            agent.dead.to_string(),
            or_dash(agent.next_attempt_at.map(|at| relative(now, at))),
            or_dash(agent.callback_url.as_deref().map(printable)),
        ]);
    }
    terminal::text(table)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::agent;
    use super::*;

    #[test]
    fn table_matches_its_snapshot() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let disabled = Agent {
            instance_id: "agent-2".to_owned(),
            enabled: false,
            on_hold: true,
            callback_url: None,
            next_attempt_at: None,
            ..agent()
        };
        insta::assert_snapshot!(agents_table(&[agent(), disabled], false, now), @"
        AGENT    ORG   STATE     ARMED  PARKED  DEAD  NEXT ATTEMPT  CALLBACK
        agent-1  acme  ok        2      0       1     in 3 min      https://agent-1.example
        agent-2  acme  disabled  2      0       1     -             -
        ");
        insta::assert_snapshot!(agents_table(&[], false, now), @"No agents. `nas-cron agents add` registers one.");
        insta::assert_snapshot!(agents_table(&[], true, now), @"No agent matches.");
    }
}
