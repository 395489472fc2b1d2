//! `nas-cron cron add`

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::{self, UsageError};
use nas_cron_protocol::{DedupKey, JobId};
use serde_json::json;

use super::when::{WhenArgs, told};
use super::{AuthArgs, CallbackArgs, tell};
use crate::cli::connection::Connection;
use crate::client::api::{ProvisionRequest, ProvisionResponse};
use crate::client::update::dedup_key;

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
    #[command(flatten)]
    auth: AuthArgs,
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
        let auth = self.auth.given()?;
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
            .map_or_else(|| dedup_key(self.job_id.as_str(), fire_at.as_str()), |key| key.as_str().to_owned());
        let wanted = ProvisionRequest {
            job_id: self.job_id.as_str().to_owned(),
            fire_at: fire_at.as_str().to_owned(),
            agent_callback_url,
            dedup_key,
            auth,
        };
        let provisioned = connection.provision(&wanted).await?;
        print_armed(&wanted, &provisioned, now, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Shows what a provision has come to. As JSON it has `auth` only where something was said of it.
pub(super) fn print_armed(
    wanted: &ProvisionRequest,
    provisioned: &ProvisionResponse,
    now: DateTime<Utc>,
    as_json: bool,
) -> anyhow::Result<()> {
    tell(&provisioned.warnings);
    if as_json {
        let mut shown = serde_json::to_value(wanted)?;
        shown["schedule_id"] = json!(provisioned.schedule_id);
        shown["warnings"] = json!(provisioned.warnings);
        return terminal::print_json(&shown);
    }
    let auth = wanted.auth.value().map(|auth| format!(", with {auth}")).unwrap_or_default();
    let when = told(now, &wanted.fire_at);
    let text =
        format!("{} is armed: it fires {when}, at {}{auth}.", wanted.job_id, wanted.agent_callback_url);
    Ok(terminal::print(&text)?)
}
