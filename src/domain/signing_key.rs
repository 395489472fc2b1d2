//! Signing keys: what everybody may see of one, and where its private half is.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use nas_cron_protocol::words;
use serde::{Deserialize, Serialize};

/// How fire tokens are signed. Real agents accept RS256/384/512 and ES256/384; these two are made here.
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
    /// The JOSE name.
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
            other => Err(format!("unknown signing algorithm `{other}`: one of ES256, RS256")),
        }
    }
}

words!(
    /// Where a key stands in its life. Next, active and retired keys are published; only the active one signs.
    #[derive(PartialOrd, Ord, utoipa::ToSchema)]
    pub enum KeyState {
        /// Published, so that caches learn it; does not sign yet.
        Next = "next",
        /// Signs.
        Active = "active",
        /// Signs no more; published until what it signed has expired.
        Retired = "retired",
        /// No longer published; its private half is erased.
        Gone = "gone",
    }
);

/// A signing key as everybody may see it. All times are the database's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its name in the header of tokens and in the JWKS.
    pub kid: String,
    /// How it signs.
    pub alg: SigningAlg,
    /// Where it stands.
    pub state: KeyState,
    /// Brought from the portal: rotation is then by hand.
    pub imported: bool,
    /// The public half as it is published (RFC 7517).
    pub public_jwk: serde_json::Value,
    /// Since when it is in our JWKS.
    pub published_at: DateTime<Utc>,
    /// Since when it signs, or signed.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it stopped signing.
    pub retired_at: Option<DateTime<Utc>>,
    /// When it left the JWKS.
    pub gone_at: Option<DateTime<Utc>>,
    /// When it was first seen at the JWKS URL that agents use; only looked for when rotation is by hand.
    pub seen_at: Option<DateTime<Utc>>,
}

impl KeyRecord {
    /// Whether it belongs in the JWKS.
    pub fn is_published(&self) -> bool {
        self.state != KeyState::Gone
    }
}

/// Where the private half of a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivateHalf {
    /// In the row, sealed (AES-256-GCM).
    Sealed {
        /// 12 bytes.
        nonce: Vec<u8>,
        /// Ciphertext and tag.
        ciphertext: Vec<u8>,
    },
    /// In a PEM file that every replica can read.
    File(PathBuf),
    /// Nowhere: the key is gone.
    Erased,
}

/// A signing key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// What everybody may see.
    pub record: KeyRecord,
    /// Where its private half is.
    pub private: PrivateHalf,
}

/// A key to be published.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its name.
    pub kid: String,
    /// How it signs.
    pub alg: SigningAlg,
    /// Brought from the portal.
    pub imported: bool,
    /// The public half.
    pub public_jwk: serde_json::Value,
    /// The private half; never [`PrivateHalf::Erased`].
    pub private: PrivateHalf,
}
