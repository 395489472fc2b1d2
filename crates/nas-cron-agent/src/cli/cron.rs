//! `nas-cron cron`: a client of the agent API of any nas-cron server, for agents, people and scripts.

mod add;
mod identity;
mod list;
mod login;
mod show;
mod update;
mod when;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use nas_cron_base::terminal::{self, UsageError};
use nas_cron_protocol::{AuthChoice, CallbackUrl, Given, JobId};

use super::connection::{Connection, ConnectionArgs, warn};
use crate::client::api::Warning;

/// Arm, update, list and cancel one-shots on any nas-cron server, as their agent.
///
/// The commands need no database: they call the agent API, as agents do. The server and the credentials come from the
/// auth store, where `login` and `identity` keep them, or from options and environment variables.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron cron login --server https://portal.example < token.txt
  nas-cron cron add report --in 90s --callback-url https://agent-1.agents.example
  nas-cron cron add report --at 2026-06-18T14:30:00+02:00 --auth claude:work
  nas-cron cron update report --auth none
  nas-cron cron update report --no-auth
  nas-cron cron list
  nas-cron cron show report --json
  nas-cron cron cancel report
  nas-cron cron identity on

Exit codes: 0 success; 1 the call was rejected or failed; 2 invalid command line, login or auth store; 3 job not found.")]
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
    Show(show::Show),
    Cancel(Cancel),
    Login(login::Login),
    Identity(identity::Identity),
}

/// Cancel a job's one-shot. No attempt of it starts after the command has succeeded.
///
/// Cancelling an unknown job succeeds too.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  nas-cron cron cancel report")]
struct Cancel {
    /// ID of the job.
    job_id: JobId,
    /// Print JSON: {"ok": true}.
    #[arg(long)]
    json: bool,
}

/// Callback option of the commands that arm a one-shot.
#[derive(Debug, Args)]
struct CallbackArgs {
    /// Base URL of the agent; fires are sent to {URL}/api/cron/fire [env: `NAS_CRON_CALLBACK_URL`] [default: the URL of
    /// the latest `add` or `update` on this server].
    #[arg(long, value_name = "URL", value_parser = callback_url)]
    callback_url: Option<CallbackUrl>,
}

/// Auth options of the commands that arm or change a job.
#[derive(Debug, Args)]
struct AuthArgs {
    /// Auth profile that the job runs with, as `provider:name`; never a secret. Repeat it for several in order of
    /// preference, or give `none` for no profile even if there is a default [default: unchanged].
    // No value parser: clap's errors repeat the value, which may be a secret by mistake.
    #[arg(long, value_name = "PROFILE")]
    auth: Vec<String>,
    /// Remove the job's own setting: it then runs with the default of its instance, its org or the service.
    #[arg(long, conflicts_with = "auth")]
    no_auth: bool,
}

impl AuthArgs {
    /// Validates the options. A value that looks like a secret is neither sent nor printed.
    fn given(&self) -> Result<Given<AuthChoice>, UsageError> {
        match self.auth.as_slice() {
            [] if self.no_auth => Ok(Given::Clear),
            [] => Ok(Given::Keep),
            words => AuthChoice::from_words("--auth", words).map(Given::Set).map_err(UsageError::new),
        }
    }
}

/// Parses the option. The error omits the field's name on the wire, because clap names the option.
fn callback_url(text: &str) -> Result<CallbackUrl, String> {
    CallbackUrl::parse(text).map_err(|error| error.problem)
}

/// Exit code if the job is not found.
const JOB_NOT_FOUND: u8 = 3;

impl Cron {
    /// Runs the subcommand. The exit code is 0, or 3 if the job is not found.
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
        connection.client.cancel(self.job_id.as_str()).await.map_err(|error| connection.explain(error))?;
        if self.json {
            terminal::print_json(&serde_json::json!({ "ok": true }))?;
        } else {
            terminal::print(&format!("{} is cancelled and will not fire.", self.job_id))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints the server's warnings on stderr, also if the result is JSON.
fn print_warnings(warnings: &[Warning]) {
    for warning in warnings {
        warn(&warning.message);
    }
}

/// Reports that the job is not found, with the reason.
fn job_not_found(job_id: &JobId, reason: &str) -> ExitCode {
    use std::io::Write as _;
    let job = terminal::printable(job_id.as_str());
    let _ = writeln!(std::io::stderr(), "nas-cron: job {job} not found: {reason}");
    ExitCode::from(JOB_NOT_FOUND)
}
