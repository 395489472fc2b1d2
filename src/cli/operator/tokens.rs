//! Operations on admin tokens.

use chrono::{DateTime, Utc};
use nas_cron_base::clock::{Clock, SystemClock};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{NO_BODY, Operator};
use crate::admin_tokens::{self, AdminToken, TokenError, TokenName, Wanted};
use crate::cli::audited::operator;

/// Number of tokens per request.
const PAGE: u32 = 1_000;

/// A created token.
#[derive(Deserialize, Serialize)]
pub(in crate::cli) struct CreatedToken {
    /// The bearer token.
    pub(in crate::cli) token: String,
    /// The stored token, without its secret.
    #[serde(flatten)]
    pub(in crate::cli) stored: AdminToken,
}

/// A page of tokens.
#[derive(Deserialize)]
struct TokenPage {
    tokens: Vec<AdminToken>,
    next: Option<String>,
}

impl Operator {
    /// Creates a token that ends after `length`, if given.
    pub(in crate::cli) async fn create_token(
        &self,
        wanted: Wanted,
        ends: impl FnOnce(DateTime<Utc>) -> anyhow::Result<Option<DateTime<Utc>>>,
    ) -> anyhow::Result<CreatedToken> {
        match self {
            Self::Database(db, _) => {
                let now = crate::db::directory::now(db).await?;
                let wanted = Wanted { expires_at: ends(now)?, ..wanted };
                let created = admin_tokens::create(db, &operator(), wanted, now).await.map_err(explained)?;
                let (token, stored) = created;
                Ok(CreatedToken { token: token.expose_secret().to_owned(), stored })
            }
            Self::Server(client) => {
                let mut body = json!({ "name": wanted.name.as_str(), "role": wanted.role });
                if let Some(org_id) = &wanted.org_id {
                    body["org_id"] = json!(org_id);
                }
                if let Some(end) = ends(SystemClock.now())? {
                    body["expires_at"] = json!(end);
                }
                client.send(Method::POST, &["tokens"], &[], Some(&body)).await
            }
        }
    }

    /// Lists all tokens, ordered by name.
    pub(in crate::cli) async fn tokens(&self) -> anyhow::Result<Vec<AdminToken>> {
        let (mut tokens, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = match self {
                Self::Database(db, _) => {
                    let page = admin_tokens::list(db, None, after.as_deref(), PAGE).await?;
                    TokenPage { tokens: page.items, next: page.next }
                }
                Self::Server(client) => {
                    let mut query = vec![("limit", PAGE.to_string())];
                    query.extend(after.map(|after| ("after", after)));
                    client.get(&["tokens"], &query).await?
                }
            };
            tokens.extend(page.tokens);
            after = page.next;
            if after.is_none() {
                return Ok(tokens);
            }
        }
    }

    /// Revokes a token. Returns true if it was not revoked before.
    pub(in crate::cli) async fn revoke_token(&self, name: &TokenName) -> anyhow::Result<bool> {
        match self {
            Self::Database(db, _) => {
                admin_tokens::revoke(db, &operator(), name.as_str()).await.map_err(explained)
            }
            Self::Server(client) => {
                let is_revoked =
                    |token: &AdminToken| token.name == name.as_str() && token.revoked_at.is_some();
                let before = self.tokens().await?.iter().any(is_revoked);
                client.send::<()>(Method::DELETE, &["tokens", name.as_str()], &[], NO_BODY).await?;
                Ok(!before)
            }
        }
    }
}

/// Adds the next step to an error.
fn explained(error: TokenError) -> anyhow::Error {
    match error {
        // The database error itself: the command line explains it.
        TokenError::Db(error) => error.into(),
        TokenError::Unknown(_) => anyhow::anyhow!("{error}; `nas-cron admin-tokens list` shows the tokens"),
        other => other.into(),
    }
}
