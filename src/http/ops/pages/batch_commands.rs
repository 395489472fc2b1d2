//! The commands that do the same as an action on many jobs.

use std::collections::BTreeMap;

use super::jobs::listing;
use crate::domain::job_filter::JobFilter;
use crate::http::ops::actions::batch::Seen;
use crate::http::ops::view::{CommandLine, Html, for_each, shown};
use crate::operations::jobs;

/// Maximum number of commands that are shown.
const SHOWN: usize = 20;
/// Jobs of a list on the command line: as many as one redrive selects.
const LISTED: &str = "1000";

/// Commands, and what they do together.
pub(super) struct Commands {
    pub(super) introduction: &'static str,
    pub(super) lines: Vec<Html>,
    /// Number of the jobs that no line is about.
    pub(super) others: usize,
}

const SAME: &str = "The same on the command line:";

/// Returns the commands for all jobs of a filter. Only a redrive changes many jobs at once.
pub(super) fn of_matching(operation: &str, filter: &JobFilter, per_second: &str) -> Commands {
    let line = redrive(filter).filter(|_| operation == "redrive_jobs");
    let (introduction, line) = match line {
        Some(line) => (SAME, shown(&line.option("--per-second", per_second))),
        None => (
            "The same on the command line, for at most 1,000 jobs at a time (with jq):",
            for_each(&listing(filter).option("--limit", LISTED), &each(operation, per_second)),
        ),
    };
    Commands { introduction, lines: vec![line], others: 0 }
}

/// Returns the program for jq that prints a command for each job of a list, or for each agent of a redrive.
fn each(operation: &str, per_second: &str) -> String {
    let of_one = match operation {
        "hold_job" => r"hold --instance=\(.instance_id) --job=\(.job_id) --reason=REASON",
        "release_job" => r"release --instance=\(.instance_id) --job=\(.job_id)",
        "fire_job" => r"jobs fire -- \(.instance_id) \(.job_id)",
        "cancel_job" => r"jobs cancel -- \(.instance_id) \(.job_id)",
        _ => {
            // The page has checked that it is a number.
            let pace = per_second.parse::<u32>().unwrap_or_default();
            let redrive = format!(r"jobs redrive --per-second {pace} -- \(.[0].instance_id) \(map(.job_id))");
            return format!(r#".jobs | group_by(.instance_id)[] | @sh "nas-cron {redrive}""#);
        }
    };
    format!(r#".jobs[] | @sh "nas-cron {of_one}""#)
}

/// Returns the commands for selected jobs: one for each, or for each agent of a redrive.
pub(super) fn of_jobs(operation: &str, jobs: &[Seen], per_second: u32) -> Commands {
    let groups: Vec<Vec<&Seen>> = if operation == "redrive_jobs" {
        let mut by_agent: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for seen in jobs {
            by_agent.entry(seen.agent.as_str()).or_default().push(seen);
        }
        by_agent.into_values().collect()
    } else {
        jobs.iter().map(|seen| vec![seen]).collect()
    };
    let others = groups.iter().skip(SHOWN).map(Vec::len).sum();
    let lines = groups.iter().take(SHOWN).map(|group| shown(&on_jobs(operation, group, per_second)));
    Commands { introduction: SAME, lines: lines.collect(), others }
}

/// Returns the command on jobs of one agent: all of them for a redrive, or else the only one.
fn on_jobs(operation: &str, group: &[&Seen], per_second: u32) -> CommandLine {
    let (agent, job) = (group[0].agent.as_str(), group[0].job.as_str());
    let on = |line: CommandLine| line.option("--instance", agent).option("--job", job);
    match operation {
        "hold_job" => on(CommandLine::new("hold")).option("--reason", "REASON"),
        "release_job" => on(CommandLine::new("release")),
        "fire_job" => jobs::command("fire", agent, job),
        "cancel_job" => jobs::command("cancel", agent, job),
        _ => {
            let line = CommandLine::new("jobs redrive").option("--per-second", &per_second.to_string());
            line.of([agent]).of(group.iter().map(|seen| seen.job.as_str()))
        }
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
    use nas_cron_protocol::{InstanceId, JobId, ScheduleId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn selected_jobs_are_redriven_by_one_command_for_each_agent_and_others_one_by_one() {
        let seen = |agent: &str, job: &str| Seen {
            agent: InstanceId::new(agent).unwrap(),
            job: JobId::new(job).unwrap(),
            one_shot: ScheduleId(Uuid::from_u128(1)),
        };
        let jobs = [seen("b", "1"), seen("-a", "2"), seen("b", "--all")];
        let lines =
            |operation| of_jobs(operation, &jobs, 7).lines.iter().map(Html::to_string).collect::<String>();
        let redrive = lines("redrive_jobs");
        for line in [
            "nas-cron jobs redrive --per-second 7 -- -a 2",
            "nas-cron jobs redrive --per-second 7 -- b 1 --all",
        ] {
            assert!(redrive.contains(&format!("data-copy=\"{line}\"")), "{line}: {redrive}");
        }
        assert_eq!(lines("cancel_job").matches("data-copy").count(), 3);
        let many: Vec<_> = (0..30).map(|n| seen("a", &n.to_string())).collect();
        assert_eq!(of_jobs("redrive_jobs", &many, 4).others, 0);
        assert_eq!(of_jobs("fire_job", &many, 4).others, 10);
    }

    #[test]
    fn all_matching_jobs_are_changed_by_a_pipeline_that_quotes_their_ids() {
        let filter = JobFilter { org_id: Some("acme".parse().unwrap()), ..JobFilter::default() };
        let hold = of_matching("hold_job", &filter, "4").lines[0].to_string();
        let pipeline = "nas-cron jobs list --org acme --limit 1000 --json | jq -r &#39;.jobs[] | @sh &quot;nas-cron hold \
                        --instance=\\(.instance_id) --job=\\(.job_id) --reason=REASON&quot;&#39; | sh";
        assert!(hold.contains(&format!("data-copy=\"{pipeline}\"")), "{hold}");
        let mut stuck = JobFilter::default();
        stuck.set("state", "stuck").unwrap();
        let redrive = of_matching("redrive_jobs", &stuck, "9").lines[0].to_string();
        assert!(
            redrive.contains("jobs redrive --per-second 9 -- \\(.[0].instance_id) \\(map(.job_id))"),
            "{redrive}"
        );
    }

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
