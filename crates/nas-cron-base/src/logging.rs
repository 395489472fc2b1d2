//! Log lines: pretty or JSON, on stderr, filtered.
//!
//! stdout belongs to what a command prints. In JSON every line carries the fields of all spans around it, so
//! that `request.id` is in each line that a request caused.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// How log lines look, and which are written.
#[derive(Clone, Debug)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Why log lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The directives are none. The configuration has judged them before.
    #[error("the log filter is wrong")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in this process receives log lines already.
    #[error("logging is set up already")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends log lines to stderr from now on, panics among them. Once per process.
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

/// What [`init`] installs, with the writer of choice.
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

/// A panic as a log line like any other: the default hook's text would break a stream of JSON.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace));
    tracing::error!(
        panic.message = panic.payload_as_str().unwrap_or("not a text"),
        panic.location = location,
        panic.backtrace = backtrace,
        "a defect: the code panicked"
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
        tracing::debug!("not said");
        drop((inner, outer));
        insta::assert_snapshot!(serde_json::Value::from(lines.json()), @r#"[{"level":"INFO","message":"armed","schedule.id":"s1","spans":[{"name":"request","request.id":"r1"},{"job.id":"j1","name":"provision"}],"target":"nas_cron_base::logging::tests"}]"#);
    }

    #[test]
    fn pretty_lines_are_one_line_each() {
        let lines = LogLines::default();
        let guard = lines.clone().set_default(true, "info,quiet=off");
        tracing::info!(answer = 42, "said");
        tracing::info!(target: "quiet", "not said");
        drop(guard);
        let text = lines.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("INFO") && text.trim_end().ends_with("said answer=42"), "{text}");
    }

    #[test]
    fn a_filter_that_is_none_is_an_error() {
        assert!(matches!(subscriber(true, false, "a=loud", io::sink), Err(LoggingError::Filter(_))));
    }
}
