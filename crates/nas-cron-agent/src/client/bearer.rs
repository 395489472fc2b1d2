//! Where the portal access token comes from. It is read anew for every call: tokens live for an hour or so, and
//! whoever renews them writes them there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::server_url::ServerUrl;
use super::store::{AuthStore, AuthStoreError};

/// A source of access tokens. None of them is ever written to, or refreshed: that is whose token it is.
#[derive(Clone, Debug)]
pub enum Bearer {
    /// This one.
    Given(SecretString),
    /// The content of a file.
    File(PathBuf),
    /// A hermes-agent's, in `auth.json` of this `HERMES_HOME`.
    Hermes(PathBuf),
    /// What the auth store keeps for the server.
    Store(AuthStore, ServerUrl),
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// Nobody ever logged in here.
    #[error("there is no access token for {server}; log in with `nas-cron cron login --server {server}`")]
    NotLoggedIn {
        /// Which server.
        server: ServerUrl,
    },
    /// The file cannot be read.
    #[error("the access token cannot be read from {path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("{place} holds no access token: {problem}")]
    Strange {
        /// What was read.
        place: String,
        /// What is wrong with it, without repeating any of it.
        problem: &'static str,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] AuthStoreError),
}

impl Bearer {
    /// The token as it is now.
    pub fn read(&self) -> Result<SecretString, NoToken> {
        match self {
            Self::Given(given) => token(given.expose_secret())
                .map_err(|problem| NoToken::Strange { place: "what was given".to_owned(), problem }),
            Self::File(path) => token(read(path)?.as_str()).map_err(strange(path)),
            Self::Hermes(home) => {
                let path = home.join("auth.json");
                let text = read(&path)?;
                from_hermes(&text).and_then(|text| token(&text)).map_err(strange(&path))
            }
            Self::Store(store, server) => {
                let entry = store.server(server)?;
                let bearer = entry.and_then(|entry| entry.bearer);
                let bearer = bearer.ok_or_else(|| NoToken::NotLoggedIn { server: server.clone() })?;
                token(bearer.access_token.expose_secret()).map_err(strange(store.path()))
            }
        }
    }
}

/// A token from text that may end with a newline, as files do.
pub fn token(text: &str) -> Result<SecretString, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("tokens are one word of plain characters");
    }
    Ok(text.to_owned().into())
}

/// `{"providers": {"nous": {"access_token": …}}}`, whichever provider is the active one: that is the one its model is
/// called with, and no server of ours may be shown its token.
fn from_hermes(text: &str) -> Result<String, &'static str> {
    let auth: Value = serde_json::from_str(text).map_err(|_| "it is no JSON")?;
    let token = auth["providers"]["nous"]["access_token"].as_str();
    token.map(str::to_owned).ok_or("the agent is not logged in: its provider `nous` has no `access_token`")
}

fn read(path: &Path) -> Result<String, NoToken> {
    fs::read_to_string(path).map_err(|error| NoToken::Unreadable { path: path.to_owned(), error })
}

fn strange(path: &Path) -> impl Fn(&'static str) -> NoToken {
    let place = path.display().to_string();
    move |problem| NoToken::Strange { place: place.clone(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hermes_agent_only_the_portals_token_is_taken() {
        let both = r#"{"active_provider": "openai-codex", "providers": {
            "openai-codex": {"access_token": "theirs"}, "nous": {"access_token": "ours"}}}"#;
        assert_eq!(from_hermes(both).unwrap(), "ours");
        let other = r#"{"active_provider": "other", "providers": {"other": {"access_token": "theirs"}}}"#;
        for text in [other, "{}", "null", "theirs"] {
            assert!(!from_hermes(text).unwrap_err().contains("theirs"), "{text}");
        }
    }
}
