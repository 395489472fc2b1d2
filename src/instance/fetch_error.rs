//! Why a call to the portal, or to another issuer, brought nothing.

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The portal is away: no connection, no answer, or a 5xx.
    #[error("the portal does not answer: {0}")]
    Away(String),
    /// The portal is there, and what it says is of no use.
    #[error("the portal's answer is of no use: {0}")]
    Useless(String),
}

impl FetchError {
    /// Returns which of the two it is, as a label of metrics.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Useless(_) => "useless",
        }
    }
}
