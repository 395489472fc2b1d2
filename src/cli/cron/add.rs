//! `nas-cron cron add`

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::json;

use super::when::{WhenArgs, told};
use super::{CallbackArgs, tell};
use crate::cli::UsageError;
use crate::cli::connection::Connection;
use crate::client::api::ProvisionRequest;
use crate::clock::{Clock, SystemClock};
use crate::domain::{DedupKey, Given, JobId};

/// Arm a job's one-shot. A job that is armed already gets this one in its place.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("when").required(true).args(["at", "wait"]))]
#[command(after_help = "\
Examples:
  nas-cron cron add report --in 90s --callback-url https://agent-1.agents.example
  nas-cron cron add report --at 2026-06-18T14:30:00+02:00 --auth claude:work --json")]
pub(super) struct Add {
    /// The agent's name for the job.
    job_id: JobId,
    #[command(flatten)]
    when: WhenArgs,
    /// The auth profile that the job runs with, as `provider:name`; never a secret. Without it the job has none of its own.
    #[arg(long, value_name = "PROFILE")]
    auth: Option<String>,
    #[command(flatten)]
    callback: CallbackArgs,
    /// Makes repeating it harmless: the same key arms the same one-shot [default: job and instant].
    #[arg(long, value_name = "KEY")]
    dedup_key: Option<DedupKey>,
    /// Print JSON: what was sent, with its `schedule_id` and `warnings`.
    #[arg(long)]
    json: bool,
}

impl Add {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let now = SystemClock.now();
        let fire_at = self.when.fire_at(now)?.ok_or_else(|| UsageError::new("--at or --in is needed"))?;
        let named = self.callback.callback_url.as_ref();
        let agent_callback_url = connection.callback_url(named)?.ok_or_else(|| {
            UsageError::new(
                "it is not known where the agent is reached; give --callback-url URL or NAS_CRON_CALLBACK_URL: the next time it \
                 is remembered",
            )
        })?;
        let dedup_key = self
            .dedup_key
            .map_or_else(|| format!("{}:{}", self.job_id, fire_at.as_str()), |key| key.as_str().to_owned());
        let wanted = ProvisionRequest {
            job_id: self.job_id.as_str().to_owned(),
            fire_at: fire_at.as_str().to_owned(),
            agent_callback_url,
            dedup_key,
            auth: self.auth.map_or(Given::Clear, Given::Set),
        };
        let provisioned = connection.provision(&wanted).await?;
        tell(&provisioned.warnings);
        if self.json {
            super::super::print_json(&json!({
                "schedule_id": provisioned.schedule_id,
                "job_id": wanted.job_id,
                "fire_at": wanted.fire_at,
                "agent_callback_url": wanted.agent_callback_url,
                "dedup_key": wanted.dedup_key,
                "auth": match &wanted.auth { Given::Set(auth) => Some(auth), _ => None },
                "warnings": provisioned.warnings,
            }))?;
        } else {
            super::super::print(&armed(&wanted, now))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a provision has come to, for people.
pub(super) fn armed(wanted: &ProvisionRequest, now: chrono::DateTime<chrono::Utc>) -> String {
    let auth = match &wanted.auth {
        Given::Set(auth) => format!(", with {auth}"),
        Given::Keep | Given::Clear => String::new(),
    };
    let when = told(now, &wanted.fire_at);
    format!("{} is armed: it fires {when}, at {}{auth}.", wanted.job_id, wanted.agent_callback_url)
}
