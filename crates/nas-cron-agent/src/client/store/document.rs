//! What is in the auth store: the fields we know, as types, over a document that keeps those we do not.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::client::server_url::ServerUrl;

/// The whole file. Its `Debug` names the servers only.
#[derive(Clone, Default, PartialEq)]
pub struct Document(Map<String, Value>);

/// What is kept for one server.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ServerEntry {
    /// The portal's access token.
    pub bearer: Option<StoredBearer>,
    /// The agent's own key, and what the server calls it.
    pub agent_identity: Option<StoredIdentity>,
    /// The private half of a key that is being registered, to become `agent_identity` in the place of what is there. It
    /// is here before the server knows of it, so that a registration that was cut off goes on with the same key.
    #[serde(default, deserialize_with = "read_some_secret", serialize_with = "write_some_secret")]
    pub pending_private_key: Option<SecretString>,
    /// Whether calls are made as the agent identity.
    pub use_agent_identity: Option<Mode>,
    /// The callback of the latest provision: the next one's, where none is named.
    pub agent_callback_url: Option<String>,
}

/// A portal access token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StoredBearer {
    /// As the portal issued it.
    #[serde(deserialize_with = "read_secret", serialize_with = "write_secret")]
    pub access_token: SecretString,
    /// When it ends, where it says so itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An agent identity: made here, and known to the server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StoredIdentity {
    /// The private half: base64 of PKCS#8.
    #[serde(deserialize_with = "read_secret", serialize_with = "write_secret")]
    pub private_key: SecretString,
    /// What the server calls it.
    pub agent_runtime_id: String,
    /// When the server said so.
    pub registered_at: Option<DateTime<Utc>>,
    /// The one task of all calls that belong to no conversation. Tasks of conversations are their programs' own.
    pub background_task_id: Option<String>,
}

/// `use_agent_identity`: whether calls are made as the agent identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As the agent identity, and with the access token where that does not work.
    #[value(aliases = ["true", "1"])]
    On,
    /// With the access token.
    #[value(aliases = ["false", "0"])]
    Off,
}

impl Document {
    /// The document and its format, or where it breaks; never a word of what is in it.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, u64), String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            if error.is_eof() { format!("is truncated ({at})") } else { format!("is no JSON ({at})") }
        })?;
        let Value::Object(root) = value else { return Err("is no JSON object".to_owned()) };
        let version = root.get("version").and_then(Value::as_u64).filter(|version| *version > 0);
        let version = version.ok_or("has no `version`, so it is none of ours")?;
        if version == 1 && !matches!(root.get("servers"), None | Some(Value::Object(_))) {
            return Err("has a `servers` that is no object".to_owned());
        }
        Ok((Self(root), version))
    }

    /// The servers that are known, by name.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.0.get("servers").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// What is kept for one. The error names the field.
    pub(super) fn server(&self, server: &ServerUrl) -> Result<Option<ServerEntry>, String> {
        let name = server.to_string();
        let Some(value) = self.0.get("servers").and_then(|servers| servers.get(&name)) else {
            return Ok(None);
        };
        // Not the error's own text, which quotes values.
        serde_path_to_error::deserialize(value).map(Some).map_err(|error| {
            format!("has something at servers[{name:?}].{} that does not belong there", error.path())
        })
    }

    /// With this in the place of what was kept for the server.
    #[must_use]
    pub(super) fn with(self, server: &ServerUrl, entry: &ServerEntry) -> Self {
        let entry = serde_json::to_value(entry).expect("texts and times are JSON");
        let mut root = Value::Object(self.0);
        merge(&mut root, json!({ "version": 1, "servers": { server.to_string(): entry } }));
        match root {
            Value::Object(root) => Self(root),
            _ => unreachable!("an object merged into an object is one"),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(&self.0).expect("a map of JSON values is JSON");
        bytes.push(b'\n');
        bytes
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.servers()).finish()
    }
}

/// RFC 7396: objects are merged, `null` takes away, all else replaces.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(Into::into)
}

fn write_secret<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

fn read_some_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|secret| secret.map(Into::into))
}

#[expect(clippy::ref_option, reason = "serde passes it so")]
fn write_some_secret<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(ExposeSecret::expose_secret).serialize(serializer)
}
