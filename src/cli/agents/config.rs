//! `nas-cron agents config`.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::{CallbackUrl, InstanceId};
use serde_json::json;

use super::Urls;
use super::yaml::Chronos;
use crate::cli::operator::Operator;
use crate::directory;

/// Print the YAML configuration that an agent needs to use this service.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  nas-cron agents config agent-1 --callback-url https://agent-1.agents.example"
)]
pub(super) struct ConfigArgs {
    /// Instance id of the agent.
    instance_id: InstanceId,
    /// Callback URL of the agent; needed before its first call.
    #[arg(long, value_name = "URL", value_parser = directory::callback_url)]
    callback_url: Option<CallbackUrl>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    args: &ConfigArgs,
    on: &Operator,
    urls: &Urls,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let portal_url =
        urls.portal.as_deref().context("portal_url is not configured: set NAS_CRON_PORTAL_URL")?;
    let agents_jwks_url = urls.agents_jwks.as_deref().context(
        "the JWKS URL of the agents is not configured: set NAS_CRON_PUBLIC_URL or NAS_CRON_AGENTS_JWKS_URL",
    )?;
    let agent = on.agent(&args.instance_id).await?.agent;
    let callback_url =
        args.callback_url.as_ref().map(|url| url.as_str().to_owned()).or(agent.callback_url).with_context(
            || format!("agent {} has no callback URL yet: add --callback-url", agent.instance_id),
        )?;
    let chronos = Chronos {
        portal_url: portal_url.to_owned(),
        callback_url,
        expected_audience: format!("agent:{}", agent.instance_id),
        nas_jwks_url: agents_jwks_url.to_owned(),
    };
    if args.json {
        return terminal::json(out, &json!({ "cron": { "provider": "chronos", "chronos": chronos } }));
    }
    out.write_all(chronos.yaml().as_bytes())?;
    Ok(())
}
