//! Admin tokens, as they are stored.

use chrono::{DateTime, Utc};
use nas_cron_protocol::schema::TextSchema;
use nas_cron_protocol::{InvalidField, OrgId};

use super::actor::{Actor, Role};

/// The name of the tokens in the configuration. No other token may have it.
pub const CONFIG_NAME: &str = "config";
/// Maximum length of a name, in bytes.
pub const MAX_NAME: usize = 64;

/// The name of an admin token: the caller's name in the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenName(String);

nas_cron_protocol::text_schema!(
    TokenName,
    TextSchema {
        description: "Name of an admin token, and of its caller in the audit log.",
        max_bytes: Some(MAX_NAME),
        // All but `config`.
        pattern: Some("^(?!config$)[A-Za-z0-9][A-Za-z0-9._-]*$"),
        format: None,
        example: "portal-2027",
    }
);

impl TokenName {
    /// Validates a name: 1 to 64 letters, digits, `.`, `_` and `-`, beginning with a letter or digit. Such a name cannot be
    /// taken for a command's caller, which contains a colon.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidField> {
        let name = name.into();
        let is_named = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= MAX_NAME
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_named {
            return Err(InvalidField::new(
                "name",
                "must be 1 to 64 letters, digits, '.', '_' and '-', and begin with a letter or digit",
            ));
        }
        if name == CONFIG_NAME {
            return Err(InvalidField::new(
                "name",
                "must not be `config`, the name of the tokens in the configuration",
            ));
        }
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for TokenName {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        Self::new(text)
    }
}

impl std::fmt::Display for TokenName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token to store.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Name.
    pub name: TokenName,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Role.
    pub role: Role,
    /// The only org that it may see; `None` for all.
    pub org_id: Option<OrgId>,
    /// End; `None` for none.
    pub expires_at: Option<DateTime<Utc>>,
    /// Name of the caller that creates it.
    pub created_by: String,
}

/// The rights of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRights {
    /// Name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// The only org that it may see; `None` for all.
    pub org_id: Option<OrgId>,
    /// End; `None` for none.
    pub expires_at: Option<DateTime<Utc>>,
}

impl TokenRights {
    /// Returns the token's holder as the caller of an operation, from `origin`.
    pub fn caller(self, origin: String) -> Actor {
        let Self { name, role, org_id: org, expires_at } = self;
        Actor { name, role, org, expires_at, origin }
    }
}

/// The tokens that are valid now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidTokens {
    /// Their number.
    pub count: i64,
    /// Names of those that end soon, the next first; a few of them.
    pub end_soon: Vec<String>,
}

/// A stored token, without its hash.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct AdminToken {
    /// Name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// The only org that it may see and change; `null` for all of them and the service itself.
    #[schema(value_type = Option<OrgId>)]
    pub org_id: Option<String>,
    /// Time of creation.
    pub created_at: DateTime<Utc>,
    /// Name of the caller that created it.
    pub created_by: String,
    /// Time from which it is rejected; `null` for none.
    pub expires_at: Option<DateTime<Utc>>,
    /// Time of its last accepted call, accurate to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Time of revocation.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Name of the caller that revoked it.
    pub revoked_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_one_word_that_is_not_reserved() {
        for good in ["ci", "portal-2026.v1_b", "A", &"x".repeat(64)] {
            assert!(TokenName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "config", "cli:root@host", "a b", "-a", ".a", "ü", "a\n", &"x".repeat(65)] {
            assert!(TokenName::new(bad).is_err(), "{bad:?}");
        }
    }
}
