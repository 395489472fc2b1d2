//! `nas-cron cron update`

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::{self, UsageError};
use nas_cron_protocol::JobId;

use super::add::print_armed;
use super::when::{LimitArgs, WhenArgs, next_fire};
use super::{AuthArgs, CallbackArgs, job_not_found, print_warnings};
use crate::cli::connection::Connection;
use crate::client::api::ChangedAuth;
use crate::client::update::{Update as Wanted, UpdateError, Updated};

/// Update a job's time, limit, callback URL or auth. Everything else stays unchanged.
///
/// A new time or callback URL arms a new one-shot; a new auth alone keeps the current one.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args(["at", "wait", "auth", "no_auth", "callback_url", "not_after"]))]
#[command(after_help = "\
Examples:
  nas-cron cron update report --in 2h
  nas-cron cron update report --auth claude:work
  nas-cron cron update report --no-auth --callback-url https://agent-2.agents.example")]
pub(super) struct Update {
    /// ID of the job.
    job_id: JobId,
    #[command(flatten)]
    when: WhenArgs,
    #[command(flatten)]
    limit: LimitArgs,
    #[command(flatten)]
    auth: AuthArgs,
    #[command(flatten)]
    callback: CallbackArgs,
    /// Print JSON: the new one-shot if one was armed, otherwise the job and its auth.
    #[arg(long)]
    json: bool,
}

impl Update {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let now = SystemClock.now();
        let named = self.callback.callback_url.as_ref();
        let wanted = Wanted {
            auth: self.auth.given()?,
            fire_at: self.when.fire_at(now)?.map(|at| at.as_str().to_owned()),
            agent_callback_url: named.map(|url| url.as_str().to_owned()),
            not_after: self.limit.given(),
        };
        let done = match self.update(connection, wanted).await {
            Err(UpdateError::JobNotFound) => {
                let reason =
                    "it was never armed, was delivered or was cancelled; `nas-cron cron show` tells more";
                return Ok(job_not_found(&self.job_id, reason));
            }
            Err(UpdateError::Client(error)) => return Err(connection.explain(error)),
            Err(UpdateError::MissingCallback) => {
                let problem = "callback URL missing: the server does not report the job's current one; give --callback-url URL";
                return Err(UsageError::new(problem).into());
            }
            Ok(done) => done,
        };
        match done {
            Updated::Armed(request, provisioned) => {
                connection.store_callback(&request.agent_callback_url).await;
                print_armed(&request, &provisioned, now, self.json)?;
            }
            Updated::Auth(changed) => {
                print_warnings(&changed.warnings);
                if self.json {
                    terminal::print_json(&changed)?;
                } else {
                    terminal::print(&in_words(&changed))?;
                }
            }
            Updated::Unchanged(job) if self.json => terminal::print_json(&job)?,
            Updated::Unchanged(job) => {
                terminal::print(&format!("{} is unchanged: {}.", self.job_id, next_fire(now, &job.fire_at)))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn update(&self, connection: &Connection, mut wanted: Wanted) -> Result<Updated, UpdateError> {
        match connection.client.update(self.job_id.as_str(), wanted.clone()).await {
            // The auth store may hold the URL that the server does not report.
            Err(UpdateError::MissingCallback) => {
                let known = connection.callback_url(None).ok().flatten();
                wanted.agent_callback_url = Some(known.ok_or(UpdateError::MissingCallback)?);
                connection.client.update(self.job_id.as_str(), wanted).await
            }
            done => done,
        }
    }
}

fn in_words(changed: &ChangedAuth) -> String {
    let own = match changed.auth.as_ref().map(ToString::to_string).as_deref() {
        Some("none") => format!("{} runs without an auth profile", changed.job_id),
        Some(auth) => format!("{} has its own auth profile, {auth}", changed.job_id),
        None => format!("{} has no auth profile of its own", changed.job_id),
    };
    match &changed.effective_auth {
        Some(effective) if effective.source != "job" => {
            format!("{own}: it runs with {}, the {}'s default.", effective.auth, effective.source)
        }
        Some(_) => format!("{own}."),
        None => format!("{own}, and there is no default: it runs without one."),
    }
}
