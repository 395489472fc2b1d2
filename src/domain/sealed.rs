//! Secrets that are stored encrypted.

use serde::{Deserialize, Serialize};

/// An encrypted secret (AES-256-GCM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// 12 random bytes.
    pub nonce: Vec<u8>,
    /// Ciphertext and tag.
    pub ciphertext: Vec<u8>,
}

/// A kind of secrets that the key-encryption key encrypts. `db::sealed` has the columns of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// Private half of a signing key.
    SigningKey,
    /// Secret of a webhook.
    WebhookSecret,
    /// Secret of a webhook before its last rotation.
    OldWebhookSecret,
}

impl SecretKind {
    /// All kinds. A rotation of a webhook's secret moves it from a kind to the next one, so it is not missed in this order.
    pub const ALL: [Self; 3] = [Self::SigningKey, Self::WebhookSecret, Self::OldWebhookSecret];

    /// Returns the text that is authenticated with the secret of `id`, so that it cannot be moved to another place.
    pub fn purpose(self, id: &str) -> String {
        match self {
            Self::SigningKey => id.to_owned(),
            Self::WebhookSecret | Self::OldWebhookSecret => format!("webhook {id}"),
        }
    }

    /// Returns the name of the secret of `id`, for people.
    pub fn named(self, id: &str) -> String {
        match self {
            Self::SigningKey => format!("signing key `{id}`"),
            Self::WebhookSecret => format!("secret of webhook `{id}`"),
            Self::OldWebhookSecret => format!("previous secret of webhook `{id}`"),
        }
    }
}

/// A stored secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    /// ID of the signing key or webhook that it belongs to.
    pub id: String,
    /// The secret.
    pub sealed: Sealed,
}

/// The numbers of stored secrets by the key that encrypts them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct KeyUse {
    /// Secrets that the key-encryption key encrypts.
    pub current: u64,
    /// Secrets that a fallback encrypts.
    pub fallback: u64,
    /// Secrets that none of the keys decrypts, by name.
    #[schema(example = json!([]))]
    pub unreadable: Vec<String>,
    /// Open logins at the built-in portal whose agents have a refresh token of the key-encryption key.
    pub logins_current: u64,
    /// Open logins whose agents have a refresh token of a fallback. They get one of the key-encryption key at their next
    /// refresh.
    pub logins_fallback: u64,
    /// Open logins with refresh tokens of none of the keys.
    pub logins_unreadable: u64,
}

impl KeyUse {
    /// True if no fallback is needed.
    pub const fn is_current(&self) -> bool {
        self.fallback == 0 && self.logins_fallback == 0
    }

    /// True if each secret and login has one of the keys.
    pub const fn is_readable(&self) -> bool {
        self.unreadable.is_empty() && self.logins_unreadable == 0
    }
}
