//! Traces for an OpenTelemetry collector.

use reqwest::header::HeaderMap;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, OptionalKey, settings};
use crate::config::urls::{BaseUrl, keeps_secrets};
use crate::config::values;

/// The export of traces.
#[derive(Clone, Debug)]
pub struct Traces {
    /// The collector.
    pub endpoint: BaseUrl,
    /// Headers of every request to it. They are marked as sensitive.
    pub headers: HeaderMap,
    /// Share of the requests of the agent API that are recorded, with all their attempts.
    pub sample_ratio: f64,
}

settings! { Traces:
    OTLP_ENDPOINT: OptionalKey<BaseUrl> = "otlp_endpoint", values::BASE_URL,
        Preset::Unset { means: "no traces", example: "http://otel-collector:4318" },
        "URL of an OTLP/HTTP receiver for traces, usually with port 4318. `/v1/traces` is appended. Setting it enables traces.";
    OTLP_HEADERS: OptionalKey<HeaderMap> = "otlp_headers", values::HEADERS,
        Preset::Unset { means: "none", example: "authorization=Bearer%20TOKEN" },
        "Headers for otlp_endpoint, as `name=value` with commas or line breaks between them. Special characters of values are percent-encoded.";
    TRACES_SAMPLE_RATIO: Key<f64> = "traces_sample_ratio", values::RATIO,
        Preset::Value("1"),
        "Share of the agent API's requests that are recorded in traces, from 0 to 1, with all attempts of the one-shots that they arm. A caller's `traceparent` takes precedence.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Option<Traces> {
    let (headers, sample_ratio) = (reader.optional(&OTLP_HEADERS), reader.value(&TRACES_SAMPLE_RATIO));
    let endpoint = reader.optional(&OTLP_ENDPOINT)?;
    Some(Traces { endpoint, headers: headers.unwrap_or_default(), sample_ratio })
}

pub(in crate::config) fn check(traces: Option<&Traces>, reader: &mut Reader<'_>) {
    reader.rule(
        &[OTLP_HEADERS.setting],
        traces.is_none_or(|traces| traces.headers.is_empty() || keeps_secrets(traces.endpoint.url())),
        "the headers would be sent unencrypted",
        "use an https URL in otlp_endpoint (http is allowed for loopback only), or leave the headers out",
    );
}
