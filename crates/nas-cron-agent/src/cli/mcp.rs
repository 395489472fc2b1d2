//! `nas-cron mcp`

use std::io;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use clap::Args;
use nas_cron_base::clock::SystemClock;
use nas_cron_base::logging::{self, Log, LogFormat};
use nas_cron_base::terminal::{UsageError, error_in_one_line};
use nas_cron_base::{output, signals};
use nas_cron_protocol::CallbackUrl;
use tokio::io::AsyncWrite;

use super::connection::ConnectionArgs;
use crate::mcp::{Connected, Server};

/// Log filter. Hosts keep stderr as the server's log; below `error`, `rmcp` logs whole messages.
const LOG_FILTER: &str = "warn,nas_cron=info,rmcp=error";

/// Serve one-shots as MCP tools for a model, on stdin and stdout.
///
/// An MCP host starts this command as its child process. It exits when stdin closes or on SIGTERM. Logs go to stderr.
/// Without a server or a token it starts, too, and each call fails with the fix; it works as soon as the user has logged in.
#[derive(Debug, Args)]
#[command(after_help = "\
Tools: cron_provision, cron_update, cron_list, cron_show, cron_cancel, auth_profiles_list.

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

    /// Returns the server that the options, the environment and the auth store name.
    fn connected(&self) -> anyhow::Result<Connected> {
        let connection = self.connection.connect()?;
        let callback = connection.callback_url(self.callback_url.as_ref())?;
        // The URL in the store may have been edited by hand.
        let callback = callback.as_deref().map(CallbackUrl::parse).transpose();
        let callback = callback.map_err(|error| UsageError::new(error.to_string()))?;
        tracing::info!(server = %connection.server, "tools connected");
        Ok(Connected { client: connection.client, callback })
    }

    async fn serve(self) -> anyhow::Result<ExitCode> {
        logging::init(&Log { format: LogFormat::Pretty, filter: LOG_FILTER.to_owned() })?;
        let ends = signals::on_signal().context("installing the signal handlers failed")?;
        let connect = move || self.connected().map_err(|error| error_in_one_line(&error));
        let (server, connected) = Server::new(Box::new(connect), Arc::new(SystemClock));
        match connected {
            Ok(()) => tracing::info!("MCP server started on stdin and stdout"),
            // Hosts show their users the errors of calls, but rarely the end of a server.
            Err(error) => tracing::warn!(%error, "MCP server started; its calls fail until this is fixed"),
        }
        output::ends_with_reader(ends.clone());
        server.serve(tokio::io::stdin(), ToHost::new(), ends).await.context("serving MCP failed")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// stdout, which the host reads. When the host has closed it, the session ends, and the rest is discarded: an error would
/// be logged for each message that is still in work.
#[derive(Debug)]
struct ToHost(tokio::io::Stdout);

impl ToHost {
    #[expect(clippy::disallowed_methods, reason = "each write is noted")]
    fn new() -> Self {
        Self(tokio::io::stdout())
    }
}

/// Notes the end of a write, and replaces the error for a closed stdout by `discarded`.
fn noted<T>(written: Poll<io::Result<T>>, discarded: T) -> Poll<io::Result<T>> {
    written.map(|written| match output::note(written) {
        Err(_) if output::reader_left().is_cancelled() => Ok(discarded),
        other => other,
    })
}

impl AsyncWrite for ToHost {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        noted(Pin::new(&mut self.0).poll_write(cx, bytes), bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        noted(Pin::new(&mut self.0).poll_flush(cx), ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        noted(Pin::new(&mut self.0).poll_shutdown(cx), ())
    }
}
