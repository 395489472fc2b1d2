//! Log lines on stderr: pretty or JSON, filtered.
//!
//! stdout is reserved for the results of commands. A JSON line carries the fields of all spans around it; every line
//! that a request caused therefore has its `request.id`.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Format and filter of log lines.
#[derive(Clone, Debug)]
pub struct Log {
    /// Format of a line.
    pub format: LogFormat,
    /// Filter directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty if stderr is a terminal, otherwise JSON.
    Auto,
    /// Text for people.
    Pretty,
    /// One JSON object per line.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter directives are invalid. The configuration checks them before.
    #[error("invalid log filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// This process already has a subscriber.
    #[error("logging is already set up in this process")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Writes log lines, panics included, to stderr from now on. Call it once per process.
pub fn init(log: &Log) -> Result<(), LoggingError> {
    let pretty = match log.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    subscriber(pretty, io::stderr().is_terminal(), &log.filter, io::stderr)?.try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The subscriber that [`init`] installs, with another writer.
pub(crate) fn subscriber<W>(
    pretty: bool,
    colours: bool,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if pretty {
        lines.with_ansi(colours).with_filter(filter).boxed()
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(true)
            .with_filter(filter)
            .boxed()
    };
    Ok(tracing_subscriber::registry().with(lines))
}

/// Logs a panic as an ordinary line. The text of the default hook would break a stream of JSON.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace));
    tracing::error!(
        panic.message = panic.payload_as_str().unwrap_or("no message"),
        panic.location = location,
        panic.backtrace = backtrace,
        "code panicked: this is a bug in nas-cron"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::LogLines;

    #[test]
    fn a_json_line_carries_the_fields_of_every_span_around_it() {
        let (lines, _guard) = LogLines::collect("info");
        let outer = tracing::info_span!("request", request.id = "r1").entered();
        let inner = tracing::info_span!("provision", job.id = "j1").entered();
        tracing::info!(schedule.id = "s1", "armed");
        tracing::debug!("filtered out");
        drop((inner, outer));
        insta::assert_snapshot!(serde_json::Value::from(lines.json()), @r#"[{"level":"INFO","message":"armed","schedule.id":"s1","spans":[{"name":"request","request.id":"r1"},{"job.id":"j1","name":"provision"}],"target":"nas_cron_base::logging::tests"}]"#);
    }

    #[test]
    fn pretty_lines_are_one_line_each() {
        let lines = LogLines::default();
        let guard = lines.clone().set_default(true, "info,quiet=off");
        tracing::info!(answer = 42, "written");
        tracing::info!(target: "quiet", "filtered out");
        drop(guard);
        let text = lines.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("INFO") && text.trim_end().ends_with("written answer=42"), "{text}");
    }

    #[test]
    fn an_invalid_filter_is_an_error() {
        assert!(matches!(subscriber(true, false, "a=loud", io::sink), Err(LoggingError::Filter(_))));
    }
}
