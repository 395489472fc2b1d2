//! The content of the auth store: known fields as types, over a document that keeps unknown ones.

use chrono::{DateTime, Utc};
use nas_cron_protocol::date_time;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::client::server_url::ServerUrl;

/// The whole file. `Debug` prints only the names of the servers.
#[derive(Clone, Default, PartialEq)]
pub struct Document(Map<String, Value>);

/// The entry of one server.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ServerEntry {
    /// The portal's access token.
    pub bearer: Option<StoredBearer>,
    /// The agent's own key and its ID at the server.
    pub agent_identity: Option<StoredIdentity>,
    /// Private half of a key that is being registered and will replace `agent_identity`. It is stored before it is sent, so
    /// that an interrupted registration continues with the same key.
    #[serde(default, deserialize_with = "read_some_secret", serialize_with = "write_some_secret")]
    pub pending_private_key: Option<SecretString>,
    /// Mode of the calls. Absent means off.
    pub use_agent_identity: Option<Mode>,
    /// Callback URL of the latest provision, used as the default.
    pub agent_callback_url: Option<String>,
}

/// A portal access token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StoredBearer {
    /// As the portal issued it.
    #[serde(deserialize_with = "read_secret", serialize_with = "write_secret")]
    pub access_token: SecretString,
    /// Expiry of the token, if it is a JWT with `exp`.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// An agent identity, generated here and registered at the server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StoredIdentity {
    /// The private half: base64 of PKCS#8.
    #[serde(deserialize_with = "read_secret", serialize_with = "write_secret")]
    pub private_key: SecretString,
    /// ID of the identity at the server.
    pub agent_runtime_id: String,
    /// Time of the registration.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub registered_at: Option<DateTime<Utc>>,
    /// Task of all calls that belong to no conversation. Programs keep the tasks of conversations themselves.
    pub background_task_id: Option<String>,
}

/// Value of `use_agent_identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Use the agent identity; fall back to the access token if that fails.
    #[value(aliases = ["true", "1"])]
    On,
    /// Use the access token.
    #[value(aliases = ["false", "0"])]
    Off,
}

impl Document {
    /// Returns the document and its format version, or the problem as a phrase without any of the content.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, u64), String> {
        let value: Value = nas_cron_protocol::json::from_slice(bytes).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            if error.is_eof() { format!("is truncated ({at})") } else { format!("is not JSON ({at})") }
        })?;
        let Value::Object(root) = value else { return Err("is not a JSON object".to_owned()) };
        let version = root.get("version").and_then(Value::as_u64).filter(|version| *version > 0);
        let version = version.ok_or("has no valid `version`, so nas-cron did not write it")?;
        if version == 1 && !matches!(root.get("servers"), None | Some(Value::Object(_))) {
            return Err("has a `servers` that is not an object".to_owned());
        }
        Ok((Self(root), version))
    }

    /// Names of the servers.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.0.get("servers").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// Returns the entry of a server. The error names the field.
    pub(super) fn server(&self, server: &ServerUrl) -> Result<Option<ServerEntry>, String> {
        let name = server.to_string();
        let Some(value) = self.0.get("servers").and_then(|servers| servers.get(&name)) else {
            return Ok(None);
        };
        // The text of the deserialization error would quote values.
        serde_path_to_error::deserialize(value)
            .map(Some)
            .map_err(|error| format!("has an invalid value at servers[{name:?}].{}", error.path()))
    }

    /// Returns the document with the entry of the server replaced. Unknown fields of the entry are kept.
    #[must_use]
    pub(super) fn with(self, server: &ServerUrl, entry: &ServerEntry) -> Self {
        let entry = serde_json::to_value(entry).expect("strings and times are always JSON");
        let mut root = Value::Object(self.0);
        merge(&mut root, json!({ "version": 1, "servers": { server.to_string(): entry } }));
        match root {
            Value::Object(root) => Self(root),
            _ => unreachable!("merging two objects gives an object"),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(&self.0).expect("a map of JSON values is always JSON");
        bytes.push(b'\n');
        bytes
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.servers()).finish()
    }
}

/// Merges as in RFC 7396: objects are merged, `null` removes a field, any other value replaces it.
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
