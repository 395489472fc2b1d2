//! The check of the collector of traces.

use super::deployment::{Deployment, PATIENCE};
use crate::app;
use crate::config::Traces;
use crate::diagnosis::Finding;
use crate::traces::collector::ExportError;

/// Sends a request without spans.
pub(super) async fn collector(deployment: &Deployment) -> Finding {
    match &deployment.config.traces {
        None => Finding::skipped("not applicable: traces are off"),
        Some(traces) => examine(traces).await,
    }
}

async fn examine(traces: &Traces) -> Finding {
    let url = traces.endpoint.as_str();
    let collector = match app::collector(traces) {
        Ok(collector) => collector,
        Err(error) => return Finding::wrong(format!("{error:#}"), "install the system's CA certificates"),
    };
    let sent = tokio::time::timeout(PATIENCE, collector.send(collector.request(Vec::new())));
    match sent.await.unwrap_or_else(|_| Err(ExportError::Unavailable("no response within 4 s".to_owned()))) {
        Ok(_) => Finding::ok(format!("{url} accepts traces")),
        // Fires do not depend on it.
        Err(error) => Finding::warning(
            format!("{url} does not accept traces: {error}"),
            "set NAS_CRON_OTLP_ENDPOINT to an OTLP/HTTP receiver (usually port 4318, not 4317 of gRPC), and \
             NAS_CRON_OTLP_HEADERS to the credentials that it wants",
        ),
    }
}
