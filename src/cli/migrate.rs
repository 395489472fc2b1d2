//! `nas-cron migrate`

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use nas_cron_base::terminal;
use serde_json::json;

use super::audited::noted;
use super::process::init_log;
use crate::audit::Act;
use crate::config::{DatabaseOnly, Flags};
use crate::db::migrate::{SchemaState, Step, migrate, schema_state};
use crate::db::{Db, DbError, DbOptions, reach};

/// Time to wait for a database that is starting.
const CONNECT_WITHIN: Duration = Duration::from_secs(8);

/// Migrate the database schema to the version of this binary.
///
/// Concurrent runs are safe: one takes a lock and migrates, the others wait and find nothing to do. Replicas of the
/// previous release keep running during and after a migration, and a rollback to it needs no migration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron migrate --dry-run
  NAS_CRON_DATABASE_URL_FILE=/run/secrets/database_url nas-cron migrate --json")]
pub(super) struct Migrate {
    /// Show the pending migrations without applying them.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: {"status": "current" | "newer" | "pending" | "migrated", "steps": [{"version", "description"}]}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags<DatabaseOnly>,
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.flags.settings();
        let database = settings.database()?;
        init_log(&settings)?;
        let options = DbOptions { url: database.url, max_connections: 2, acquire_timeout: CONNECT_WITHIN };
        let db = Db::new(&options)?;
        let outcome = self.outcome(&db).await;
        db.close();
        terminal::print(&outcome?.render(self.json))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn outcome(&self, db: &Db) -> anyhow::Result<Outcome> {
        let unusable =
            |error: DbError| anyhow::Error::new(error).context("connecting to the database failed");
        reach(db, CONNECT_WITHIN).await.map_err(unusable)?;
        let state = schema_state(db).await.map_err(unusable)?;
        if let SchemaState::Ahead { found, known, usable: true } = state {
            return Ok(Outcome::Newer { found, known });
        }
        Ok(match plan(state)? {
            steps if steps.is_empty() => Outcome::Current,
            steps if self.dry_run => Outcome::Pending(steps),
            _ => {
                let done = migrate(db).await.context(
                    "the migration failed, and its step was rolled back; fix the cause and run `nas-cron migrate` again",
                )?;
                if let Some(last) = done.last() {
                    noted(db, &Act::new("migrate_schema").about("version", last.version)).await;
                }
                // Another process migrated between the check and the lock.
                if done.is_empty() { Outcome::Current } else { Outcome::Migrated(done) }
            }
        })
    }
}

/// Returns the missing steps, or an error if this release must not migrate the schema.
fn plan(state: SchemaState) -> anyhow::Result<Vec<Step>> {
    match state {
        SchemaState::Current => Ok(Vec::new()),
        SchemaState::Behind(steps) => Ok(steps),
        SchemaState::Ahead { found, known, .. } => bail!(
            "the database schema has version {found}, but this release knows versions up to {known}; nothing was \
             changed. Use the release that migrated it, or a later one"
        ),
        SchemaState::Diverged { version } => bail!(
            "step {version} in the database differs from the one of this release, or failed half-way; nothing was \
             changed. Check that database_url names a database of nas-cron; then compare its table _sqlx_migrations \
             with migrations/ of the release that applied it, or restore a backup"
        ),
    }
}

#[derive(Debug)]
enum Outcome {
    Current,
    /// A later release has migrated the schema, and this one may use it.
    Newer {
        found: i64,
        known: i64,
    },
    Pending(Vec<Step>),
    Migrated(Vec<Step>),
}

impl Outcome {
    fn render(&self, as_json: bool) -> String {
        let (status, steps) = match self {
            Self::Current => ("current", [].as_slice()),
            Self::Newer { .. } => ("newer", [].as_slice()),
            Self::Pending(steps) => ("pending", steps.as_slice()),
            Self::Migrated(steps) => ("migrated", steps.as_slice()),
        };
        if as_json {
            let steps: Vec<_> = steps
                .iter()
                .map(|step| json!({ "version": step.version, "description": step.description }))
                .collect();
            return json!({ "status": status, "steps": steps }).to_string();
        }
        let counted = match steps.len() {
            1 => "1 step".to_owned(),
            count => format!("{count} steps"),
        };
        let mut text = match self {
            Self::Current => "The schema is up to date: nothing to do.".to_owned(),
            Self::Newer { found, known } => format!(
                "The schema has version {found}, which a later release migrated. This release knows versions up to \
                 {known} and may use it: nothing to do."
            ),
            Self::Pending(_) => format!("{counted} to apply (dry run: nothing was changed):"),
            Self::Migrated(_) => format!("Applied {counted}:"),
        };
        for step in steps {
            write!(text, "\n  {:04}  {}", step.version, step.description)
                .expect("writing to a String does not fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn steps() -> Vec<Step> {
        vec![
            Step { version: 1, description: "init".to_owned() },
            Step { version: 2, description: "callbacks index".to_owned() },
        ]
    }

    #[test]
    fn outcomes_are_rendered_as_text_and_json() {
        assert_snapshot!(Outcome::Current.render(false), @"The schema is up to date: nothing to do.");
        assert_snapshot!(Outcome::Pending(steps()).render(false), @"
        2 steps to apply (dry run: nothing was changed):
          0001  init
          0002  callbacks index
        ");
        assert_snapshot!(Outcome::Migrated(steps()[..1].to_vec()).render(false), @"
        Applied 1 step:
          0001  init
        ");
        assert_snapshot!(Outcome::Newer { found: 7, known: 4 }.render(false), @"The schema has version 7, which a later release migrated. This release knows versions up to 4 and may use it: nothing to do.");
        assert_snapshot!(Outcome::Current.render(true), @r#"{"status":"current","steps":[]}"#);
        assert_snapshot!(Outcome::Migrated(steps()).render(true), @r#"{"status":"migrated","steps":[{"description":"init","version":1},{"description":"callbacks index","version":2}]}"#);
    }

    #[test]
    fn unknown_schemas_are_rejected() {
        assert_eq!(plan(SchemaState::Behind(steps())).unwrap(), steps());
        assert!(plan(SchemaState::Current).unwrap().is_empty());
        assert_snapshot!(plan(SchemaState::Ahead { found: 7, known: 1, usable: false }).unwrap_err(), @"the database schema has version 7, but this release knows versions up to 1; nothing was changed. Use the release that migrated it, or a later one");
        assert_snapshot!(plan(SchemaState::Diverged { version: 1 }).unwrap_err(), @"step 1 in the database differs from the one of this release, or failed half-way; nothing was changed. Check that database_url names a database of nas-cron; then compare its table _sqlx_migrations with migrations/ of the release that applied it, or restore a backup");
    }
}
