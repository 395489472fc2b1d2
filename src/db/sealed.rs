//! Statements about all secrets that are stored encrypted, whatever they belong to.

use super::{Db, DbResult};
use crate::domain::sealed::{Sealed, SecretKind, StoredSecret};

/// A column of encrypted secrets, and that of their nonces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedColumn {
    /// The table.
    pub table: &'static str,
    /// Column of the ciphertext.
    pub ciphertext: &'static str,
    /// Column of the nonce.
    pub nonce: &'static str,
}

/// Returns the columns of a kind of secrets.
pub const fn columns(kind: SecretKind) -> SealedColumn {
    let (table, ciphertext, nonce) = match kind {
        SecretKind::SigningKey => ("signing_keys", "private_key", "private_nonce"),
        SecretKind::WebhookSecret => ("webhooks", "secret", "secret_nonce"),
        SecretKind::OldWebhookSecret => ("webhooks", "old_secret", "old_secret_nonce"),
    };
    SealedColumn { table, ciphertext, nonce }
}

/// A secret that is encrypted again.
#[derive(Clone, Debug)]
pub struct Rewrapped {
    /// The secret as it was read.
    pub before: StoredSecret,
    /// The same secret, encrypted with another key.
    pub after: Sealed,
}

struct Row {
    id: String,
    nonce: Vec<u8>,
    ciphertext: Vec<u8>,
}

/// Returns at most `limit` secrets of a kind after the ID `after`, in the order of their IDs.
pub async fn page(db: &Db, kind: SecretKind, after: &str, limit: i64) -> DbResult<Vec<StoredSecret>> {
    let rows = match kind {
        SecretKind::SigningKey => {
            sqlx::query_as!(
                Row,
                r#"
                SELECT kid AS "id!", private_nonce AS "nonce!", private_key AS "ciphertext!" FROM signing_keys
                WHERE private_key IS NOT NULL AND kid COLLATE "C" > $1 ORDER BY kid COLLATE "C" LIMIT $2
                "#,
                after,
                limit,
            )
            .fetch_all(db)
            .await?
        }
        SecretKind::WebhookSecret => {
            sqlx::query_as!(
                Row,
                r#"
                SELECT webhook_id::text AS "id!", secret_nonce AS "nonce!", secret AS "ciphertext!" FROM webhooks
                WHERE webhook_id::text COLLATE "C" > $1 ORDER BY webhook_id::text COLLATE "C" LIMIT $2
                "#,
                after,
                limit,
            )
            .fetch_all(db)
            .await?
        }
        SecretKind::OldWebhookSecret => {
            sqlx::query_as!(
                Row,
                r#"
                SELECT webhook_id::text AS "id!", old_secret_nonce AS "nonce!", old_secret AS "ciphertext!" FROM webhooks
                WHERE old_secret_until > now() AND webhook_id::text COLLATE "C" > $1
                ORDER BY webhook_id::text COLLATE "C" LIMIT $2
                "#,
                after,
                limit,
            )
            .fetch_all(db)
            .await?
        }
    };
    let stored = |Row { id, nonce, ciphertext }| StoredSecret { id, sealed: Sealed { nonce, ciphertext } };
    Ok(rows.into_iter().map(stored).collect())
}

/// Erases previous secrets of webhooks that sign no more. Returns their number.
pub async fn erase_expired(db: &Db) -> DbResult<u64> {
    let erased = sqlx::query!(
        "
        UPDATE webhooks SET old_secret_nonce = NULL, old_secret = NULL, old_secret_until = NULL
        WHERE old_secret_until <= now()
        "
    )
    .execute(db)
    .await?;
    Ok(erased.rows_affected())
}

/// Replaces secrets by themselves, encrypted with another key, in one statement. One that has changed since it was read stays.
/// Returns the number that were replaced.
pub async fn replace(db: &Db, kind: SecretKind, secrets: &[Rewrapped]) -> DbResult<u64> {
    let ids: Vec<_> = secrets.iter().map(|one| one.before.id.clone()).collect();
    let before: Vec<_> = secrets.iter().map(|one| one.before.sealed.nonce.clone()).collect();
    let nonces: Vec<_> = secrets.iter().map(|one| one.after.nonce.clone()).collect();
    let ciphertexts: Vec<_> = secrets.iter().map(|one| one.after.ciphertext.clone()).collect();
    let replaced = match kind {
        SecretKind::SigningKey => {
            sqlx::query!(
                "
                UPDATE signing_keys k SET private_nonce = g.nonce, private_key = g.ciphertext
                FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[]) AS g(id, before, nonce, ciphertext)
                WHERE k.kid = g.id AND k.private_nonce = g.before
                ",
                &ids,
                &before,
                &nonces,
                &ciphertexts,
            )
            .execute(db)
            .await?
        }
        SecretKind::WebhookSecret => {
            sqlx::query!(
                "
                UPDATE webhooks w SET secret_nonce = g.nonce, secret = g.ciphertext
                FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[]) AS g(id, before, nonce, ciphertext)
                WHERE w.webhook_id = g.id::uuid AND w.secret_nonce = g.before
                ",
                &ids,
                &before,
                &nonces,
                &ciphertexts,
            )
            .execute(db)
            .await?
        }
        SecretKind::OldWebhookSecret => {
            sqlx::query!(
                "
                UPDATE webhooks w SET old_secret_nonce = g.nonce, old_secret = g.ciphertext
                FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[]) AS g(id, before, nonce, ciphertext)
                WHERE w.webhook_id = g.id::uuid AND w.old_secret_nonce = g.before
                ",
                &ids,
                &before,
                &nonces,
                &ciphertexts,
            )
            .execute(db)
            .await?
        }
    };
    Ok(replaced.rows_affected())
}
