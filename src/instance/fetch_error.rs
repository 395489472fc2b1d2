//! Failures of calls to the portal or to another issuer.

/// A failed call to the portal or to another issuer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No connection, no complete response, or a 5xx.
    #[error("the portal is unavailable: {0}")]
    Unavailable(String),
    /// A response that does not follow the protocol.
    #[error("invalid response of the portal: {0}")]
    Invalid(String),
}

impl FetchError {
    /// Returns the failure as a label value of metrics.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Invalid(_) => "invalid",
        }
    }
}
