//! Why an access token is refused.

/// Why a token is refused. The texts may be shown to whoever sent it: they hold nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than 16 KiB.
    #[error("the access token is longer than 16 KiB")]
    TooLong,
    /// Not three base64url parts with JSON objects in the first two.
    #[error("the access token is not a signed JWT")]
    Malformed,
    /// Its header demands that extensions are understood (RFC 7515, 4.1.11); none are.
    #[error("the access token demands extensions (`crit`) that are not supported")]
    Critical,
    /// Its algorithm is not on the allow-list.
    #[error("the access token's algorithm is not allowed")]
    Algorithm,
    /// A claim is of the wrong type, or is there twice.
    #[error("the access token's claims are not of the expected types")]
    Claims,
    /// Not issued by our portal.
    #[error("the access token was issued by another issuer")]
    Issuer,
    /// There is no `exp`.
    #[error("the access token has no expiry")]
    NoExpiry,
    /// Past its `exp`.
    #[error("the access token has expired")]
    Expired,
    /// Before its `nbf`.
    #[error("the access token is not valid yet")]
    NotYetValid,
    /// Its `iat` lies ahead.
    #[error("the access token was issued in the future")]
    IssuedAhead,
    /// Made for somebody else.
    #[error("the access token is meant for another audience")]
    Audience,
    /// We issued it ourselves, for a session that its agent no longer has.
    #[error("the access token's session is over: refresh it")]
    SessionOver,
    /// It has a `purpose`: a fire token, say, has our issuer and an agent's audience.
    #[error("a token with a purpose is not an access token")]
    Purpose,
    /// It names an org that its issuer may not speak for.
    #[error("the access token's issuer may not speak for its org")]
    Org,
    /// Its issuer says that it is not active: unknown to it, expired or revoked (RFC 7662, 2.2).
    #[error("the access token is not active")]
    Inactive,
    /// Its issuer says that it is active, and of another kind: a refresh token, or one bound to a key.
    #[error("the token is not a bearer access token")]
    NotAccess,
    /// No key that could have signed it is known, and none more can be had.
    #[error("the access token was signed with an unknown key")]
    UnknownKey,
    /// The key it names is for another algorithm.
    #[error("the access token's algorithm does not fit its key")]
    KeyMismatch,
    /// The signature is not by the key it names.
    #[error("the access token's signature is not valid")]
    Signature,
}
