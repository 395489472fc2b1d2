//! Results of one POST to an agent, distinguished as the retries need it (docs/contract.md#answers-table).
//!
//! Their texts never contain the fire token or the request body.

use std::time::Duration;

use super::address_policy::AddressError;

/// The result of one POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The agent, or a gateway in front of it, returned a status. The status decides, even if the rest of the body never
    /// arrives: an agent that returned 202 has the fire.
    Response {
        /// The HTTP status, 100 to 999.
        status: u16,
        /// `Retry-After` from now on; an HTTP-date is converted to a delay (RFC 9110, section 10.2.3).
        retry_after: Option<Duration>,
        /// Up to 16 KiB of the body as text, with echoed secrets redacted.
        body: String,
    },
    /// The agent definitely did not receive the fire.
    Refused(Refused),
    /// The agent may have received the fire.
    Ambiguous(Ambiguous),
}

/// Reasons for which an agent definitely did not receive a fire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The address policy refuses the URL, or every address that its host resolves to.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Name resolution failed.
    #[error("resolving the host name failed: {0}")]
    Dns(String),
    /// The TCP connection failed.
    #[error("connecting failed: {0}")]
    Connect(String),
    /// The TCP connection succeeded, and the TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    /// The timeout passed before the request could be sent.
    #[error("connecting timed out")]
    Timeout,
    /// The server closed the connection before the request was sent, or reported over HTTP/2 that it did not process the
    /// request.
    #[error("the server did not process the request: {0}")]
    Unprocessed(String),
    /// No request could be built from the URL and the token: a defect of nas-cron.
    #[error("building the request failed: {0}")]
    Request(String),
}

/// Reasons for which it is unknown whether an agent received a fire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// The request was sent, and no status arrived before the timeout.
    #[error("the agent's response timed out")]
    Timeout,
    /// The connection was closed or reset after the request was sent.
    #[error("the connection ended before the response: {0}")]
    Broken(String),
    /// The response is not valid HTTP.
    #[error("the response is not valid HTTP: {0}")]
    Malformed(String),
    /// nas-cron aborted the request, because its replica had no contact with the database.
    #[error("the attempt was aborted: its replica could not renew its registration in the database")]
    Aborted,
}
