//! `nas-cron cron add`

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::{self, UsageError};
use nas_cron_protocol::{AuthChoice, DedupKey, JobId};
use serde_json::json;

use super::when::{LimitArgs, WhenArgs, format_instant};
use super::{AuthArgs, CallbackArgs, print_warnings};
use crate::cli::connection::Connection;
use crate::client::api::{ProvisionRequest, ProvisionResponse};
use crate::client::update::dedup_key;

/// Arm a one-shot for a job. It replaces the one that is armed for the job, if any.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("when").required(true).args(["at", "wait"]))]
#[command(after_help = "\
Examples:
  nas-cron cron add report --in 90s --callback-url https://agent-1.agents.example
  nas-cron cron add report --at 2026-06-18T14:30:00+02:00 --auth claude:work --json")]
pub(super) struct Add {
    /// ID of the job, chosen by the agent.
    job_id: JobId,
    #[command(flatten)]
    when: WhenArgs,
    #[command(flatten)]
    auth: AuthArgs,
    #[command(flatten)]
    limit: LimitArgs,
    #[command(flatten)]
    callback: CallbackArgs,
    /// Key that makes repeating the command harmless: the same key arms the same one-shot [default: job ID and instant].
    #[arg(long, value_name = "KEY")]
    dedup_key: Option<DedupKey>,
    /// Print JSON: the request, with its `schedule_id` and `warnings`.
    #[arg(long)]
    json: bool,
}

impl Add {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let now = SystemClock.now();
        let auth = self.auth.given()?;
        let fire_at =
            self.when.fire_at(now)?.ok_or_else(|| UsageError::new("fire time missing: give --at or --in"))?;
        let named = self.callback.callback_url.as_ref();
        let agent_callback_url = connection.callback_url(named)?.ok_or_else(|| {
            UsageError::new(
                "callback URL missing: give --callback-url URL or NAS_CRON_CALLBACK_URL; later calls use it by default",
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
            not_after: self.limit.given(),
        };
        let provisioned = connection.provision(&wanted).await?;
        print_armed(&wanted, &provisioned, now, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints the result of a provision. The JSON has `auth` and `not_after` only if the command line set or removed them.
pub(super) fn print_armed(
    wanted: &ProvisionRequest,
    provisioned: &ProvisionResponse,
    now: DateTime<Utc>,
    as_json: bool,
) -> anyhow::Result<()> {
    print_warnings(&provisioned.warnings);
    if as_json {
        let mut shown = serde_json::to_value(wanted)?;
        shown["schedule_id"] = json!(provisioned.schedule_id);
        shown["warnings"] = json!(provisioned.warnings);
        return terminal::print_json(&shown);
    }
    let auth = match wanted.auth.value() {
        None => String::new(),
        Some(AuthChoice::NoProfile) => ", without an auth profile".to_owned(),
        Some(AuthChoice::Profile(profile)) => format!(", with auth profile {profile}"),
        Some(several) => format!(", with auth profiles {several}"),
    };
    let limit = wanted.not_after.value().map(|at| format!(", not after {}", format_instant(now, at)));
    let (when, limit) = (format_instant(now, &wanted.fire_at), limit.unwrap_or_default());
    let text = format!(
        "{} is armed: it fires {when}{limit}, at {}{auth}.",
        wanted.job_id, wanted.agent_callback_url
    );
    Ok(terminal::print(&text)?)
}
