//! The MCP server of the agent tools.

use std::io::Cursor;
use std::sync::{Arc, LazyLock};

use chrono::DateTime;
use nas_cron_agent::mcp::Server;
use nas_cron_base::clock::ManualClock;
use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::lenient;

/// The first messages of a host.
const OPENING: &str = concat!(
    r#"{"jsonrpc":"2.0","id":"opening","method":"initialize","params":{"protocolVersion":"2025-06-18","#,
    r#""capabilities":{},"clientInfo":{"name":"host","version":"1"}}}"#,
    "\n",
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    "\n"
);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// Lines of a host after the opening of a session; without one if they begin with `!`. No server can be reached.
pub fn mcp(data: &[u8]) {
    let input = match data.strip_prefix(b"!") {
        Some(lines) => lines.to_vec(),
        None => [OPENING.as_bytes(), data].concat(),
    };
    let clock = ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).expect("a time"));
    let connect = Box::new(|| Err("not logged in: run `nas-cron cron login`".to_owned()));
    let (server, _) = Server::new(connect, Arc::new(clock));
    let (host, output) = tokio::io::duplex(1 << 16);
    let mut said = Vec::new();
    RUNTIME.block_on(async {
        let serving = server.serve(Cursor::new(input), output, CancellationToken::new());
        let read = async {
            let mut host = host;
            host.read_to_end(&mut said).await.expect("a pipe in memory");
        };
        // An invalid opening is an error; no line may end the server with a panic.
        let _ = tokio::join!(serving, read);
    });
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message = lenient(line);
        assert_eq!(message["jsonrpc"], "2.0", "{}", String::from_utf8_lossy(line));
    }
}
