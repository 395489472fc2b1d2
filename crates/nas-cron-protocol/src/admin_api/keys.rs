//! Signing keys: their IDs, and the planned steps of their rotation.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{InvalidField, check_identifier, words};

/// Maximum length of a key ID, in bytes.
const MAX_KID: usize = 255;

/// The ID of a signing key: its `kid` in the JWKS.
#[derive(Clone, Copy, Debug)]
pub enum KeyId {}

#[cfg(feature = "openapi")]
crate::text_schema!(
    KeyId,
    crate::schema::TextSchema {
        description: "ID of a signing key: its `kid` in the JWKS.",
        max_bytes: Some(MAX_KID),
        pattern: Some(crate::IDENTIFIER_PATTERN),
        format: None,
        example: "key-2",
    }
);

impl KeyId {
    /// Checks a key ID.
    pub fn check(kid: String) -> Result<String, InvalidField> {
        check_identifier("kid", &kid, MAX_KID)?;
        Ok(kid)
    }
}

words!(
    /// The kind of a step.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum KeyStepKind {
        /// A key is generated and published.
        Generate = "generate",
        /// The next key starts to sign.
        Activate = "activate",
        /// A retired key leaves the JWKS.
        Remove = "remove",
    }
);

/// A planned step of the service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyStep {
    /// Its kind.
    pub kind: KeyStepKind,
    /// The step, for people.
    #[cfg_attr(feature = "openapi", schema(example = "activate `key-2`"))]
    pub step: String,
    /// The key of the step; `null` for a key that does not exist yet.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<KeyId>))]
    pub kid: Option<String>,
    /// Earliest time of the step; `null` if it is due.
    pub at: Option<DateTime<Utc>>,
    /// The reason, for people.
    pub reason: String,
}
