//! The client of a collector: OTLP over HTTP, in protobuf.

use std::time::Duration;

use bytes::Bytes;
use nas_cron_base::http_client::{self, causes};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use url::Url;
use uuid::Uuid;

use super::span::text;
use crate::domain::release::VERSION;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of a whole export.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of bytes that are read of a response.
const MAX_RESPONSE: usize = 16 * 1024;
/// Maximum number of characters of a response in an error.
const MAX_TEXT: usize = 200;

/// A collector, and the description of this process that it gets with all spans.
#[derive(Clone, Debug)]
pub struct Collector {
    client: Client,
    url: Url,
    headers: HeaderMap,
    resource: Resource,
}

/// Spans that the collector accepted partially.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Number of spans that it rejected.
    pub rejected: u64,
    /// Its reason, or a warning. Empty if it has nothing to report.
    pub message: String,
}

/// An export failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// There was no response.
    #[error("{0}")]
    Unavailable(String),
    /// The collector is overloaded or starting.
    #[error("status {0}")]
    Busy(StatusCode),
    /// The collector rejected the request.
    #[error("status {status}{}{text}", if text.is_empty() { "" } else { ": " })]
    Rejected {
        /// The status.
        status: StatusCode,
        /// The beginning of the response.
        text: String,
    },
    /// Another kind of server answered.
    #[error("the response is not that of an OTLP/HTTP receiver")]
    Other,
}

impl ExportError {
    /// Returns true if the same request may succeed later (OTLP/HTTP, "Failures").
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy(_))
    }
}

impl Collector {
    /// Returns the collector at `endpoint`; `/v1/traces` is appended unless it ends with it. `headers` are sent with every
    /// request. Fails if the system has no trusted certificates for https.
    pub fn new(endpoint: &Url, headers: HeaderMap) -> Result<Self, reqwest::Error> {
        let client =
            http_client::builder(endpoint).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT).build()?;
        let is_whole = endpoint.path().trim_end_matches('/').ends_with("/v1/traces");
        let url = if is_whole { endpoint.clone() } else { http_client::below(endpoint, "/v1/traces") };
        let attributes = vec![
            text("service.name", "nas-cron"),
            text("service.version", VERSION),
            text("service.instance.id", Uuid::new_v4().to_string()),
            text("host.name", rustix::system::uname().nodename().to_string_lossy()),
        ];
        Ok(Self { client, url, headers, resource: Resource { attributes, ..Resource::default() } })
    }

    /// Returns the request that exports these spans.
    pub fn request(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope {
            name: "nas-cron".to_owned(),
            version: VERSION.to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
    }

    /// Sends a request. It ends after 10 s at the latest.
    pub async fn send(&self, request: Bytes) -> Result<Answer, ExportError> {
        let post = self.client.post(self.url.clone()).headers(self.headers.clone());
        let response = post.header(CONTENT_TYPE, PROTOBUF).body(request).send().await;
        let mut response = response.map_err(|error| ExportError::Unavailable(causes(error)))?;
        let (status, kind) = (response.status(), response.headers().get(CONTENT_TYPE).cloned());
        let body = read(&mut response).await;
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(ExportError::Busy(status)),
            _ if status.is_success() => answer(kind.as_ref(), &body).ok_or(ExportError::Other),
            _ => Err(ExportError::Rejected { status, text: shown(&body) }),
        }
    }
}

/// Reads the beginning of the body. The status has decided, so errors of the body are ignored.
async fn read(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < MAX_RESPONSE
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_RESPONSE - body.len())]);
    }
    body
}

/// Reads the response to an accepted request. `None` if it is not one of OTLP.
fn answer(kind: Option<&HeaderValue>, body: &[u8]) -> Option<Answer> {
    let is_protobuf = kind.is_some_and(|kind| kind.as_bytes().starts_with(PROTOBUF.as_bytes()));
    if !is_protobuf && !body.is_empty() {
        return None;
    }
    let ExportTraceServiceResponse { partial_success } = ExportTraceServiceResponse::decode(body).ok()?;
    let ExportTracePartialSuccess { rejected_spans, error_message } = partial_success.unwrap_or_default();
    Some(Answer { rejected: u64::try_from(rejected_spans).unwrap_or_default(), message: error_message })
}

/// Returns the beginning of a text of the collector. An error in protobuf has its text between other bytes.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let printable =
        text.chars().map(|c| if c.is_control() || c == char::REPLACEMENT_CHARACTER { ' ' } else { c });
    let text: String = printable.collect();
    text.trim().chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: &str) -> String {
        let collector = Collector::new(&endpoint.parse().unwrap(), HeaderMap::new()).unwrap();
        collector.url.to_string()
    }

    #[test]
    fn path_is_appended_to_the_endpoint() {
        assert_eq!(url("http://127.0.0.1:4318"), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(url("http://127.0.0.1:4318/otlp/"), "http://127.0.0.1:4318/otlp/v1/traces");
        assert_eq!(url("http://127.0.0.1:4318/v1/traces"), "http://127.0.0.1:4318/v1/traces");
    }

    #[test]
    fn responses_of_other_servers_are_recognized() {
        let html = HeaderValue::from_static("text/html");
        assert_eq!(answer(Some(&html), b"<html>"), None);
        assert_eq!(answer(Some(&PROTOBUF), b"\xff"), None);
        assert_eq!(answer(None, b""), Some(Answer { rejected: 0, message: String::new() }));
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too old".to_owned() };
        let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let expected = Answer { rejected: 3, message: "too old".to_owned() };
        assert_eq!(answer(Some(&PROTOBUF), &body), Some(expected));
    }

    #[test]
    fn only_failures_that_may_end_are_repeated() {
        let rejected = ExportError::Rejected { status: StatusCode::NOT_FOUND, text: String::new() };
        assert!(!rejected.is_transient() && !ExportError::Other.is_transient());
        assert!(ExportError::Busy(StatusCode::BAD_GATEWAY).is_transient());
        assert_eq!(rejected.to_string(), "status 404 Not Found");
        assert_eq!(shown(b"\x0a\x07no luck\n"), "no luck");
    }
}
