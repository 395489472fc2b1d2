//! Sessions of operators at the operators' page: an admin token signs a browser in, which then has the token's rights.
//!
//! The browser keeps a random ID, of which the service stores only the SHA-256. Every request finds the session and the
//! present rights of its token in the database, so a revocation takes effect at once on every replica.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256, digest};
use uuid::Uuid;

use crate::db::operator_sessions::{self, Lifetime};
use crate::db::{Db, DbResult};
pub use crate::domain::operator_session::{OpenSession, SignedIn, Submission};
use crate::store_error::StoreError;

/// Lifetime of a session: it ends 30 min after its last use, and 12 h after the operator signed in.
const LIFETIME: Lifetime = Lifetime { idle: Duration::from_mins(30), absolute: Duration::from_hours(12) };
/// Time for which a sign-in link is valid.
const LINK_VALID_FOR: Duration = Duration::from_mins(15);
/// Length of an ID or a link in characters: 32 bytes in base64url.
const LENGTH: usize = 43;

/// A random text that its bearer keeps, and of which the service stores the hash: the ID of a session, or a sign-in link.
#[derive(Clone)]
pub struct Bearing(String);

impl Bearing {
    fn fresh() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
    }

    /// Reads a text from a caller. Returns `None` for one that the service cannot have issued.
    pub fn parse(text: &str) -> Option<Self> {
        let is_one =
            text.len() == LENGTH && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        is_one.then(|| Self(text.to_owned()))
    }

    /// The text itself, for its bearer only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> [u8; 32] {
        sha256(digest(&SHA256, self.0.as_bytes()).as_ref())
    }

    /// Returns the token that every form of this session carries. It proves that the form comes from a page of the session,
    /// and does not reveal the ID.
    pub fn form_token(&self) -> String {
        let mut context = Context::new(&SHA256);
        context.update(b"form token of ");
        context.update(self.0.as_bytes());
        URL_SAFE_NO_PAD.encode(context.finish())
    }
}

impl std::fmt::Debug for Bearing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearing(…)")
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("SHA-256 has 32 bytes")
}

/// Creates a link that signs in once, with the rights of the token.
pub async fn create_link(db: &Db, signed_in: &SignedIn) -> DbResult<Bearing> {
    let link = Bearing::fresh();
    operator_sessions::create_link(db, &link.hash(), signed_in, LINK_VALID_FOR).await?;
    Ok(link)
}

/// The sessions of a database.
#[derive(Clone, Debug)]
pub struct OperatorSessions(Db);

impl OperatorSessions {
    /// The sessions in `db`.
    pub const fn new(db: Db) -> Self {
        Self(db)
    }

    /// Opens a session. Returns its ID, which is stored nowhere. Of one token the oldest sessions beyond 20 end.
    pub async fn open(&self, signed_in: &SignedIn) -> Result<Bearing, StoreError> {
        let id = Bearing::fresh();
        operator_sessions::open(&self.0, &id.hash(), signed_in, LIFETIME).await?;
        Ok(id)
    }

    /// Finds a session; `None` if it has ended, or its token is no longer valid. `in_use` postpones its end: requests that
    /// the page makes by itself do not.
    pub async fn find(&self, id: &Bearing, in_use: bool) -> Result<Option<OpenSession>, StoreError> {
        Ok(operator_sessions::find(&self.0, &id.hash(), LIFETIME.idle, in_use).await?)
    }

    /// Ends a session.
    pub async fn close(&self, id: &Bearing) -> Result<(), StoreError> {
        Ok(operator_sessions::close(&self.0, &id.hash()).await?)
    }

    /// Uses up a sign-in link. Returns the token that it signs in; `None` if it is unknown, was used or has expired.
    pub async fn take_link(&self, link: &Bearing) -> Result<Option<SignedIn>, StoreError> {
        Ok(operator_sessions::take_link(&self.0, &link.hash()).await?)
    }

    /// Records that a session has sent a form. Returns false if it has sent it before.
    pub async fn submit(&self, id: &Bearing, submission_id: Uuid) -> Result<bool, StoreError> {
        Ok(operator_sessions::submit(&self.0, &id.hash(), submission_id).await?)
    }

    /// Records the outcome of a form.
    pub async fn answer(&self, id: &Bearing, answered: &Submission) -> Result<(), StoreError> {
        Ok(operator_sessions::answer(&self.0, &id.hash(), answered).await?)
    }

    /// Finds a form that a session has sent.
    pub async fn submission(
        &self,
        id: &Bearing,
        submission_id: Uuid,
    ) -> Result<Option<Submission>, StoreError> {
        Ok(operator_sessions::submission(&self.0, &id.hash(), submission_id).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_that_the_service_issues_are_looked_up() {
        let issued = Bearing::fresh();
        assert_eq!(Bearing::parse(issued.expose()).map(|read| read.hash()), Some(issued.hash()));
        for text in ["", "x", &"a".repeat(42), &"a".repeat(44), &" ".repeat(43), &"ä".repeat(43)] {
            assert!(Bearing::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn form_token_differs_by_session_and_from_what_is_stored() {
        let (one, other) = (Bearing::fresh(), Bearing::fresh());
        assert_eq!(one.form_token(), one.form_token());
        assert_ne!(one.form_token(), other.form_token());
        assert_ne!(one.form_token(), URL_SAFE_NO_PAD.encode(one.hash()));
        assert!(!format!("{one:?}").contains(one.expose()));
    }
}
