//! Signing keys: their public record, and the place of their private half.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use nas_cron_protocol::words;
use serde::{Deserialize, Serialize};

use super::sealed::Sealed;

/// The signature algorithm of a key. Real agents accept RS256/384/512 and ES256/384; this service supports two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum SigningAlg {
    /// ECDSA on P-256 with SHA-256 (RFC 7518, 3.4).
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3).
    #[serde(rename = "RS256")]
    Rs256,
}

impl SigningAlg {
    /// Returns the JOSE name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

impl std::fmt::Display for SigningAlg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for SigningAlg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ES256" => Ok(Self::Es256),
            "RS256" => Ok(Self::Rs256),
            other => Err(format!("unknown signing algorithm `{other}`: use ES256 or RS256")),
        }
    }
}

words!(
    /// The state of a signing key. Next, active and retired keys are published; only the active one signs.
    #[derive(PartialOrd, Ord, utoipa::ToSchema)]
    pub enum KeyState {
        /// Published, so that caches learn it; does not sign yet.
        Next = "next",
        /// Signs.
        Active = "active",
        /// No longer signs; published until all tokens that it signed have expired.
        Retired = "retired",
        /// No longer published; its private half is erased.
        Gone = "gone",
    }
);

/// The public record of a signing key. All times are by the database's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its `kid` in token headers and in the JWKS.
    pub kid: String,
    /// Its algorithm.
    pub alg: SigningAlg,
    /// Its state.
    pub state: KeyState,
    /// True if it was imported from the portal: such keys rotate by hand.
    pub imported: bool,
    /// The public half as published (RFC 7517).
    pub public_jwk: serde_json::Value,
    /// Time at which it entered the service's JWKS.
    pub published_at: DateTime<Utc>,
    /// Time at which it started to sign.
    pub activated_at: Option<DateTime<Utc>>,
    /// Time at which it stopped signing.
    pub retired_at: Option<DateTime<Utc>>,
    /// Time at which it left the JWKS.
    pub gone_at: Option<DateTime<Utc>>,
    /// Time at which it was first seen at the JWKS URL that agents use; checked only when keys rotate by hand.
    pub seen_at: Option<DateTime<Utc>>,
}

impl KeyRecord {
    /// Returns true if it belongs in the JWKS.
    pub fn is_published(&self) -> bool {
        self.state != KeyState::Gone
    }
}

/// The place of a key's private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivateHalf {
    /// In the row, encrypted (AES-256-GCM).
    Sealed(Sealed),
    /// In a PEM file that every replica can read.
    File(PathBuf),
    /// Erased: the key is gone.
    Erased,
}

/// A signing key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public record.
    pub record: KeyRecord,
    /// Its private half.
    pub private: PrivateHalf,
}

/// A new key, before its publication.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its `kid`.
    pub kid: String,
    /// Its algorithm.
    pub alg: SigningAlg,
    /// True if it was imported from the portal.
    pub imported: bool,
    /// The public half.
    pub public_jwk: serde_json::Value,
    /// The private half; never [`PrivateHalf::Erased`].
    pub private: PrivateHalf,
}
