//! The commands that do the same as an action on many jobs.

use super::jobs::listing;
use crate::domain::job_filter::JobFilter;
use crate::http::ops::actions::batch::Seen;
use crate::http::ops::view::{CommandLine, Html, shown};
use crate::operations::jobs;

/// Commands, and what they do together.
pub(super) struct Commands {
    pub(super) introduction: &'static str,
    pub(super) lines: Vec<Html>,
}

const SAME: &str = "The same on the command line:";

/// Returns the commands for all jobs of a filter. Only a redrive changes many jobs at once.
pub(super) fn of_matching(operation: &str, filter: &JobFilter, per_second: &str) -> Commands {
    if operation == "redrive_jobs"
        && let Some(line) = redrive(filter)
    {
        return Commands { introduction: SAME, lines: vec![shown(&line.option("--per-second", per_second))] };
    }
    let one = on_job(operation, "INSTANCE_ID", "JOB_ID");
    Commands {
        introduction: "On the command line, a list of the jobs, and the command for each:",
        lines: listing(filter).iter().chain([&one]).map(shown).collect(),
    }
}

/// Returns the commands for selected jobs, one for each.
pub(super) fn of_jobs<'a>(operation: &str, jobs: impl Iterator<Item = &'a Seen>) -> Commands {
    let lines = jobs.map(|seen| shown(&on_job(operation, seen.agent.as_str(), seen.job.as_str())));
    Commands { introduction: SAME, lines: lines.collect() }
}

fn on_job(operation: &str, agent: &str, job: &str) -> CommandLine {
    let on = |line: CommandLine| line.option("--instance", agent).option("--job", job);
    match operation {
        "hold_job" => on(CommandLine::new("hold")).option("--reason", "REASON"),
        "release_job" => on(CommandLine::new("release")),
        "fire_job" => jobs::command("fire", agent, job),
        "cancel_job" => jobs::command("cancel", agent, job),
        _ => jobs::command("redrive", agent, job),
    }
}

/// Conditions that are options of `nas-cron jobs redrive`.
const OPTIONS: [(&str, &str); 9] = [
    ("job_id", "--job"),
    ("outcome", "--outcome"),
    ("error", "--error"),
    ("expired", "--expired"),
    ("last_status", "--last-status"),
    ("error_group", "--error-group"),
    ("fire_at_from", "--fire-at-from"),
    ("fire_at_before", "--fire-at-before"),
    ("org_id", "--org"),
];

/// Returns the command that redrives the jobs of a filter; `None` if it has no option for a condition.
fn redrive(filter: &JobFilter) -> Option<CommandLine> {
    if filter.instance_id.is_some() && filter.org_id.is_some() {
        return None;
    }
    let everything = filter.instance_id.is_none() && filter.org_id.is_none();
    let line = CommandLine::new("jobs redrive");
    let line = if everything { line.flag("--all") } else { line };
    filter.pairs().into_iter().try_fold(line, |line, (name, value)| match (name, value.as_str()) {
        ("state", "dead") => Some(line),
        ("state", "dead,stuck" | "stuck,dead") => Some(line.flag("--include-stuck")),
        ("state", _) => None,
        ("instance_id", agent) => Some(line.of([agent])),
        ("no_error", _) => Some(line.flag("--no-error")),
        (name, value) => {
            let (_, option) = OPTIONS.iter().find(|(condition, _)| *condition == name)?;
            Some(line.option(option, value))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_redrives_the_same_jobs_or_there_is_none() {
        let of = |pairs: &[(&str, &str)]| {
            let mut filter = JobFilter::default();
            for (name, value) in pairs {
                filter.set(name, value).unwrap();
            }
            redrive(&filter).map(|line| line.to_string()).unwrap_or_default()
        };
        assert_eq!(of(&[("state", "dead")]), "nas-cron jobs redrive --all");
        let both = [("state", "stuck,dead"), ("org_id", "-acme"), ("error", "no route")];
        assert_eq!(of(&both), "nas-cron jobs redrive --org=-acme --include-stuck --error 'no route'");
        let group = [("state", "dead"), ("expired", "false"), ("last_status", "none"), ("no_error", "true")];
        assert_eq!(of(&group), "nas-cron jobs redrive --all --expired false --last-status none --no-error");
        assert_eq!(of(&[("state", "dead"), ("instance_id", "-a")]), "nas-cron jobs redrive -- -a");
        for pairs in [[("state", "stuck"), ("error", "x")], [("state", "dead"), ("parked", "true")]] {
            assert_eq!(of(&pairs), "", "{pairs:?}");
        }
    }
}
