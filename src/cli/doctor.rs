//! `nas-cron doctor`: what of a deployment is well, seen from where it runs, and how to mend what is not.

mod backend;
mod database;
mod deployment;
mod descriptors;
mod exposure;
mod keys;
mod portals;
mod work;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::future::{BoxFuture, join_all};
use nas_cron_base::terminal::{self, counted};
use serde_json::json;

use self::deployment::{Deployment, Needs};
use crate::backends::checks::BackendCheck;
use crate::backends::factory;
use crate::config::{ConfigError, Everything, Flags};
use crate::diagnosis::{Finding, Status};

/// How long one check may take, once what it needs is there.
const DEADLINE: Duration = Duration::from_secs(5);

/// Check a deployment from where it runs, and say how to mend what is wrong.
///
/// Takes the settings that `serve` takes: run it beside the service, with the same environment and file. It looks at
/// the configuration, the database, the signing keys and where agents fetch them, the portal, the scheduler backends,
/// and at what should have fired. It fires and moves nothing; a NATS stream that is missing is made, as `serve` would.
/// What has no answer within 5 s says so.
#[derive(Debug, Args)]
#[command(after_help = "\
Marks: ✓ (ok) as it should be; ! (warning) look at it when there is time; ✗ (wrong) does not work, or not for long.
A dash: there is nothing to look at, or it cannot be looked at before something else is mended.

Exit codes: 0 all well, warnings included; 1 something is wrong.

Examples:
  nas-cron doctor                             With the environment of the service
  nas-cron doctor --config nas-cron.toml
  kubectl exec deploy/nas-cron -- nas-cron doctor
  nas-cron doctor --json | jq -r '.checks[] | select(.status == \"wrong\") | .mend'")]
pub(super) struct Doctor {
    /// Print JSON: {"well", "checks": [{"check", "status", "found", "mend"}]}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags<Everything>,
}

/// One thing to look at.
#[derive(Clone, Copy)]
struct Check {
    name: &'static str,
    /// Without this there is nothing to be found out.
    needs: Needs,
    look: Look,
}

/// Finds out.
#[derive(Clone, Copy)]
enum Look {
    /// At the deployment.
    Deployment(fn(&Deployment) -> BoxFuture<'_, Finding>),
    /// At a backend, as it brings it.
    Backend(&'static BackendCheck),
}

/// `Check`s of functions that answer in their own time.
macro_rules! checks {
    ($($name:literal, $needs:ident, $look:path;)+) => {
        &[$(Check { name: $name, needs: Needs::$needs, look: Look::Deployment(|deployment| Box::pin($look(deployment))) }),+]
    };
}

/// What is looked at before the checks of backends, in the order in which it is shown.
const FIRST: &[Check] = checks![
    "database", Nothing, database::answers;
    "schema", Database, database::schema;
    "database clock", Database, database::clock;
    "notifications", Database, database::notifications;
    "signing key", Schema, keys::signing_key;
    "agents' JWKS", Schema, keys::agents_jwks;
    "portal's keys", Nothing, keys::portal_keys;
    "directory", Nothing, portals::directory;
    "introspection", Nothing, portals::introspection;
    "further issuers", Nothing, portals::issuers;
    "public URLs", Nothing, exposure::public_urls;
    "admin API", Nothing, exposure::admin_api;
    "descriptors", Nothing, descriptors::descriptors;
    "active backend", Schema, backend::active;
];

/// What is looked at after them.
const LAST: &[Check] = checks![
    "wake-ups", Schema, work::wake_ups;
    "move", Schema, work::moving;
    "overdue", Schema, work::overdue;
    "dead letters", Schema, work::dead_letters;
    "holds", Schema, work::holds;
    "logins", Schema, work::logins;
];

/// What one check found.
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
                let mut lines = vec![Line { check: "configuration", finding: Finding::ok("sound") }];
                lines.extend(examine(&deployment).await);
                lines
            }
            Err(error) => unconfigured(&error),
        };
        let out = &mut io::stdout();
        let printed = if self.json {
            let well = !lines.iter().any(|line| line.finding.status == Status::Wrong);
            terminal::json(out, &json!({ "well": well, "checks": lines }))
        } else {
            let text = report(&lines, out.is_terminal());
            out.write_all(text.as_bytes()).map_err(Into::into)
        };
        super::operator_command::ended(printed)?;
        let wrong = lines.iter().any(|line| line.finding.status == Status::Wrong);
        Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Everything that is looked at, in the order in which it is shown.
fn checks() -> impl Iterator<Item = Check> {
    let of_backend = |check: &'static BackendCheck| Check {
        name: check.name,
        needs: if check.needs_schema { Needs::Schema } else { Needs::Nothing },
        look: Look::Backend(check),
    };
    FIRST.iter().copied().chain(factory::checks().map(of_backend)).chain(LAST.iter().copied())
}

/// All checks at once; the answers in their order.
async fn examine(deployment: &Deployment) -> Vec<Line> {
    join_all(checks().map(async |check| {
        let look = || match check.look {
            Look::Deployment(look) => look(deployment),
            Look::Backend(check) => (check.look)(deployment.examined()),
        };
        let finding = match deployment.lacks(check.needs).await {
            Some(lacking) => Finding::skipped(lacking),
            None => tokio::time::timeout(DEADLINE, look()).await.unwrap_or_else(|_| {
                Finding::wrong("no answer within 5 s", "see what keeps it, and look again")
            }),
        };
        Line { check: check.name, finding }
    }))
    .await
}

/// Nothing can be looked at without settings.
fn unconfigured(error: &ConfigError) -> Vec<Line> {
    let problems: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
    let finding = Finding::wrong(
        problems.join("\n"),
        "`nas-cron config show` tells what holds and where it comes from; the rest is looked at after that",
    );
    vec![Line { check: "configuration", finding }]
}

/// A table and its sum. For people on a terminal with signs, elsewhere in words.
fn report(lines: &[Line], terminal: bool) -> String {
    let mut table = terminal::bare();
    for Line { check, finding } in lines {
        let Finding { status, found, fix } = finding;
        let (mark, arrow) = if terminal { (status.sign(), "→") } else { (status.word(), "mend:") };
        let mut text: Vec<_> = found.lines().map(terminal::printable).collect();
        text.extend(fix.iter().map(|fix| format!("{arrow} {}", terminal::printable(fix))));
        table.add_row([mark, *check, &text.join("\n")]);
    }
    let count = |status| lines.iter().filter(|line| line.finding.status == status).count();
    let (wrong, warnings) = (count(Status::Wrong), count(Status::Warning));
    let warnings = counted(i64::try_from(warnings).unwrap_or(i64::MAX), "warning");
    let sum = match (wrong, count(Status::Warning)) {
        (0, 0) => "All is well.".to_owned(),
        (0, _) => format!("It works, with {warnings}."),
        (wrong, _) => format!("{wrong} wrong, {warnings}."),
    };
    format!("{}\n{sum}\n", terminal::text(table))
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
    fn the_help_teaches() {
        // Without the settings, which are the same as everywhere.
        let mut command = Cli::command().term_width(110).mut_args(|arg| match arg.get_id().as_str() {
            "json" | "help" | "config" => arg,
            _ => arg.hide(true),
        });
        insta::assert_snapshot!(command.render_long_help(), @r#"
        Check a deployment from where it runs, and say how to mend what is wrong.

        Takes the settings that `serve` takes: run it beside the service, with the same environment and file. It looks
        at the configuration, the database, the signing keys and where agents fetch them, the portal, the scheduler
        backends, and at what should have fired. It fires and moves nothing; a NATS stream that is missing is made, as
        `serve` would. What has no answer within 5 s says so.

        Usage: nas-cron doctor [OPTIONS]

        Options:
              --json
                  Print JSON: {"well", "checks": [{"check", "status", "found", "mend"}]}

              --config <FILE>
                  TOML file with settings, `key = value` [env: NAS_CRON_CONFIG]

          -h, --help
                  Print help (see a summary with '-h')

        Marks: ✓ (ok) as it should be; ! (warning) look at it when there is time; ✗ (wrong) does not work, or not for
        long.
        A dash: there is nothing to look at, or it cannot be looked at before something else is mended.

        Exit codes: 0 all well, warnings included; 1 something is wrong.

        Examples:
          nas-cron doctor                             With the environment of the service
          nas-cron doctor --config nas-cron.toml
          kubectl exec deploy/nas-cron -- nas-cron doctor
          nas-cron doctor --json | jq -r '.checks[] | select(.status == "wrong") | .mend'
        "#);
    }

    #[test]
    fn every_check_has_its_own_name() {
        let names: HashSet<_> = checks().map(|check| check.name).collect();
        assert_eq!(names.len(), checks().count());
    }

    #[test]
    fn the_report() {
        let lines = [
            Line { check: "database", finding: Finding::ok("answers in 1 ms") },
            Line {
                check: "admin API",
                finding: Finding::warning("closed", "set NAS_CRON_ADMIN_TOKEN_SHA256"),
            },
            Line { check: "schema", finding: Finding::wrong("lacks 2 steps\nand a \u{1b}[2J", "run it") },
            Line { check: "NATS", finding: Finding::skipped("not configured") },
        ];
        insta::assert_snapshot!(report(&lines, true), @"
        ✓  database   answers in 1 ms
        !  admin API  closed
                      → set NAS_CRON_ADMIN_TOKEN_SHA256
        ✗  schema     lacks 2 steps
                      and a  [2J
                      → run it
        -  NATS       not configured

        1 wrong, 1 warning.
        ");
        insta::assert_snapshot!(report(&lines, false), @"
        ok       database   answers in 1 ms
        warning  admin API  closed
                            mend: set NAS_CRON_ADMIN_TOKEN_SHA256
        wrong    schema     lacks 2 steps
                            and a  [2J
                            mend: run it
        -        NATS       not configured

        1 wrong, 1 warning.
        ");
        assert!(report(&lines[..1], true).ends_with("\nAll is well.\n"));
        assert!(report(&lines[..2], true).ends_with("\nIt works, with 1 warning.\n"));
    }
}
