//! Sources of the portal access token. The token is read again for every call, because tokens live for about an hour and
//! their owner writes renewed ones to the same place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::server_url::ServerUrl;
use super::store::{AuthStore, AuthStoreError};

/// A source of access tokens. It is only read: refreshing a token is up to its owner.
#[derive(Clone, Debug)]
pub enum Bearer {
    /// A token given by value.
    Given(SecretString),
    /// A file with the token.
    File(PathBuf),
    /// The token of a hermes-agent, in `auth.json` of this `HERMES_HOME`.
    Hermes(PathBuf),
    /// The token that the auth store holds for the server.
    Store(AuthStore, ServerUrl),
}

/// The error of reading an access token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The auth store holds no token for the server.
    #[error("no access token is stored for {server}: log in with `nas-cron cron login --server {server}`")]
    NotLoggedIn {
        /// The server.
        server: ServerUrl,
    },
    /// Reading the file failed.
    #[error(
        "reading the access token from {path} failed: {error}; check the path and the file's permissions"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The source holds something else.
    #[error("invalid access token in {place}: {problem}")]
    Invalid {
        /// The source.
        place: String,
        /// The problem, without any part of the content.
        problem: &'static str,
    },
    /// Reading the auth store failed.
    #[error(transparent)]
    Store(#[from] AuthStoreError),
}

impl Bearer {
    /// Reads the current token.
    pub fn read(&self) -> Result<SecretString, TokenError> {
        match self {
            Self::Given(given) => token(given.expose_secret())
                .map_err(|problem| TokenError::Invalid { place: "the given value".to_owned(), problem }),
            Self::File(path) => token(read(path)?.as_str()).map_err(invalid(path)),
            Self::Hermes(home) => {
                let path = home.join("auth.json");
                let text = read(&path)?;
                from_hermes(&text).and_then(|text| token(&text)).map_err(invalid(&path))
            }
            Self::Store(store, server) => {
                let entry = store.server(server)?;
                let bearer = entry.and_then(|entry| entry.bearer);
                let bearer = bearer.ok_or_else(|| TokenError::NotLoggedIn { server: server.clone() })?;
                token(bearer.access_token.expose_secret()).map_err(invalid(store.path()))
            }
        }
    }
}

/// Reads a token from text, and ignores white space around it. The error is a sentence without any part of the text.
pub fn token(text: &str) -> Result<SecretString, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it must be one word of printable ASCII characters");
    }
    Ok(text.to_owned().into())
}

/// Reads the portal's token: `{"providers": {"nous": {"access_token": …}}}`. The active provider does not matter: it is the
/// one that serves the agent's model, and its token must never be sent to a nas-cron server.
fn from_hermes(text: &str) -> Result<String, &'static str> {
    let auth: Value =
        nas_cron_protocol::json::from_slice(text.as_bytes()).map_err(|_| "the file is not JSON")?;
    let token = auth["providers"]["nous"]["access_token"].as_str();
    token.map(str::to_owned).ok_or("the agent is not logged in: its provider `nous` has no `access_token`")
}

fn read(path: &Path) -> Result<String, TokenError> {
    fs::read_to_string(path).map_err(|error| TokenError::Unreadable { path: path.to_owned(), error })
}

fn invalid(path: &Path) -> impl Fn(&'static str) -> TokenError {
    let place = path.display().to_string();
    move |problem| TokenError::Invalid { place: place.clone(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_portals_token_of_a_hermes_agent_is_read() {
        let both = r#"{"active_provider": "openai-codex", "providers": {
            "openai-codex": {"access_token": "theirs"}, "nous": {"access_token": "ours"}}}"#;
        assert_eq!(from_hermes(both).unwrap(), "ours");
        let other = r#"{"active_provider": "other", "providers": {"other": {"access_token": "theirs"}}}"#;
        for text in [other, "{}", "null", "theirs"] {
            assert!(!from_hermes(text).unwrap_err().contains("theirs"), "{text}");
        }
    }
}
