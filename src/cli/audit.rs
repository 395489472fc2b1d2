//! `nas-cron audit`: the log of state-changing calls and commands.

use std::io::Write;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use nas_cron_base::terminal::{self, or_dash, printable, shortened};
use nas_cron_protocol::InstanceId;
use serde_json::json;

use super::audited::Audited;
use super::operator::Operator;
use crate::audit::{self, Act, AuditFilter, AuditLine};

/// Read the audit log: who changed what, from where, with which outcome.
///
/// It has a line for every state-changing call of the admin API and every state-changing command. The setting
/// `audit_retention` is the time for which lines are kept.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron audit list --subject instance_id=agent-1
  nas-cron audit list --actor portal-2027 --since 2027-01-01T00:00:00Z --json

Settings go before the subcommand: nas-cron audit --config nas-cron.toml list")]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum AuditCommand {
    List(ListArgs),
}

/// List lines of the audit log, latest first.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron audit list --subject instance_id=agent-1
  nas-cron audit list --action delete_agent
  nas-cron audit list --actor cli:root@cron-1 --json")]
struct ListArgs {
    /// Only calls of this admin token, or commands of this user: `cli:<user>@<host>`.
    #[arg(long)]
    actor: Option<String>,
    /// Only calls of this action, such as `delete_agent`.
    #[arg(long)]
    action: Option<String>,
    /// Only calls about this, such as `instance_id=agent-1`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = audit::subject)]
    subject: Option<String>,
    /// Only calls about this agent, or with `--subject job_id=ID` about this job of it.
    #[arg(long, value_name = "INSTANCE_ID")]
    instance: Option<InstanceId>,
    /// Only calls at this time or later.
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Only calls before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    /// Maximum number of lines.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Resume before this cursor: the last line of the previous page.
    #[arg(long, value_name = "CURSOR")]
    before: Option<i64>,
    /// Print JSON: {"lines": […], "next": … or null}.
    #[arg(long)]
    json: bool,
}

impl Audited for AuditArgs {
    fn act(&self) -> Option<Act> {
        None
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(args: AuditArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let AuditCommand::List(args) = args.command;
    let filter = AuditFilter {
        actor: args.actor,
        action: args.action,
        subject: args.subject,
        instance_id: args.instance,
        since: args.since,
        until: args.until,
        within: None,
    };
    let (mut lines, mut before) = (Vec::new(), args.before);
    let next = loop {
        let room = args.limit - u32::try_from(lines.len()).unwrap_or(args.limit);
        let page = on.audit(&filter, room, before).await?;
        lines.extend(page.lines);
        before = page.next.as_deref().and_then(|next| next.parse().ok());
        if before.is_none() || lines.len() >= args.limit as usize {
            break page.next;
        }
    };
    if args.json {
        return terminal::json(out, &json!({ "lines": lines, "next": next }));
    }
    out.write_all(lines_table(&lines).as_bytes())?;
    if let Some(next) = next {
        writeln!(out, "More lines follow: --before {next}")?;
    }
    Ok(())
}

fn lines_table(lines: &[AuditLine]) -> String {
    if lines.is_empty() {
        return "No lines.\n".to_owned();
    }
    let mut table = terminal::table(&["TIME", "ACTOR", "ORIGIN", "ACTION", "SUBJECT", "OUTCOME", "DETAIL"]);
    for line in lines {
        let subject: Vec<_> = line.subject.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.add_row([
            line.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            line.actor.clone(),
            or_dash(line.origin.as_deref()),
            line.action.clone(),
            if subject.is_empty() { "-".to_owned() } else { printable(&subject.join(" ")) },
            line.outcome.to_string(),
            or_dash(line.detail.as_deref().map(|detail| shortened(&printable(detail), 64))),
        ]);
    }
    terminal::text(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditOutcome;

    #[test]
    fn table_matches_its_snapshot() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let line = AuditLine {
            id: 7,
            at,
            actor: "portal-2027".to_owned(),
            origin: Some("192.0.2.1".to_owned()),
            action: "put_agent".to_owned(),
            subject: [("instance_id".to_owned(), "agent-1".to_owned())].into(),
            outcome: AuditOutcome::Done,
            ended_at: Some(at),
            detail: None,
        };
        let refused = AuditLine {
            subject: [].into(),
            outcome: AuditOutcome::Refused,
            detail: Some("name: is\u{1b} missing".to_owned()),
            ..line.clone()
        };
        insta::assert_snapshot!(lines_table(&[line, refused]), @"
        TIME                  ACTOR        ORIGIN     ACTION     SUBJECT              OUTCOME  DETAIL
        2027-01-15T08:00:00Z  portal-2027  192.0.2.1  put_agent  instance_id=agent-1  done     -
        2027-01-15T08:00:00Z  portal-2027  192.0.2.1  put_agent  -                    refused  name: is  missing
        ");
        insta::assert_snapshot!(lines_table(&[]), @"No lines.");
    }
}
