//! Maps the errors of the NATS client to [`BackendError`].

use std::error::Error as _;

use async_nats::jetstream::Error as ApiError;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, PublishError,
    PublishErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind, PurgeError, PurgeErrorKind};

use crate::backends::BackendError;

/// Maps an error response of `JetStream`.
fn api(error: &ApiError) -> BackendError {
    match error.code() {
        429 => BackendError::RateLimited { retry_after: None },
        // No leader yet, no quorum, starting.
        503 => BackendError::Unreachable(error.to_string()),
        _ => BackendError::Refused(error.to_string()),
    }
}

fn request_kind(kind: RequestErrorKind, text: String) -> BackendError {
    match kind {
        RequestErrorKind::TimedOut => BackendError::TimedOut,
        // JetStream is disabled, or its leader is being elected.
        RequestErrorKind::NoResponders => BackendError::Unreachable(
            "JetStream does not respond: check that it is enabled for the account".to_owned(),
        ),
        RequestErrorKind::InvalidSubject => BackendError::Refused(text),
        // The response did not parse, or the client is closed.
        RequestErrorKind::Other => BackendError::Garbage(text),
    }
}

/// Maps a request's error that is the source of another error.
fn inner_request(error: &(dyn std::error::Error + 'static)) -> BackendError {
    match error.source().and_then(|source| source.downcast_ref::<RequestError>()) {
        Some(inner) => request(inner),
        None => BackendError::Garbage(error.to_string()),
    }
}

pub(super) fn request(error: &RequestError) -> BackendError {
    request_kind(error.kind(), error.to_string())
}

pub(super) fn get_stream(error: &GetStreamError) -> BackendError {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => api(&error),
        _ => inner_request(error),
    }
}

pub(super) fn create_stream(error: &CreateStreamError) -> BackendError {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => api(&error),
        CreateStreamErrorKind::TimedOut => BackendError::TimedOut,
        CreateStreamErrorKind::JetStreamUnavailable => {
            request_kind(RequestErrorKind::NoResponders, String::new())
        }
        _ => BackendError::Garbage(error.to_string()),
    }
}

pub(super) fn consumer(error: &ConsumerError) -> BackendError {
    match error.kind() {
        ConsumerErrorKind::JetStream(error) => api(&error),
        ConsumerErrorKind::TimedOut => BackendError::TimedOut,
        _ => inner_request(error),
    }
}

pub(super) fn publish(error: &PublishError) -> BackendError {
    match error.kind() {
        PublishErrorKind::TimedOut => BackendError::TimedOut,
        PublishErrorKind::StreamNotFound => {
            BackendError::Unreachable("the stream is missing or has no leader".to_owned())
        }
        PublishErrorKind::BrokenPipe => BackendError::Unreachable("the connection is closing".to_owned()),
        PublishErrorKind::MaxAckPending => BackendError::RateLimited { retry_after: None },
        _ => match error.source().and_then(|source| source.downcast_ref::<ApiError>()) {
            Some(error) => api(error),
            None if error.kind() == PublishErrorKind::Other => BackendError::Garbage(error.to_string()),
            None => BackendError::Refused(error.to_string()),
        },
    }
}

pub(super) fn purge(error: &PurgeError) -> BackendError {
    match error.kind() {
        PurgeErrorKind::JetStream(error) => api(&error),
        PurgeErrorKind::TimedOut => BackendError::TimedOut,
        PurgeErrorKind::Request => inner_request(error),
    }
}
