//! An OTLP receiver with the definitions of the OpenTelemetry project. `make otlp` installs them.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use nas_cron_testing::in_target;
use nas_cron_testing::world::eventually;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running receiver.
pub(crate) struct Collector {
    url: String,
    exports: Arc<Mutex<Vec<Export>>>,
    _child: Child,
}

/// A request with spans.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Export {
    pub(crate) behaviour: String,
    pub(crate) headers: Map<String, Value>,
    pub(crate) resource: Map<String, Value>,
    pub(crate) spans: Vec<Span>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) trace_id: String,
    #[serde(rename = "span_id")]
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) events: Vec<Event>,
    pub(crate) links: Vec<Link>,
    pub(crate) failed: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) time: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Link {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) attributes: Map<String, Value>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let python = in_target("otlp-venv/bin/python");
        assert!(python.exists(), "the definitions are not installed: run `make otlp` (`make test` does)");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/otlp/receive.py");
        let mut command = Command::new(python);
        let mut child =
            command.arg(script).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines.next_line().await.expect("it runs").expect("a port");
        let exports = Arc::<Mutex<Vec<Export>>>::default();
        let read = Arc::clone(&exports);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let export: Export = serde_json::from_str(&line).expect(&line);
                read.lock().unwrap().push(export);
            }
        });
        Self { url: format!("http://127.0.0.1:{port}"), exports, _child: child }
    }

    /// Returns the endpoint that behaves like this.
    pub(crate) fn endpoint(&self, behaviour: &str) -> String {
        format!("{}/{behaviour}", self.url)
    }

    /// Returns the requests so far.
    pub(crate) fn exports(&self) -> Vec<Export> {
        self.exports.lock().unwrap().clone()
    }

    /// Returns the spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.exports().into_iter().flat_map(|export| export.spans).collect()
    }

    /// Waits for a span of this name and with this attribute.
    pub(crate) async fn span(&self, name: &str, (key, value): (&str, impl Into<Value>)) -> Span {
        let value = value.into();
        eventually(&format!("{name} with {key}={value}"), async || {
            let found = |span: &Span| span.name == name && span.attributes.get(key) == Some(&value);
            self.spans().into_iter().find(found)
        })
        .await
    }

    /// Returns the spans below this one, in the order of their start.
    pub(crate) fn below(&self, parent: &Span) -> Vec<Span> {
        let is_child = |span: &Span| span.trace_id == parent.trace_id && span.parent == parent.id;
        let mut children: Vec<_> = self.spans().into_iter().filter(is_child).collect();
        children.sort_by_key(|span| (span.start, span.end));
        children
    }
}

impl Span {
    /// Returns the value of the header `traceparent` that stands for this span.
    pub(crate) fn header(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.id)
    }
}
