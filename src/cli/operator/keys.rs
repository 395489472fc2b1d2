//! Operations on signing keys.

use reqwest::Method;
use serde_json::json;

use super::{NO_BODY, Place, explained};
use crate::operations::keys::{ChangedKey, KeyList, KeyOperations, Rewrapped};

impl Place<KeyOperations> {
    /// Lists the keys, or with `all` also the removed ones.
    pub(in crate::cli) async fn keys(&self, all: bool) -> anyhow::Result<KeyList> {
        match self {
            Self::Database(on) => on.list(all).await.map_err(explained),
            Self::Server(client) => client.get(&["keys"], &[("all", all.to_string())]).await,
        }
    }

    /// Rotates the keys: in time, or with `now` at once.
    pub(in crate::cli) async fn rotate_keys(&self, now: bool) -> anyhow::Result<ChangedKey> {
        match self {
            Self::Database(on) if now => on.rotate_now().await.map_err(explained),
            Self::Database(on) => on.rotate().await.map_err(explained),
            Self::Server(client) => {
                client.send(Method::POST, &["keys", "rotate"], &[], Some(&json!({ "now": now }))).await
            }
        }
    }

    /// Encrypts the stored secrets again. On a server, `progress` is not called.
    pub(in crate::cli) async fn rewrap_keys(
        &self,
        dry_run: bool,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> anyhow::Result<Rewrapped> {
        match self {
            Self::Database(on) => on.rewrap(dry_run, progress).await.map_err(explained),
            Self::Server(client) => {
                client
                    .send(Method::POST, &["keys", "rewrap"], &[], Some(&json!({ "dry_run": dry_run })))
                    .await
            }
        }
    }

    /// Activates the next key.
    pub(in crate::cli) async fn activate_key(&self, kid: &str) -> anyhow::Result<ChangedKey> {
        match self {
            Self::Database(on) => on.activate(kid).await.map_err(explained),
            Self::Server(client) => client.send(Method::POST, &["keys", kid, "activate"], &[], NO_BODY).await,
        }
    }

    /// Withdraws a next key that never signed.
    pub(in crate::cli) async fn withdraw_key(&self, kid: &str) -> anyhow::Result<ChangedKey> {
        match self {
            Self::Database(on) => on.withdraw(kid).await.map_err(explained),
            Self::Server(client) => client.send(Method::DELETE, &["keys", kid], &[], NO_BODY).await,
        }
    }
}
