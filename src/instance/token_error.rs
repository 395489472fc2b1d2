//! Errors of access tokens.

use nas_cron_protocol::json::Problem;

/// A token was rejected. The texts are public: they repeat nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is longer than 16 KiB.
    #[error("the access token is longer than 16 KiB")]
    TooLong,
    /// The token does not have three base64url parts with JSON objects in the first two.
    #[error("the access token is not a signed JWT")]
    Malformed,
    /// The header requires extensions (RFC 7515, 4.1.11); none are supported.
    #[error("the access token requires unsupported extensions (`crit`)")]
    Critical,
    /// The algorithm is not on the allow-list.
    #[error("the access token's algorithm is not allowed")]
    Algorithm,
    /// The JSON of the header or the claims means different things to different readers.
    #[error("readers could read the JSON of the access token's header or claims differently: {0}")]
    Unsound(Problem),
    /// The header has `b64`: readers that support it (RFC 7797) sign other bytes.
    #[error("the access token has an unencoded payload (`b64`)")]
    Unencoded,
    /// A claim has the wrong type, or is a number out of range.
    #[error("a claim of the access token has the wrong type or is out of range")]
    Claims,
    /// The `iss` is missing, or not that of an accepted issuer.
    #[error("the access token's issuer (`iss`) is missing or not accepted")]
    Issuer,
    /// The `exp` is missing.
    #[error("the access token has no expiry (`exp`)")]
    NoExpiry,
    /// The `exp` has passed.
    #[error("the access token has expired")]
    Expired,
    /// The `nbf` lies in the future.
    #[error("the access token is not valid yet (`nbf`)")]
    NotYetValid,
    /// The `iat` lies in the future.
    #[error("the access token was issued in the future (`iat`)")]
    IssuedAhead,
    /// The `aud` contains none of the accepted audiences.
    #[error("the access token's audience (`aud`) is missing or not accepted")]
    Audience,
    /// The built-in portal issued the token for an earlier session of the agent.
    #[error("the access token's session has ended: refresh the token")]
    SessionOver,
    /// The token has a `purpose`, for example a fire token, which has the same issuer and an agent's audience.
    #[error("the token has a `purpose` and is therefore not an access token")]
    Purpose,
    /// The token's org is not one of those that its issuer is limited to.
    #[error("the access token's issuer is not accepted for its org")]
    Org,
    /// The issuer reports that the token is not active: unknown, expired or revoked (RFC 7662, 2.2).
    #[error("the access token is not active: it is unknown, expired or revoked")]
    Inactive,
    /// The issuer reports an active token of another kind: a refresh token, or one bound to a key.
    #[error("the token is not a bearer access token")]
    NotAccess,
    /// No known key can have signed the token.
    #[error("the access token was signed with an unknown key")]
    UnknownKey,
    /// The key with the token's `kid` is for another algorithm.
    #[error("the access token's algorithm does not fit its key")]
    KeyMismatch,
    /// The key with the token's `kid` did not sign the token.
    #[error("the access token's signature is invalid")]
    Signature,
}
