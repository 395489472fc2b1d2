//! Why a token could not be verified.

use super::token_error::TokenError;

/// Why a token could not be verified against the portal's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is known to be bad.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// No fetch that began after the request arrived was done within its budget.
    #[error("the portal's keys could not be fetched in time")]
    NoFetch,
    /// No issuer that could have said whether the token is active did so within the request's budget.
    #[error("whether the token is active could not be asked in time")]
    NoAnswer,
    /// Too many requests wait for a fetch already.
    #[error("too many requests wait for the portal")]
    TooManyWaiters,
}
