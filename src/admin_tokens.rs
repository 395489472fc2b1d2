//! Admin tokens: bearer tokens of operators and portal backends, of which the service stores only the SHA-256.
//!
//! A token is read from the database by its hash with every call, so a revocation takes effect at once on every replica.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use nas_cron_protocol::{InvalidField, OrgId};
use ring::digest::{SHA256, digest};
use secrecy::SecretString;

use crate::db::{Db, DbError, DbResult, admin_tokens};
use crate::directory::Page;
use crate::domain::actor::{Actor, Role};
pub use crate::domain::admin_token::{AdminToken, NewToken, TokenName, TokenRights};
use crate::store_error::StoreError;

/// Prefix of every created token, by which secret scanners find it.
pub const PREFIX: &str = "nca_";
/// Length of the random part in characters: 32 bytes in base64url.
const RANDOM_LENGTH: usize = 43;

/// A token to create.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Name.
    pub name: TokenName,
    /// Role.
    pub role: Role,
    /// The only org that it may see; `None` for that of the creator.
    pub org_id: Option<OrgId>,
    /// End; `None` for that of the creator.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A token could not be created or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A field is invalid, or gives the token more rights than its creator has.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// A token with this name exists, or existed.
    #[error(
        "an admin token named `{0}` exists or existed: choose another name, because the audit log tells tokens apart by name"
    )]
    NameTaken(TokenName),
    /// No such token exists for the caller.
    #[error("no admin token named `{0}` exists")]
    Unknown(String),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Returns the SHA-256 of a token.
pub fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// True if a text has the form of a created token. No other text has to be looked up.
pub fn is_well_formed(token: &str) -> bool {
    token.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == RANDOM_LENGTH
            && random.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    })
}

fn generate() -> String {
    let random: [u8; 32] = rand::random();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

/// Creates a token, with no more rights than its creator has: its role, its org, its end. Returns the token itself, which
/// is stored nowhere.
pub async fn create(
    db: &Db,
    creator: &Actor,
    wanted: Wanted,
    now: DateTime<Utc>,
) -> Result<(SecretString, AdminToken), TokenError> {
    let Wanted { name, role, org_id, expires_at } = wanted;
    let (org_id, expires_at) = within_rights(creator, role, org_id, expires_at, now)?;
    let token = generate();
    let created_by = creator.name.clone();
    let new = NewToken { name, hash: hash(&token), role, org_id, expires_at, created_by };
    match admin_tokens::create(db, &new).await {
        Ok(stored) => Ok((token.into(), stored)),
        Err(DbError::Conflict { .. }) => Err(TokenError::NameTaken(new.name)),
        Err(error) => Err(error.into()),
    }
}

/// Checks the rights of a token against those of its creator. What is not given is that of the creator.
fn within_rights(
    creator: &Actor,
    role: Role,
    org_id: Option<OrgId>,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(Option<OrgId>, Option<DateTime<Utc>>), InvalidField> {
    if creator.require(role).is_err() {
        let problem = format!("must be at most {}, the role of the token that creates it", creator.role);
        return Err(InvalidField::new("role", problem));
    }
    let org_id = org_id.or_else(|| creator.org.clone());
    if let (Some(own), Some(given)) = (&creator.org, &org_id)
        && own != given
    {
        let problem = format!("must be `{own}`, the org of the token that creates it");
        return Err(InvalidField::new("org_id", problem));
    }
    let expires_at = expires_at.or(creator.expires_at);
    if expires_at.is_some_and(|end| end <= now) {
        return Err(InvalidField::new("expires_at", "must be in the future"));
    }
    if let (Some(own), Some(given)) = (creator.expires_at, expires_at)
        && given > own
    {
        let own = own.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let problem = format!("must be at most {own}, the end of the token that creates it");
        return Err(InvalidField::new("expires_at", problem));
    }
    Ok((org_id, expires_at))
}

/// Lists at most `limit` tokens that the caller may see, after the name `after`.
pub async fn list(
    db: &Db,
    within: Option<&OrgId>,
    after: Option<&str>,
    limit: u32,
) -> DbResult<Page<AdminToken>> {
    let mut items = admin_tokens::list(db, within, after, i64::from(limit) + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|token| token.name.clone());
    Ok(Page { items, next })
}

/// Revokes a token, at once on every replica. Returns true if it was not revoked before.
pub async fn revoke(db: &Db, caller: &Actor, name: &str) -> Result<bool, TokenError> {
    let revoked = admin_tokens::revoke(db, name, caller.org_filter(), &caller.name).await?;
    revoked.ok_or_else(|| TokenError::Unknown(name.to_owned()))
}

/// The admin tokens of a database, for the admin API.
#[derive(Clone, Debug)]
pub struct StoredTokens(Db);

impl StoredTokens {
    /// The tokens in `db`.
    pub const fn new(db: Db) -> Self {
        Self(db)
    }

    /// Finds the rights of a token; `None` if it is unknown, revoked or expired.
    pub async fn present(&self, hash: &[u8; 32]) -> Result<Option<TokenRights>, StoreError> {
        Ok(admin_tokens::present(&self.0, hash).await?)
    }

    /// True if any token is valid.
    pub async fn any(&self) -> Result<bool, StoreError> {
        Ok(admin_tokens::any(&self.0).await?)
    }

    /// Creates a token: see [`create`].
    pub async fn create(
        &self,
        creator: &Actor,
        wanted: Wanted,
    ) -> Result<(SecretString, AdminToken), TokenError> {
        let now = crate::db::directory::now(&self.0).await?;
        create(&self.0, creator, wanted, now).await
    }

    /// Lists a page of tokens: see [`list`].
    pub async fn list(
        &self,
        caller: &Actor,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<AdminToken>, StoreError> {
        Ok(list(&self.0, caller.org_filter(), after, limit).await?)
    }

    /// Revokes a token: see [`revoke`].
    pub async fn revoke(&self, caller: &Actor, name: &str) -> Result<bool, TokenError> {
        revoke(&self.0, caller, name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_token_is_well_formed_and_never_the_same() {
        let (one, other) = (generate(), generate());
        assert_ne!(one, other);
        assert!(is_well_formed(&one) && is_well_formed(&other));
        for bad in ["", "nca_", &one[4..], &one[..46], &format!("{one}x"), &one.replace("nca_", "ncb_")] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn token_has_no_more_rights_than_its_creator() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let org = |text: &str| Some(OrgId::new(text).unwrap());
        let now = at("2027-01-01T00:00:00Z");
        let end = Some(at("2027-02-01T00:00:00Z"));
        let unlimited = Actor {
            name: "config".to_owned(),
            role: Role::Admin,
            org: None,
            expires_at: None,
            origin: "-".to_owned(),
        };
        let limited = Actor { org: org("acme"), expires_at: end, ..unlimited.clone() };
        let of_operator = Actor { role: Role::Operator, ..unlimited.clone() };
        let check = |actor: &Actor, role, org_id, expires_at| {
            within_rights(actor, role, org_id, expires_at, now).map_err(|error| error.to_string())
        };

        assert_eq!(check(&unlimited, Role::Admin, None, None), Ok((None, None)));
        assert_eq!(check(&unlimited, Role::Viewer, org("acme"), end), Ok((org("acme"), end)));
        assert_eq!(check(&limited, Role::Admin, None, None), Ok((org("acme"), end)), "inherited");
        let error = check(&of_operator, Role::Admin, None, None).unwrap_err();
        assert_eq!(error, "role: must be at most operator, the role of the token that creates it");
        let error = check(&limited, Role::Viewer, org("other"), None).unwrap_err();
        assert_eq!(error, "org_id: must be `acme`, the org of the token that creates it");
        let error = check(&limited, Role::Viewer, None, Some(at("2027-02-01T00:00:01Z"))).unwrap_err();
        assert_eq!(
            error,
            "expires_at: must be at most 2027-02-01T00:00:00Z, the end of the token that creates it"
        );
        let error = check(&unlimited, Role::Viewer, None, Some(now)).unwrap_err();
        assert_eq!(error, "expires_at: must be in the future");
    }
}
