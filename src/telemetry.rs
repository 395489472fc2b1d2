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

use crate::config::{Log, LogFormat};

/// Why log lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives are none. The configuration has judged them before.
    #[error("the log filter is wrong")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in this process receives log lines already.
    #[error("logging is set up already")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends log lines to stderr from now on, panics among them. Once per process.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
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
fn subscriber<W>(
    pretty: bool,
    colours: bool,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
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
pub(crate) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::DefaultGuard;

    use super::*;

    /// Log lines of the current thread, for tests of what is and is not said.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        /// Collects JSON lines until the guard is dropped.
        pub(crate) fn collect(filter: &str) -> (Self, DefaultGuard) {
            let lines = Self::default();
            let guard = lines.clone().set_default(false, filter);
            (lines, guard)
        }

        fn set_default(self, pretty: bool, filter: &str) -> DefaultGuard {
            tracing::subscriber::set_default(subscriber(pretty, false, filter, move || self.clone()).unwrap())
        }

        /// All of it.
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// Line by line, without what differs from run to run.
        pub(crate) fn json(&self) -> Vec<serde_json::Value> {
            let lines = self.text();
            let lines = lines.lines().map(|line| {
                let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                line.as_object_mut().unwrap().remove("timestamp").expect("every line has its time");
                line
            });
            lines.collect()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_carries_the_fields_of_every_span_around_it() {
        let (lines, _guard) = Lines::collect("info");
        let outer = tracing::info_span!("request", request.id = "r1").entered();
        let inner = tracing::info_span!("provision", job.id = "j1").entered();
        tracing::info!(schedule.id = "s1", "armed");
        tracing::debug!("not said");
        drop((inner, outer));
        insta::assert_snapshot!(serde_json::Value::from(lines.json()), @r#"[{"level":"INFO","message":"armed","schedule.id":"s1","spans":[{"name":"request","request.id":"r1"},{"job.id":"j1","name":"provision"}],"target":"nas_cron::telemetry::tests"}]"#);
    }

    #[test]
    fn pretty_lines_are_one_line_each() {
        let lines = Lines::default();
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
        assert!(matches!(subscriber(true, false, "a=loud", io::sink), Err(TelemetryError::Filter(_))));
    }
}
