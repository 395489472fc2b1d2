//! The MCP server: the agent API as tools for a model, over stdin and stdout.
//!
//! [`tools`] declares the tools and their schemas, [`calls`] runs them through [`crate::client`], and [`wire`] limits
//! message sizes and the requests in flight. A failure that a model or its user can fix (an invalid argument, a rejected
//! call, an unavailable service) is a tool result marked as an error. Protocol errors are for violations of the protocol.

mod calls;
mod connect;
mod errors;
mod results;
mod tools;
mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use nas_cron_base::clock::Clock;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{QuitReason, RequestContext, RoleServer, ServerInitializeError, serve_server_with_ct};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use self::calls::Calls;
pub use self::connect::{Connect, Connected};
use self::wire::Wire;

/// Instructions for the model, sent when the session opens.
const INSTRUCTIONS: &str = "\
nas-cron calls this agent back at a time that you choose, even if the agent is asleep until then. Each job has a \
job_id of your choice and is armed for one instant: arm it with cron_provision, by fire_at (ISO 8601 with an offset) or \
by in (a duration such as 90s). Provisioning the same job_id again replaces the armed time. At that time the agent's \
callback URL is called once with the job_id; for a recurring job, provision the next instant when it fires. \
cron_list lists armed jobs and dead jobs (failed permanently), cron_show tells what became of any job, cron_update \
changes a job's time, callback URL or auth profile, cron_cancel cancels a job. auth names the credentials that a job \
runs with, as provider:name (auth_profiles_list lists the known ones): it is a reference; never put a token, key or \
password there. A warning in a result is not a failure: report it to the user.";

/// An error that ended the MCP session.
#[derive(Debug, thiserror::Error)]
pub enum McpError {
    /// The first message was not a request. It is not repeated, because it may hold secrets.
    #[error("invalid first message from the MCP host: expected a request such as `initialize`")]
    NotInitialized,
    /// The two sides share no protocol version, or the host disconnected during the handshake.
    #[error("opening the MCP session failed: {0}")]
    NotOpened(String),
    /// The session ended because of a bug in nas-cron.
    #[error("the MCP session failed, which is a bug in nas-cron: {0}")]
    Broken(String),
}

/// An MCP server with the tools for one nas-cron server and one caller.
#[derive(Clone)]
pub struct Server {
    calls: Arc<Calls>,
    tools: Arc<[Tool]>,
}

impl Server {
    /// Creates tools that call through the connection of `connect`. It is tried at once, and, as long as it fails, by each
    /// call, which then fails with its error. The first error is returned, too.
    pub fn new(connect: Box<Connect>, clock: Arc<dyn Clock>) -> (Self, Result<(), String>) {
        let calls = Calls::new(connect, clock);
        let (callback, connected) = match calls.connected() {
            Ok(connected) => (connected.callback.clone(), Ok(())),
            Err(error) => (None, Err(error.to_string())),
        };
        let tools = tools::all(callback.as_ref()).into();
        (Self { calls: Arc::new(calls), tools }, connected)
    }

    /// Serves one host until `input` ends or `ends` is cancelled. A call in flight then has 5 s (2 s if cancelled) to
    /// finish; after that it is abandoned, which is harmless, because every tool may be repeated.
    ///
    /// Only JSON-RPC is written to `output`.
    pub async fn serve(
        self,
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
        ends: CancellationToken,
    ) -> Result<(), McpError> {
        let running = match serve_server_with_ct(self, Wire::new(input, output), ends).await {
            Ok(running) => running,
            Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => {
                return Ok(());
            }
            Err(ServerInitializeError::ExpectedInitializeRequest(_)) => return Err(McpError::NotInitialized),
            Err(error) => return Err(McpError::NotOpened(error.to_string())),
        };
        match running.waiting().await {
            Ok(QuitReason::Closed | QuitReason::Cancelled) => Ok(()),
            Ok(other) => Err(McpError::Broken(format!("{other:?}"))),
            Err(error) => Err(McpError::Broken(error.to_string())),
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new("nas-cron", env!("CARGO_PKG_VERSION")).with_title("nas-cron");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(name)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = tools::Name::parse(&request.name) else {
            let known: Vec<_> = self.tools.iter().map(|tool| tool.name.as_ref()).collect();
            let text = format!("unknown tool; known tools are {}", known.join(", "));
            return Err(ErrorData::invalid_params(text, None));
        };
        let call = self.calls.call(tool, request.arguments.unwrap_or_default());
        // A panic must produce a response too: a call without one holds its slot for ever.
        let call = AssertUnwindSafe(call).catch_unwind();
        let result = tokio::select! {
            result = call => result.map_err(|_| ErrorData::internal_error("the tool failed because of a bug in nas-cron", None))?,
            // The host ignores this result.
            () = context.ct.cancelled() => Err("cancelled".to_owned()),
        };
        Ok(match result {
            Ok(value) => CallToolResult::structured(value),
            Err(text) => CallToolResult::error(vec![ContentBlock::text(text)]),
        }
        .into())
    }
}
