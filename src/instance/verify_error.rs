//! Errors of token verification.

use super::token_error::TokenError;

/// A token could not be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is invalid.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// No fetch of the keys that began after the request arrived succeeded before its deadline.
    #[error("fetching the portal's keys timed out")]
    KeysUnavailable,
    /// No introspection succeeded before the request's deadline.
    #[error("token introspection timed out")]
    IntrospectionUnavailable,
    /// Too many requests are waiting for keys or introspection.
    #[error("too many requests are waiting for the portal")]
    TooManyWaiters,
}
