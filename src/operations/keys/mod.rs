//! The keys that sign fire tokens: list, rotate, activate, withdraw; and the key that encrypts them. Private halves are
//! never shown.
//!
//! Importing a key stays a command on the database: it would send a private key over the network.

mod activate;
mod list;
mod rewrap;
mod rotate;
mod withdraw;

pub use self::list::{Key, KeyList, KeyStep, KeyStepKind, PrivateKeyPlace, Rotation};
pub use self::rewrap::Rewrapped;

use std::sync::Arc;

use nas_cron_protocol::schema::TextSchema;
use nas_cron_protocol::{InvalidField, check_identifier};
use url::Url;

use super::{OperationError, OperationResult};
use crate::db::keys::LockedKeys;
use crate::db::{Db, DbError};
use crate::domain::{KeyRecord, KeyState, NewKey, SigningAlg};
use crate::keys::{KeyEncryptionKeys, KeyError, RotationPolicy};
use crate::own_portal::RefreshKeys;

/// Maximum length of a key ID, in bytes.
const MAX_KID: usize = 255;

/// The ID of a key, in paths of the admin API.
#[derive(Clone, Copy, Debug)]
pub enum KeyId {}

nas_cron_protocol::text_schema!(
    KeyId,
    TextSchema {
        description: "ID of a signing key: its `kid` in the JWKS.",
        max_bytes: Some(MAX_KID),
        pattern: Some(nas_cron_protocol::IDENTIFIER_PATTERN),
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

/// The operations on the signing keys of one service.
#[derive(Clone, Debug)]
pub struct KeyOperations {
    /// The database.
    pub db: Db,
    /// Encrypts private keys; needed by rotations.
    pub kek: Option<Arc<KeyEncryptionKeys>>,
    /// Keys of refresh tokens, which are derived from the same settings.
    pub refresh_keys: Option<Arc<RefreshKeys>>,
    /// Times of the rotation.
    pub policy: RotationPolicy,
    /// Algorithm of new keys.
    pub alg: SigningAlg,
    /// JWKS URL of the agents, checked before an imported key is activated.
    pub agents_jwks_url: Option<Url>,
}

/// A key that an operation has changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct ChangedKey {
    /// Its ID.
    #[schema(value_type = KeyId)]
    pub kid: String,
    /// Its state now.
    pub state: KeyState,
    /// The change and the next step, for people.
    #[schema(example = "Key `key-2` is active: it signs fire tokens from now on.")]
    pub message: String,
}

impl ChangedKey {
    fn new(kid: impl Into<String>, state: KeyState, message: impl Into<String>) -> Self {
        Self { kid: kid.into(), state, message: message.into() }
    }
}

impl From<KeyError> for OperationError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Db(error) => error.into(),
            // The operator's part: the key-encryption key, or a file.
            other => Self::Conflict(other.to_string()),
        }
    }
}

/// The next step after a key was published by hand, up to its ID.
pub const BY_HAND: &str = "Rotation is by hand while an imported key is in use: when the next key is in the JWKS that \
                           agents fetch, run `nas-cron keys activate";

fn conflict(problem: impl Into<String>) -> OperationError {
    OperationError::Conflict(problem.into())
}

fn find<'a>(keys: &'a [KeyRecord], kid: &str) -> OperationResult<&'a KeyRecord> {
    keys.iter().find(|key| key.kid == kid).ok_or_else(|| {
        let known: Vec<_> = keys.iter().filter(|key| key.is_published()).map(|key| &*key.kid).collect();
        OperationError::Unknown(format!("unknown key `{kid}`; known keys: {}", known.join(", ")))
    })
}

/// Publishes a key as the next one. Fails if there is one already.
pub async fn publish(locked: &mut LockedKeys, key: &NewKey) -> OperationResult<()> {
    match locked.insert_next(key).await {
        Err(DbError::Conflict { constraint }) if constraint == "signing_keys_one_next" => Err(conflict(
            "there is already a next key: wait until it is activated (`nas-cron keys list` shows when), or remove it with \
             `nas-cron keys withdraw`",
        )),
        other => Ok(other?),
    }
}

async fn switch(mut locked: LockedKeys, kid: &str) -> OperationResult<()> {
    if !locked.activate(kid).await? {
        return Err(conflict(format!(
            "key `{kid}` is no longer the next key: another process changed the keys; see `nas-cron keys list`"
        )));
    }
    Ok(locked.commit().await?)
}
