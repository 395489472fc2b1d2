//! `nas-cron agents import`.

use std::collections::HashMap;
use std::io::Write;

use anyhow::Context;
use clap::Args;

use crate::audit::Act;
use crate::cli::import_file::{self, BATCH, Columns, ImportArgs, Line, Lines, Report};
use crate::db::Db;
use crate::directory;
use crate::domain::registration::{Registration, Verdict};

const COLUMNS: Columns = Columns {
    known: &["instance_id", "org_id", "bootstrap_session_id", "callback_url", "enabled"],
    required: &["instance_id", "org_id"],
    flags: &["enabled"],
};

/// Register agents from a file in JSON Lines or CSV.
///
/// Fields: `instance_id`, `org_id`, and optionally `bootstrap_session_id`, `callback_url` and `enabled`. The first line of
/// a CSV names its columns. Fields that are left out keep their present values. Valid lines are imported and invalid lines
/// are reported, with exit code 1. Importing a file again changes nothing.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents import agents.csv --dry-run
  jq -c '.[] | {instance_id, org_id}' export.json | nas-cron agents import -")]
pub(super) struct ImportAgentsArgs {
    #[command(flatten)]
    import: ImportArgs,
    /// Allow moving agents to other orgs. Tokens of the old orgs then stop working.
    #[arg(long)]
    move_org: bool,
}

impl ImportAgentsArgs {
    /// Returns the line in the audit log.
    pub(super) fn act(&self) -> Option<Act> {
        (!self.import.dry_run).then(|| Act::new("import_agents"))
    }
}

/// Registers the agents of all valid lines, a thousand per statement, and reports every invalid line.
pub(super) async fn run(args: &ImportAgentsArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let ImportAgentsArgs { import: args, move_org } = args;
    let mut lines = Lines::open(&args.file, args.format, COLUMNS)?;
    let mut report = Report::new(args.dry_run, &["added", "updated", "unchanged"]);
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut batch: Vec<(u64, Registration)> = Vec::with_capacity(BATCH);
    let mut done = 0;
    loop {
        let line = lines.next()?;
        let end = line.is_none();
        if let Some(Line { number, fields }) = line {
            report.lines += 1;
            let registration = fields
                .and_then(|fields| directory::registration(fields, None).map_err(|error| error.to_string()));
            match registration {
                Ok(registration) => {
                    let name = registration.instance_id.as_str();
                    if let Some(first) = seen.get(name) {
                        report.bad(number, format!("instance_id: already on line {first}"));
                    } else {
                        seen.insert(name.to_owned(), number);
                        batch.push((number, registration));
                    }
                }
                Err(problem) => report.bad(number, problem),
            }
        }
        if batch.len() == BATCH || (end && !batch.is_empty()) {
            let (numbers, registrations): (Vec<u64>, Vec<Registration>) = batch.drain(..).unzip();
            let verdicts = directory::register_all(db, &registrations, *move_org, args.dry_run).await;
            let verdicts = verdicts.with_context(|| import_file::broke_off(done))?;
            done = numbers.last().copied().unwrap_or(done);
            for (number, verdict) in numbers.into_iter().zip(verdicts) {
                judge(&mut report, number, &verdict);
            }
        }
        if end {
            break;
        }
    }
    lines.finish();
    report.end(args.json, out)
}

/// Adds the result of a line to the report.
pub(in crate::cli) fn judge(report: &mut Report, number: u64, verdict: &Verdict) {
    match verdict {
        Verdict::Added => report.count("added"),
        Verdict::Updated => report.count("updated"),
        Verdict::Unchanged => report.count("unchanged"),
        Verdict::OtherOrg(org) => {
            report.bad(number, format!("org_id: the agent belongs to org `{org}`; --move-org moves it"));
        }
        Verdict::SessionTaken(other) => {
            report.bad(number, format!("bootstrap_session_id: belongs to agent `{other}` of the same org"));
        }
        Verdict::Raced | Verdict::Repeated => {
            report.bad(
                number,
                "instance_id: registered by another process at the same time; import the line again",
            );
        }
    }
}
