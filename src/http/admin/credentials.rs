//! Finds the rights of admin tokens, and limits calls with an invalid one: for the admin API and the operators' page.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::warn;

use super::call_rate::CallRate;
use super::config_tokens::ConfigTokens;
use super::failed_calls::FailedCalls;
use crate::admin_tokens::{self, StoredTokens, TokenRights};
use crate::domain::actor::Role;
use crate::domain::admin_token::CONFIG_NAME;
use crate::http::ApiError;

/// A valid admin token.
#[derive(Clone, Debug)]
pub(in crate::http) struct Holder {
    /// Its name and rights.
    pub(in crate::http) rights: TokenRights,
    /// Its SHA-256.
    pub(in crate::http) hash: [u8; 32],
    /// True for a token of the configuration.
    pub(in crate::http) of_config: bool,
}

/// The admin tokens of the configuration and the database.
#[derive(Clone, Debug)]
pub(in crate::http) struct Credentials {
    config: Arc<ConfigTokens>,
    stored: StoredTokens,
    failed: Arc<FailedCalls>,
    rate: Arc<CallRate>,
}

impl Credentials {
    /// The tokens in the configuration and in the database.
    pub(in crate::http) fn new(config: Arc<ConfigTokens>, stored: StoredTokens) -> Self {
        Self { config, stored, failed: Arc::default(), rate: Arc::default() }
    }

    /// Returns the rights of a token that `address` presents, or the error of a missing or invalid one.
    pub(in crate::http) async fn holder(
        &self,
        token: Result<&str, ApiError>,
        address: IpAddr,
    ) -> Result<Holder, ApiError> {
        if let Ok(token) = &token
            && self.config.accept(token)
        {
            let hash = admin_tokens::hash(token);
            self.rate.admit(&hash).map_err(ApiError::TooManyCalls)?;
            return Ok(Holder { rights: of_config(), hash, of_config: true });
        }
        let hash = token.as_ref().ok().filter(|token| admin_tokens::is_well_formed(token));
        let hash = hash.map(|token| admin_tokens::hash(token));
        if let Some(retry_after) = self.failed.wait(address, hash.as_ref()) {
            return Err(ApiError::TooManyFailures(retry_after));
        }
        if let Some(hash) = hash {
            // A token that runs away costs no statement per call.
            let was_valid = self.failed.is_exempt(&hash);
            if was_valid {
                self.rate.admit(&hash).map_err(ApiError::TooManyCalls)?;
            }
            if let Some(rights) = self.stored.present(&hash).await? {
                self.failed.succeeded(hash);
                if !was_valid {
                    self.rate.admit(&hash).map_err(ApiError::TooManyCalls)?;
                }
                return Ok(Holder { rights, hash, of_config: false });
            }
            self.failed.refused(&hash);
        }
        self.count_failure(address);
        if self.config.is_empty() && !self.stored.any().await? {
            return Err(ApiError::AdminApiOff);
        }
        token?;
        Err(ApiError::InvalidToken(
            "unknown, expired or revoked admin token: `nas-cron admin-tokens create` creates one",
        ))
    }

    /// Returns the time to wait if this address has used up its failures.
    pub(in crate::http) fn wait(&self, address: IpAddr) -> Option<std::time::Duration> {
        self.failed.wait(address, None)
    }

    /// Counts a call of this address that failed to prove who called.
    pub(in crate::http) fn count_failure(&self, address: IpAddr) {
        if self.failed.failed(address) {
            warn!(client.address = %address, "calls of the admin API with an invalid token reached the limit");
        }
    }

    /// Returns the rights of a token of the configuration; `None` if the configuration does not have it any more.
    pub(in crate::http) fn config_rights(&self, hash: &[u8; 32]) -> Option<TokenRights> {
        self.config.has(hash).then(of_config)
    }
}

fn of_config() -> TokenRights {
    TokenRights { name: CONFIG_NAME.to_owned(), role: Role::Admin, org_id: None, expires_at: None }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::db::{Db, DbOptions};

    /// Tokens of a configuration, and of a database that is unavailable.
    fn credentials(config: &[&str]) -> Credentials {
        let db = Db::new(&DbOptions {
            url: "postgres://nobody@127.0.0.1:1/none".to_owned().into(),
            max_connections: 1,
            acquire_timeout: Duration::from_millis(10),
        });
        let config = ConfigTokens::new(config.iter().map(|token| admin_tokens::hash(token)));
        Credentials::new(Arc::new(config), StoredTokens::new(db.unwrap()))
    }

    #[tokio::test]
    async fn token_of_the_database_that_calls_too_fast_is_refused_without_a_statement() {
        let token = format!("nca_{}", "A".repeat(43));
        let hash = admin_tokens::hash(&token);
        let credentials = credentials(&[]);
        while credentials.rate.admit(&hash).is_ok() {}
        let call = async || credentials.holder(Ok(&token), Ipv4Addr::LOCALHOST.into()).await.unwrap_err();
        let error = call().await;
        assert!(matches!(error, ApiError::Store(_)), "an unknown token is looked up: {error}");
        credentials.failed.succeeded(hash);
        while credentials.rate.admit(&hash).is_ok() {}
        let error = call().await;
        assert!(matches!(error, ApiError::TooManyCalls(_)), "{error}");
    }

    #[tokio::test]
    async fn calls_with_a_valid_token_are_limited_and_others_are_not_affected() {
        let credentials = credentials(&["busy", "other"]);
        let call = async |token| credentials.holder(Ok(token), Ipv4Addr::LOCALHOST.into()).await;
        let mut accepted = 0;
        let refused = loop {
            match call("busy").await {
                Ok(_) => accepted += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, ApiError::TooManyCalls(wait) if !wait.is_zero()), "{refused}");
        assert!(accepted >= 1_000, "{accepted}");
        assert!(call("other").await.is_ok());
    }
}
