//! What came of one POST to an agent, told apart the way the retries need it (docs/contract.md#answers-table).
//!
//! No text in here ever holds the fire token or the body that was sent.

use std::time::Duration;

use super::address_policy::AddressError;

/// The end of one POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The agent, or something in front of it, answered with a status. That decides, even where the rest of
    /// the body never came: an agent that said 202 has the fire.
    Response {
        /// The HTTP status, 100 to 999.
        status: u16,
        /// `Retry-After`, from now; an HTTP-date is turned into a delay (RFC 9110, section 10.2.3).
        retry_after: Option<Duration>,
        /// Up to 16 KiB of the body as text; what we sent and must not be shown is cut out.
        body: String,
    },
    /// The agent definitely did not get the fire.
    Refused(Refused),
    /// The agent may have got the fire.
    Ambiguous(Ambiguous),
}

/// Why an agent definitely did not get a fire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The URL, or every address its host resolves to, is one we do not dial.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The host name could not be resolved.
    #[error("the host name could not be resolved: {0}")]
    Dns(String),
    /// No TCP connection came about.
    #[error("could not connect: {0}")]
    Connect(String),
    /// The TCP connection came about, the TLS session did not.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    /// Time was up before the request could be sent.
    #[error("could not connect in time")]
    Timeout,
    /// Somebody was there and turned the request away unprocessed: the connection ended before it could be
    /// sent, or HTTP/2 said so.
    #[error("the request was turned away unprocessed: {0}")]
    Unprocessed(String),
    /// No request could be made of the URL and the token: a defect of ours.
    #[error("no request could be made: {0}")]
    Request(String),
}

/// Why it is unknown whether an agent got a fire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// The request was sent, and time was up before a status came.
    #[error("no answer in time")]
    Timeout,
    /// The connection was closed or reset after the request was sent.
    #[error("the connection ended before an answer came: {0}")]
    Broken(String),
    /// What came back is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    Malformed(String),
}
