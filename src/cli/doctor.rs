//! `nas-cron doctor`: checks a deployment from the machine that it runs on, and suggests fixes.

mod backend;
mod database;
mod deployment;
mod descriptors;
mod exposure;
mod keys;
mod portals;
mod replicas;
mod traces;
mod webhooks;
mod work;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::future::{BoxFuture, join_all};
use nas_cron_base::output;
use nas_cron_base::terminal::{self, counted};
use serde_json::json;

use self::deployment::{Deployment, Needs};
use crate::backends::checks::BackendCheck;
use crate::backends::factory;
use crate::config::{ConfigError, Everything, Flags};
use crate::diagnosis::{Finding, Status};

/// Time limit of one check.
const DEADLINE: Duration = Duration::from_secs(5);

/// Diagnose a deployment and suggest fixes.
///
/// Run it on the machine of the service, with the same settings as `serve`: the same environment and configuration file.
/// It checks the configuration, the database, the signing keys and the JWKS that agents fetch, the portal, the scheduler
/// backends, and the overdue fires. It fires nothing and changes nothing, except that it creates a missing NATS stream, as
/// `serve` does. Each check has 5 s.
#[derive(Debug, Args)]
#[command(after_help = "\
Marks:
  ✓ ok       healthy
  ! warning  works, but needs attention
  ✗ wrong    does not work, or will soon stop working
  -          not checked: it does not apply, or another problem prevents the check

Exit codes: 0 nothing is wrong (there may be warnings); 1 something is wrong.

Examples:
  nas-cron doctor                             With the settings in the environment
  nas-cron doctor --config nas-cron.toml
  kubectl exec deploy/nas-cron -- nas-cron doctor
  nas-cron doctor --json | jq -r '.checks[] | select(.status == \"wrong\") | .fix'")]
pub(super) struct Doctor {
    /// Print JSON: {"ok", "checks": [{"check", "status", "found", "fix"}]}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags<Everything>,
}

/// One check.
#[derive(Clone, Copy)]
struct Check {
    name: &'static str,
    /// The check is skipped without this.
    needs: Needs,
    look: Look,
}

/// The function that makes the finding.
#[derive(Clone, Copy)]
enum Look {
    /// A check of the deployment.
    Deployment(fn(&Deployment) -> BoxFuture<'_, Finding>),
    /// A check that a backend defines.
    Backend(&'static BackendCheck),
}

/// Builds `Check`s of asynchronous functions.
macro_rules! checks {
    ($($name:literal, $needs:ident, $look:path;)+) => {
        &[$(Check { name: $name, needs: Needs::$needs, look: Look::Deployment(|deployment| Box::pin($look(deployment))) }),+]
    };
}

/// Checks before those of the backends, in the order of the report.
const FIRST: &[Check] = checks![
    "database", Nothing, database::answers;
    "schema", Database, database::schema;
    "database clock", Database, database::clock;
    "notifications", Database, database::notifications;
    "signing key", Schema, keys::signing_key;
    "stored secrets", Schema, keys::stored_secrets;
    "agents' JWKS", Schema, keys::agents_jwks;
    "portal's keys", Nothing, keys::portal_keys;
    "directory", Nothing, portals::directory;
    "introspection", Nothing, portals::introspection;
    "further issuers", Nothing, portals::issuers;
    "public URLs", Nothing, exposure::public_urls;
    "admin API", Nothing, exposure::admin_api;
    "descriptors", Nothing, descriptors::descriptors;
    "replicas", Schema, replicas::running;
    "active backend", Schema, backend::active;
];

/// Checks after those of the backends, in the order of the report.
const LAST: &[Check] = checks![
    "wake-ups", Schema, work::wake_ups;
    "move", Schema, work::moving;
    "overdue", Schema, work::overdue;
    "dead letters", Schema, work::dead_letters;
    "dormant jobs", Schema, work::dormant;
    "unreachable agents", Schema, work::unreachable;
    "holds", Schema, work::holds;
    "webhooks", Schema, webhooks::webhooks;
    "traces", Nothing, traces::collector;
    "homes", Schema, work::homes;
    "quotas", Schema, work::quotas;
    "logins", Schema, work::logins;
];

/// A check with its finding.
#[derive(Debug, serde::Serialize)]
struct Line {
    check: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

impl Doctor {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let lines = match self.flags.settings().config() {
            Ok(config) => {
                let deployment = Deployment::new(config)?;
                let mut lines = vec![Line { check: "configuration", finding: Finding::ok("valid") }];
                lines.extend(examine(&deployment).await);
                lines
            }
            Err(error) => unconfigured(&error),
        };
        let out = &mut output::stdout();
        let printed = if self.json {
            let ok = !lines.iter().any(|line| line.finding.status == Status::Wrong);
            terminal::json(out, &json!({ "ok": ok, "checks": lines }))
        } else {
            let text = report(&lines, out.is_terminal());
            out.write_all(text.as_bytes()).map_err(Into::into)
        };
        printed?;
        let wrong = lines.iter().any(|line| line.finding.status == Status::Wrong);
        Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Returns all checks, in the order of the report.
fn checks() -> impl Iterator<Item = Check> {
    let of_backend = |check: &'static BackendCheck| Check {
        name: check.name,
        needs: if check.needs_schema { Needs::Schema } else { Needs::Nothing },
        look: Look::Backend(check),
    };
    FIRST.iter().copied().chain(factory::checks().map(of_backend)).chain(LAST.iter().copied())
}

/// Runs all checks concurrently. Returns the findings in the order of the report.
async fn examine(deployment: &Deployment) -> Vec<Line> {
    join_all(checks().map(async |check| {
        let look = || match check.look {
            Look::Deployment(look) => look(deployment),
            Look::Backend(check) => (check.look)(deployment.examined()),
        };
        let finding = match deployment.lacks(check.needs).await {
            Some(lacking) => Finding::skipped(lacking),
            None => tokio::time::timeout(DEADLINE, look()).await.unwrap_or_else(|_| {
                Finding::wrong(
                    "timed out after 5 s",
                    "run `nas-cron doctor` again when this machine is less busy",
                )
            }),
        };
        Line { check: check.name, finding }
    }))
    .await
}

/// The report for an invalid configuration: without settings, no other check can run.
fn unconfigured(error: &ConfigError) -> Vec<Line> {
    let problems: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
    let finding = Finding::wrong(
        problems.join("\n"),
        "correct these settings (`nas-cron config show` prints the values and their origins), then run `nas-cron doctor` \
         again for the other checks",
    );
    vec![Line { check: "configuration", finding }]
}

/// Formats the report as a table with a summary. `terminal` selects marks instead of words.
fn report(lines: &[Line], terminal: bool) -> String {
    let mut table = terminal::table(&[if terminal { "" } else { "STATUS" }, "CHECK", "FOUND"]);
    for Line { check, finding } in lines {
        let Finding { status, found, fix } = finding;
        let (mark, arrow) = if terminal { (status.sign(), "→") } else { (status.word(), "fix:") };
        let mut text: Vec<_> = found.lines().map(terminal::printable).collect();
        text.extend(fix.iter().map(|fix| format!("{arrow} {}", terminal::printable(fix))));
        table.add_row([mark, *check, &text.join("\n")]);
    }
    let count = |status| lines.iter().filter(|line| line.finding.status == status).count();
    let (wrong, warnings) = (count(Status::Wrong), count(Status::Warning));
    let counted = |count: usize, noun| counted(i64::try_from(count).unwrap_or(i64::MAX), noun);
    let summary = match (wrong, warnings) {
        (0, 0) => "No problems.".to_owned(),
        (wrong, 0) => format!("{}.", counted(wrong, "problem")),
        (0, warnings) => format!("No problems, {}.", counted(warnings, "warning")),
        (wrong, warnings) => format!("{}, {}.", counted(wrong, "problem"), counted(warnings, "warning")),
    };
    format!("{}\n{summary}\n", terminal::text(table))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "nas-cron doctor")]
    struct Cli {
        #[command(flatten)]
        _doctor: Doctor,
    }

    #[test]
    fn help_matches_its_snapshot() {
        // Without the settings, which all commands share.
        let mut command = Cli::command().term_width(110).mut_args(|arg| match arg.get_id().as_str() {
            "json" | "help" | "config" => arg,
            _ => arg.hide(true),
        });
        insta::assert_snapshot!(command.render_long_help(), @r#"
        Diagnose a deployment and suggest fixes.

        Run it on the machine of the service, with the same settings as `serve`: the same environment and
        configuration file. It checks the configuration, the database, the signing keys and the JWKS that agents
        fetch, the portal, the scheduler backends, and the overdue fires. It fires nothing and changes nothing, except
        that it creates a missing NATS stream, as `serve` does. Each check has 5 s.

        Usage: nas-cron doctor [OPTIONS]

        Options:
              --json
                  Print JSON: {"ok", "checks": [{"check", "status", "found", "fix"}]}

              --config <FILE>
                  Configuration file (TOML, `key = value`) [env: NAS_CRON_CONFIG]

          -h, --help
                  Print help (see a summary with '-h')

        Marks:
          ✓ ok       healthy
          ! warning  works, but needs attention
          ✗ wrong    does not work, or will soon stop working
          -          not checked: it does not apply, or another problem prevents the check

        Exit codes: 0 nothing is wrong (there may be warnings); 1 something is wrong.

        Examples:
          nas-cron doctor                             With the settings in the environment
          nas-cron doctor --config nas-cron.toml
          kubectl exec deploy/nas-cron -- nas-cron doctor
          nas-cron doctor --json | jq -r '.checks[] | select(.status == "wrong") | .fix'
        "#);
    }

    #[test]
    fn check_names_are_unique() {
        let names: HashSet<_> = checks().map(|check| check.name).collect();
        assert_eq!(names.len(), checks().count());
    }

    #[test]
    fn report_matches_its_snapshots() {
        let lines = [
            Line { check: "database", finding: Finding::ok("responds in 1 ms") },
            Line {
                check: "admin API",
                finding: Finding::warning("disabled", "set NAS_CRON_ADMIN_TOKEN_SHA256"),
            },
            Line { check: "schema", finding: Finding::wrong("lacks 2 steps\nand a \u{1b}[2J", "run it") },
            Line { check: "NATS", finding: Finding::skipped("not configured") },
        ];
        insta::assert_snapshot!(report(&lines, true), @"
           CHECK      FOUND
        ✓  database   responds in 1 ms
        !  admin API  disabled
                      → set NAS_CRON_ADMIN_TOKEN_SHA256
        ✗  schema     lacks 2 steps
                      and a  [2J
                      → run it
        -  NATS       not configured

        1 problem, 1 warning.
        ");
        insta::assert_snapshot!(report(&lines, false), @"
        STATUS   CHECK      FOUND
        ok       database   responds in 1 ms
        warning  admin API  disabled
                            fix: set NAS_CRON_ADMIN_TOKEN_SHA256
        wrong    schema     lacks 2 steps
                            and a  [2J
                            fix: run it
        -        NATS       not configured

        1 problem, 1 warning.
        ");
        assert!(report(&lines[..1], true).ends_with("\nNo problems.\n"));
        assert!(report(&lines[..2], true).ends_with("\nNo problems, 1 warning.\n"));
    }
}
