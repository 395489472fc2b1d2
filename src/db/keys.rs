//! Statements about `signing_keys`.
//!
//! Keys change rarely, and every replica maintains them. All changes therefore go through [`LockedKeys`]: one
//! transaction at a time in the whole database, which reads the keys after it has the lock, and stamps its changes
//! with one instant of the database's clock.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgExecutor;
use tracing::instrument;

use super::execute::Transaction;
use super::{Db, DbResult};
use crate::domain::sealed::Sealed;
use crate::domain::{KeyRecord, KeyState, NewKey, PrivateHalf, SigningAlg, StoredKey};

/// The advisory lock for changes of keys. The number is the ASCII code of `naskeys`.
const KEYS_LOCK: i64 = 0x6e_61_73_6b_65_79_73;

struct Row {
    kid: String,
    alg: SigningAlg,
    state: KeyState,
    imported: bool,
    public_jwk: Value,
    private_nonce: Option<Vec<u8>>,
    private_key: Option<Vec<u8>>,
    pem_path: Option<String>,
    published_at: DateTime<Utc>,
    activated_at: Option<DateTime<Utc>>,
    retired_at: Option<DateTime<Utc>>,
    gone_at: Option<DateTime<Utc>>,
    seen_at: Option<DateTime<Utc>>,
}

impl From<Row> for StoredKey {
    fn from(row: Row) -> Self {
        let private = match (row.private_nonce, row.private_key, row.pem_path) {
            (Some(nonce), Some(ciphertext), _) => PrivateHalf::Sealed(Sealed { nonce, ciphertext }),
            (_, _, Some(path)) => PrivateHalf::File(path.into()),
            _ => PrivateHalf::Erased,
        };
        let record = KeyRecord {
            kid: row.kid,
            alg: row.alg,
            state: row.state,
            imported: row.imported,
            public_jwk: row.public_jwk,
            published_at: row.published_at,
            activated_at: row.activated_at,
            retired_at: row.retired_at,
            gone_at: row.gone_at,
            seen_at: row.seen_at,
        };
        Self { record, private }
    }
}

async fn list(executor: impl PgExecutor<'_>) -> DbResult<Vec<StoredKey>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        SELECT kid, alg AS "alg: SigningAlg", state AS "state: KeyState", imported, public_jwk,
               private_nonce, private_key, pem_path,
               published_at, activated_at, retired_at, gone_at, seen_at
        FROM signing_keys
        ORDER BY published_at, kid
        "#
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(StoredKey::from).collect())
}

async fn instant(executor: impl PgExecutor<'_>) -> DbResult<DateTime<Utc>> {
    Ok(sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(executor).await?)
}

impl Db {
    /// Returns all keys, including those that are gone, in the order of publication.
    #[instrument(name = "db.signing_keys", skip_all, err(level = "debug"))]
    pub async fn signing_keys(&self) -> DbResult<Vec<StoredKey>> {
        list(self).await
    }

    /// Returns all keys and the database's time, to find out whether a change is due. The change itself is decided
    /// again under [`Self::lock_signing_keys`].
    #[instrument(name = "db.signing_keys_now", skip_all, err(level = "debug"))]
    pub async fn signing_keys_now(&self) -> DbResult<(DateTime<Utc>, Vec<StoredKey>)> {
        Ok((instant(self).await?, list(self).await?))
    }

    /// Takes the lock for changes of keys, and reads the keys. Waits up to 4 s, then fails with `Contended`. Do no
    /// network I/O while holding the lock: all other changes wait.
    #[instrument(name = "db.lock_signing_keys", skip_all, err(level = "debug"))]
    pub async fn lock_signing_keys(&self) -> DbResult<LockedKeys> {
        let mut transaction = self.begin().await?;
        sqlx::raw_sql("SET LOCAL lock_timeout = '4s'").execute(&mut transaction).await?;
        sqlx::query!("SELECT pg_advisory_xact_lock($1)", KEYS_LOCK).execute(&mut transaction).await?;
        // Separate statements: under READ COMMITTED, they see what the previous holder of the lock committed.
        let now = instant(&mut transaction).await?;
        let keys = list(&mut transaction).await?;
        Ok(LockedKeys { transaction, now, keys })
    }
}

/// The signing keys, locked against other changes. Changes take effect with [`Self::commit`].
#[derive(Debug)]
pub struct LockedKeys {
    transaction: Transaction,
    now: DateTime<Utc>,
    keys: Vec<StoredKey>,
}

impl LockedKeys {
    /// Returns the database's time after the lock was taken, with which every change is stamped.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Returns the keys as they were when the lock was taken, or at the last [`Self::reread`].
    pub fn keys(&self) -> &[StoredKey] {
        &self.keys
    }

    /// Publishes a key. Fails with `Conflict` on `signing_keys_pkey` (the kid exists) or `signing_keys_one_next`
    /// (another next key exists).
    #[instrument(name = "db.insert_next_key", skip_all, fields(kid = %key.kid), err(level = "debug"))]
    pub async fn insert_next(&mut self, key: &NewKey) -> DbResult<()> {
        let (nonce, ciphertext, path) = match &key.private {
            PrivateHalf::Sealed(sealed) => (Some(&sealed.nonce), Some(&sealed.ciphertext), None),
            PrivateHalf::File(path) => (None, None, Some(path.to_string_lossy().into_owned())),
            PrivateHalf::Erased => (None, None, None),
        };
        sqlx::query!(
            "
            INSERT INTO signing_keys
                (kid, alg, state, imported, public_jwk, private_nonce, private_key, pem_path, published_at)
            VALUES ($1, $2, 'next', $3, $4, $5, $6, $7, $8)
            ",
            key.kid,
            key.alg as SigningAlg,
            key.imported,
            key.public_jwk,
            nonce,
            ciphertext,
            path,
            self.now,
        )
        .execute(&mut self.transaction)
        .await?;
        Ok(())
    }

    /// Activates a next key, and retires the active one. Returns false, without a change, if `kid` is not a next key.
    #[instrument(name = "db.activate_key", skip(self), err(level = "debug"))]
    pub async fn activate(&mut self, kid: &str) -> DbResult<bool> {
        // Retires the old key first: the unique index on the active key is checked row by row.
        sqlx::query!(
            "
            UPDATE signing_keys SET state = 'retired', retired_at = $2
            WHERE state = 'active'
              AND EXISTS (SELECT FROM signing_keys WHERE kid = $1 AND state = 'next')
            ",
            kid,
            self.now,
        )
        .execute(&mut self.transaction)
        .await?;
        let activated = sqlx::query!(
            "UPDATE signing_keys SET state = 'active', activated_at = $2 WHERE kid = $1 AND state = 'next'",
            kid,
            self.now,
        )
        .execute(&mut self.transaction)
        .await?;
        Ok(activated.rows_affected() == 1)
    }

    /// Unpublishes a key and erases its private half: a retired key after its retention, or a next key that never
    /// signed. Returns false, without a change, if `kid` is neither.
    #[instrument(name = "db.remove_key", skip(self), err(level = "debug"))]
    pub async fn remove(&mut self, kid: &str) -> DbResult<bool> {
        let removed = sqlx::query!(
            "
            UPDATE signing_keys
            SET state = 'gone', retired_at = COALESCE(retired_at, $2), gone_at = $2,
                private_nonce = NULL, private_key = NULL, pem_path = NULL
            WHERE kid = $1 AND state IN ('next', 'retired')
            ",
            kid,
            self.now,
        )
        .execute(&mut self.transaction)
        .await?;
        Ok(removed.rows_affected() == 1)
    }

    /// Records whether a next key is visible at the agents' JWKS URL. Returns since when it has been visible: the first
    /// sighting counts, and is cleared when the key is not visible.
    #[instrument(name = "db.record_key_sighting", skip(self), err(level = "debug"))]
    pub async fn record_sighting(&mut self, kid: &str, seen: bool) -> DbResult<Option<DateTime<Utc>>> {
        let since = sqlx::query_scalar!(
            "
            UPDATE signing_keys
            SET seen_at = CASE WHEN $2 THEN COALESCE(seen_at, $3) END
            WHERE kid = $1 AND state = 'next'
            RETURNING seen_at
            ",
            kid,
            seen,
            self.now,
        )
        .fetch_optional(&mut self.transaction)
        .await?;
        Ok(since.flatten())
    }

    /// Reads the keys again, with the changes of this transaction.
    #[instrument(name = "db.reread_signing_keys", skip_all, err(level = "debug"))]
    pub async fn reread(&mut self) -> DbResult<()> {
        self.keys = list(&mut self.transaction).await?;
        Ok(())
    }

    /// Commits the changes and releases the lock.
    #[instrument(name = "db.commit_signing_keys", skip_all, err(level = "debug"))]
    pub async fn commit(self) -> DbResult<()> {
        self.transaction.commit().await
    }
}
