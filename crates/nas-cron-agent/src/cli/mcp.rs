//! `nas-cron mcp`

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use nas_cron_base::clock::SystemClock;
use nas_cron_base::logging::{self, Log, LogFormat};
use nas_cron_base::signals;
use nas_cron_base::terminal::UsageError;
use nas_cron_protocol::CallbackUrl;

use super::connection::ConnectionArgs;
use crate::mcp::Server;

/// Log filter. Hosts keep stderr as the server's log; below `error`, `rmcp` logs whole messages.
const LOG_FILTER: &str = "warn,nas_cron=info,rmcp=error";

/// Serve one-shots as MCP tools for a model, on stdin and stdout.
///
/// An MCP host starts this command as its child process. It exits when stdin closes or on SIGTERM. Logs go to stderr.
#[derive(Debug, Args)]
#[command(after_help = "\
Tools: cron_provision, cron_update, cron_list, cron_cancel, auth_profiles_list.

Configuration of an MCP host:
  {\"mcpServers\":{\"nas-cron\":{\"command\":\"nas-cron\",\"args\":[\"mcp\",\"--server\",\"https://portal.example\"]}}}")]
pub struct Mcp {
    /// Base URL of the agent, for jobs without one [env: `NAS_CRON_CALLBACK_URL`] [default: the URL of the latest
    /// `nas-cron cron add` or `update`].
    #[arg(long, value_name = "URL", value_parser = CallbackUrl::parse)]
    callback_url: Option<CallbackUrl>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl Mcp {
    /// Serves until stdin closes or a signal arrives.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.context("starting the async runtime failed")?;
        let result = runtime.block_on(self.serve());
        // A pending read of stdin cannot be cancelled; waiting for it would block the exit.
        runtime.shutdown_background();
        result
    }

    async fn serve(self) -> anyhow::Result<ExitCode> {
        logging::init(&Log { format: LogFormat::Pretty, filter: LOG_FILTER.to_owned() })?;
        let ends = signals::on_signal().context("installing the signal handlers failed")?;
        let connection = self.connection.connect()?;
        let callback = connection.callback_url(self.callback_url.as_ref())?;
        // The URL in the store may have been edited by hand.
        let callback = callback.as_deref().map(CallbackUrl::parse).transpose();
        let callback = callback.map_err(|error| UsageError::new(error.to_string()))?;
        let server = Server::new(connection.client, callback, Arc::new(SystemClock));
        tracing::info!(server = %connection.server, "MCP server started on stdin and stdout");
        server.serve(tokio::io::stdin(), tokio::io::stdout(), ends).await.context("serving MCP failed")?;
        Ok(ExitCode::SUCCESS)
    }
}
