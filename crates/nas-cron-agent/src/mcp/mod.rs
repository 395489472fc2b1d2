//! The MCP server: hop 1 as tools that a model can use, over stdin and stdout.
//!
//! [`tools`] says what there is and what it takes, [`calls`] does it through [`crate::client`], [`wire`] keeps what a
//! host may have under way within bounds. Whatever a model can mend (a wrong argument, a refusal, a service that is
//! away) is the result of its call, marked as an error; a protocol error is only what breaks the protocol.

mod calls;
mod refusal;
mod results;
mod tools;
mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use nas_cron_base::clock::Clock;
use nas_cron_protocol::CallbackUrl;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{QuitReason, RequestContext, RoleServer, ServerInitializeError, serve_server_with_ct};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use self::calls::Calls;
use self::wire::Wire;
use crate::client::Client;

/// What a model is told before it sees the tools.
const INSTRUCTIONS: &str = "\
nas-cron calls this agent back at a time that you choose, also when the agent is asleep until then. Each job has a \
job_id of your choice and is armed for one instant: arm it with cron_provision, by fire_at (ISO 8601 with an offset) or \
by in (a length of time such as 90s). Provisioning the same job_id again replaces what was armed. At its time the agent's \
callback URL is called once with the job_id; for a job that recurs, provision its next instant when it fires. \
cron_list shows what is armed and what has failed for good (dead), cron_update changes a time, a callback or an auth profile, \
cron_cancel disarms. auth names the credentials that a job runs with, as provider:name (auth_profiles_list shows the known \
ones): it is a reference, never put a token, key or password there. A warning in a result is no failure: tell the user.";

/// Why serving ended badly.
#[derive(Debug, thiserror::Error)]
pub enum McpError {
    /// The host said something else first. Its words are not repeated: they may hold anything.
    #[error("the host did not begin with an MCP request such as `initialize`")]
    NoBeginning,
    /// The two sides have no version of the protocol in common, or the host went away in between.
    #[error("the session could not be opened: {0}")]
    NotOpened(String),
    /// A defect of ours.
    #[error("the session broke off: {0}")]
    Broken(String),
}

/// The tools, for one server and one caller.
#[derive(Clone, Debug)]
pub struct Server {
    calls: Arc<Calls>,
    tools: Arc<[Tool]>,
}

impl Server {
    /// Tools that call through `client`. A job without a callback of its own gets `callback`; where there is none,
    /// `cron_provision` asks for it.
    pub fn new(client: Client, callback: Option<CallbackUrl>, clock: Arc<dyn Clock>) -> Self {
        let tools = tools::all(callback.as_ref()).into();
        Self { calls: Arc::new(Calls::new(client, callback, clock)), tools }
    }

    /// Serves one host, until `input` ends or `ends` is cancelled. A call that is under way then has 5 s (2 s when
    /// cancelled) to be answered; after that it is abandoned, which is harmless: every tool may be repeated.
    ///
    /// Nothing but JSON-RPC is written to `output`.
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
            Err(ServerInitializeError::ExpectedInitializeRequest(_)) => return Err(McpError::NoBeginning),
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
            let text = format!("there is no such tool; there are {}", known.join(", "));
            return Err(ErrorData::invalid_params(text, None));
        };
        let call = self.calls.call(tool, request.arguments.unwrap_or_default());
        // A defect must answer too: a call without an answer would hold its slot for ever.
        let call = AssertUnwindSafe(call).catch_unwind();
        let result = tokio::select! {
            result = call => result.map_err(|_| ErrorData::internal_error("the tool failed; this is a defect", None))?,
            // Nobody waits for the answer any more.
            () = context.ct.cancelled() => Err("cancelled".to_owned()),
        };
        Ok(match result {
            Ok(value) => CallToolResult::structured(value),
            Err(text) => CallToolResult::error(vec![ContentBlock::text(text)]),
        }
        .into())
    }
}
