//! `nas-cron cron update`

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::add::armed;
use super::when::WhenArgs;
use super::{CallbackArgs, not_there, tell};
use crate::cli::UsageError;
use crate::cli::connection::Connection;
use crate::client::ClientError;
use crate::client::api::{JobAuth, ListedJob, ProvisionRequest};
use crate::clock::{Clock, SystemClock};
use crate::domain::{FireAt, Given, JobId};

/// Change a job: when it fires, where, or with which auth profile. What is not named stays as it is.
///
/// A new time, and a new callback, arm it anew; a new profile alone leaves its one-shot as it is.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args(["at", "wait", "auth", "no_auth", "callback_url"]))]
#[command(after_help = "\
Examples:
  nas-cron cron update report --in 2h
  nas-cron cron update report --auth claude:work
  nas-cron cron update report --no-auth --callback-url https://agent-2.agents.example")]
pub(super) struct Update {
    /// The job.
    job_id: JobId,
    #[command(flatten)]
    when: WhenArgs,
    /// The auth profile that the job runs with, as `provider:name`; never a secret.
    #[arg(long, value_name = "PROFILE")]
    auth: Option<String>,
    /// No auth profile of its own any more: it runs with its instance's, its org's or the service's default.
    #[arg(long, conflicts_with = "auth")]
    no_auth: bool,
    #[command(flatten)]
    callback: CallbackArgs,
    /// Print JSON: the job's auth profile, and the new one-shot where there is one.
    #[arg(long)]
    json: bool,
}

impl Update {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let now = SystemClock.now();
        let fire_at = self.when.fire_at(now)?;
        let auth = match &self.auth {
            Some(auth) => Given::Set(auth.clone()),
            None if self.no_auth => Given::Clear,
            None => Given::Keep,
        };
        if fire_at.is_none() && self.callback.callback_url.is_none() {
            return self.set_auth(connection).await;
        }
        let listing = connection.client.list().await.map_err(|error| connection.explained(error))?;
        let found =
            listing.armed.into_iter().chain(listing.dead).find(|job| job.job_id == self.job_id.as_str());
        let Some(job) = found else { return Ok(not_there(&self.job_id)) };
        self.arm(connection, job, fire_at, auth, now).await
    }

    async fn set_auth(&self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let changed = match connection.client.set_auth(self.job_id.as_str(), self.auth.as_deref()).await {
            Err(ClientError::Refused { status: 404, error, .. }) if error == "not_found" => {
                return Ok(not_there(&self.job_id));
            }
            other => other.map_err(|error| connection.explained(error))?,
        };
        tell(&changed.warnings);
        if self.json {
            super::super::print_json(&changed)?;
        } else {
            super::super::print(&in_words(&changed))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn arm(
        &self,
        connection: &Connection,
        job: ListedJob,
        fire_at: Option<FireAt>,
        auth: Given<String>,
        now: DateTime<Utc>,
    ) -> anyhow::Result<ExitCode> {
        let fire_at = fire_at.map_or(job.fire_at, |at| at.as_str().to_owned());
        let named = self.callback.callback_url.as_ref();
        let agent_callback_url = match (named, job.agent_callback_url) {
            (None, Some(kept)) => Some(kept),
            (named, _) => connection.callback_url(named)?,
        };
        let agent_callback_url = agent_callback_url.ok_or_else(|| {
            UsageError::new("the server does not say where the agent is reached; give --callback-url URL")
        })?;
        let dedup_key = format!("{}:{fire_at}", self.job_id);
        let wanted = ProvisionRequest {
            job_id: self.job_id.as_str().to_owned(),
            fire_at,
            agent_callback_url,
            dedup_key,
            auth,
        };
        let provisioned = connection.provision(&wanted).await?;
        tell(&provisioned.warnings);
        if self.json {
            let mut shown = json!({
                "schedule_id": provisioned.schedule_id,
                "job_id": wanted.job_id,
                "fire_at": wanted.fire_at,
                "agent_callback_url": wanted.agent_callback_url,
                "dedup_key": wanted.dedup_key,
                "warnings": provisioned.warnings,
            });
            match wanted.auth {
                Given::Keep => {}
                Given::Clear => shown["auth"] = Value::Null,
                Given::Set(auth) => shown["auth"] = json!(auth),
            }
            super::super::print_json(&shown)?;
        } else {
            super::super::print(&armed(&wanted, now))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn in_words(changed: &JobAuth) -> String {
    let own = match &changed.auth {
        Some(auth) => format!("{} has the auth profile {auth} of its own", changed.job_id),
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
