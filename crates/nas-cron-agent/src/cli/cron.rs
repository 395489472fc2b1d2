//! `nas-cron cron`: an agent's or a person's client of any nas-cron server.

mod add;
mod identity;
mod list;
mod login;
mod update;
mod when;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use nas_cron_base::terminal::{self, UsageError};
use nas_cron_protocol::{AuthProfile, CallbackUrl, Given, JobId};

use super::connection::{Connection, ConnectionArgs, warn};
use crate::client::api::Warning;

/// Arm, change, see and cancel one-shots at any nas-cron server, as their agent.
///
/// It needs no database: it speaks the protocol that agents speak. Whom it calls, and as whom, is kept in the auth store
/// by `login` and `identity`, or given with each call.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron cron login --server https://portal.example < token.txt
  nas-cron cron add report --in 90s --callback-url https://agent-1.agents.example
  nas-cron cron add report --at 2026-06-18T14:30:00+02:00 --auth claude:work
  nas-cron cron update report --no-auth
  nas-cron cron list
  nas-cron cron show report --json
  nas-cron cron cancel report
  nas-cron cron identity on

Exit codes: 0 done; 1 refused, or failed; 2 the command line, the login or the auth store is wrong; 3 there is no such job.")]
pub struct Cron {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: CronCommand,
}

#[derive(Debug, Subcommand)]
enum CronCommand {
    Add(add::Add),
    Update(update::Update),
    List(list::List),
    Show(list::Show),
    Cancel(Cancel),
    Login(login::Login),
    Identity(identity::Identity),
}

/// Forget a job's one-shot: once this has answered, no attempt of it starts any more.
///
/// A job that is not there is fine.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  nas-cron cron cancel report")]
struct Cancel {
    /// The job.
    job_id: JobId,
    /// Print JSON: {"ok": true}.
    #[arg(long)]
    json: bool,
}

/// Where fires go to, for the commands that arm.
#[derive(Debug, Args)]
struct CallbackArgs {
    /// The agent's base URL: the fire goes to {URL}/api/cron/fire [env: `NAS_CRON_CALLBACK_URL`] [default: that of
    /// the latest `add` or `update` at this server].
    #[arg(long, value_name = "URL", value_parser = callback_url)]
    callback_url: Option<CallbackUrl>,
}

/// With which auth profile a job runs, for the commands that arm or change.
#[derive(Debug, Args)]
struct AuthArgs {
    /// The auth profile that the job runs with, as `provider:name`; never a secret [default: it keeps what it has].
    // No parser: an error of the command line repeats the value, which may be a secret by mistake.
    #[arg(long, value_name = "PROFILE")]
    auth: Option<String>,
    /// No auth profile of its own any more: it runs with its instance's, its org's or the service's default.
    #[arg(long, conflicts_with = "auth")]
    no_auth: bool,
}

impl AuthArgs {
    /// What looks like a secret goes no further than here.
    fn given(&self) -> Result<Given<AuthProfile>, UsageError> {
        let checked = self.auth.as_deref().map(AuthProfile::new).transpose();
        let checked = checked.map_err(|error| UsageError::new(format!("--auth {}", error.problem)))?;
        Ok(match checked {
            Some(auth) => Given::Set(auth),
            None if self.no_auth => Given::Clear,
            None => Given::Keep,
        })
    }
}

/// What is wrong with it, under the name it has here.
fn callback_url(text: &str) -> Result<CallbackUrl, String> {
    CallbackUrl::parse(text).map_err(|error| error.problem)
}

/// There is no such job.
const NOT_THERE: u8 = 3;

impl Cron {
    /// Runs the subcommand. The exit code is 0, or 3 where there is no such job.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let connection = &self.connection;
        match self.command {
            CronCommand::Add(command) => command.run(&connection.connect()?).await,
            CronCommand::Update(command) => command.run(&connection.connect()?).await,
            CronCommand::List(command) => command.run(&connection.connect()?).await,
            CronCommand::Show(command) => command.run(&connection.connect()?).await,
            CronCommand::Cancel(command) => command.run(&connection.connect()?).await,
            CronCommand::Login(command) => command.run(connection).await,
            CronCommand::Identity(command) => command.run(connection).await,
        }
    }
}

impl Cancel {
    async fn run(&self, connection: &Connection) -> anyhow::Result<ExitCode> {
        connection.client.cancel(self.job_id.as_str()).await.map_err(|error| connection.explained(error))?;
        if self.json {
            terminal::print_json(&serde_json::json!({ "ok": true }))?;
        } else {
            terminal::print(&format!("{} is cancelled: it does not fire any more.", self.job_id))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the server finds odd goes to stderr, also where the result is JSON.
fn tell(warnings: &[Warning]) {
    for warning in warnings {
        warn(&warning.message);
    }
}

/// Says that there is no such job.
fn not_there(job_id: &JobId) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "nas-cron: there is no job {}: it was never armed, was delivered, or was cancelled; `nas-cron cron list` shows what is \
         armed",
        terminal::printable(job_id.as_str())
    );
    ExitCode::from(NOT_THERE)
}
