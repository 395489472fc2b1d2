//! Refresh tokens that are not stored.
//!
//! The tokens of a login are numbered and authenticate themselves: `prefix . base64url(login, number, tag)`. The tag is
//! an HMAC-SHA256 of the rest, with a key that is derived from the key-encryption key (HKDF, RFC 5869). Therefore:
//!
//! - The same token always has the same successor, so refreshes that are repeated after a lost response, or made by
//!   several processes at once, cannot fork a login.
//! - A login's row has one number, and every token with a lower number is known to be spent, however old it is.
//! - Invented tokens are rejected without a database statement, and the contents of the database give no access.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hkdf, hmac};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use uuid::Uuid;

/// Prefix of every refresh token, so that people and secret scanners recognize them.
pub const PREFIX: &str = "nascron_rt_";

/// 16 bytes of the login, 8 of the number.
const NAMED: usize = 24;
const TAG: usize = 32;
const ENCODED: usize = (NAMED + TAG) * 4 / 3 + 1;

/// Identifies one refresh token of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The login. The ID is random and appears only in its refresh tokens.
    pub login_id: Uuid,
    /// The number of the token, from 0.
    pub number: i64,
}

impl Ticket {
    /// Returns the ticket of the next refresh token.
    #[must_use]
    pub fn successor(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

/// Creates refresh tokens with the key-encryption key, and verifies those of its fallbacks as well.
#[derive(Debug)]
pub struct RefreshKeys {
    current: RefreshKey,
    fallbacks: Vec<RefreshKey>,
}

impl RefreshKeys {
    /// Derives the keys from the key-encryption key and its fallbacks.
    pub fn derive(current: &SecretBox<[u8; 32]>, fallbacks: &[SecretBox<[u8; 32]>]) -> Self {
        Self {
            current: RefreshKey::derive(current),
            fallbacks: fallbacks.iter().map(RefreshKey::derive).collect(),
        }
    }

    /// Returns the ID of the key that creates tokens. It reveals nothing about the key, and is stored with every login.
    pub fn current_id(&self) -> &[u8; 8] {
        &self.current.id
    }

    /// Returns the IDs of all keys.
    pub fn ids(&self) -> Vec<Vec<u8>> {
        self.all().map(|key| key.id.to_vec()).collect()
    }

    /// True if one of the keys has this ID.
    pub fn have(&self, id: &[u8]) -> bool {
        self.all().any(|key| key.id == id)
    }

    /// Returns the token of this ticket.
    pub fn token(&self, ticket: Ticket) -> SecretString {
        self.current.token(ticket)
    }

    /// Returns the ticket of a token that one of the keys created, and the ID of this key; `None` for any other text.
    pub fn read(&self, token: &str) -> Option<(Ticket, &[u8; 8])> {
        self.all().find_map(|key| Some((key.read(token)?, &key.id)))
    }

    fn all(&self) -> impl Iterator<Item = &RefreshKey> {
        std::iter::once(&self.current).chain(&self.fallbacks)
    }
}

/// Creates and verifies refresh tokens.
struct RefreshKey {
    key: hmac::Key,
    id: [u8; 8],
}

impl RefreshKey {
    /// Derives the key from a key-encryption key. It is the same on every replica, and has no other use.
    fn derive(key_encryption_key: &SecretBox<[u8; 32]>) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"nas-cron");
        let derived = salt.extract(key_encryption_key.expose_secret());
        let key: hmac::Key = derived
            .expand(&[b"refresh tokens"], hmac::HMAC_SHA256)
            .expect("32 bytes are less than HKDF's maximum of 8160")
            .into();
        let mut id = [0; 8];
        id.copy_from_slice(&hmac::sign(&key, b"id").as_ref()[..8]);
        Self { key, id }
    }

    fn token(&self, ticket: Ticket) -> SecretString {
        let mut bytes = Zeroizing::new([0; NAMED + TAG]);
        bytes[..16].copy_from_slice(ticket.login_id.as_bytes());
        bytes[16..NAMED].copy_from_slice(&ticket.number.to_be_bytes());
        let tag = hmac::sign(&self.key, &bytes[..NAMED]);
        bytes[NAMED..].copy_from_slice(tag.as_ref());
        let mut token = String::with_capacity(PREFIX.len() + ENCODED);
        token.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut token);
        token.into()
    }

    /// Returns the ticket of a token that this key created, or `None` for any other text. Takes constant time for all
    /// well-formed tokens.
    fn read(&self, token: &str) -> Option<Ticket> {
        let encoded = token.strip_prefix(PREFIX).filter(|encoded| encoded.len() == ENCODED)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
        let (named, tag) = bytes.split_at_checked(NAMED)?;
        hmac::verify(&self.key, named, tag).ok()?;
        let (login_id, number) = named.split_at_checked(16)?;
        Some(Ticket {
            login_id: Uuid::from_slice(login_id).ok()?,
            number: i64::from_be_bytes(number.try_into().ok()?),
        })
    }
}

impl std::fmt::Debug for RefreshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshKey(REDACTED)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> RefreshKey {
        RefreshKey::derive(&SecretBox::new(Box::new([byte; 32])))
    }

    fn ticket(number: i64) -> Ticket {
        Ticket { login_id: Uuid::from_u128(0x1234_5678), number }
    }

    #[test]
    fn token_is_read_only_by_the_key_that_created_it() {
        let token = key(1).token(ticket(7));
        assert_eq!(key(1).read(token.expose_secret()), Some(ticket(7)));
        assert_eq!(key(2).read(token.expose_secret()), None);
        assert_ne!(key(1).id, key(2).id);
        assert_eq!(format!("{:?}", key(1)), "RefreshKey(REDACTED)");
    }

    #[test]
    fn tokens_of_fallbacks_are_read_and_their_successors_have_the_current_key() {
        let bytes = |byte| SecretBox::new(Box::new([byte; 32]));
        let keys = RefreshKeys::derive(&bytes(2), &[bytes(3), bytes(1)]);
        let old = key(1).token(ticket(7));
        assert_eq!(keys.read(old.expose_secret()), Some((ticket(7), &key(1).id)));
        let next = keys.token(ticket(7).successor());
        assert_eq!(key(2).read(next.expose_secret()), Some(ticket(8)));
        assert_eq!(keys.read(next.expose_secret()), Some((ticket(8), keys.current_id())));
        assert_eq!(keys.read(key(4).token(ticket(7)).expose_secret()), None);
        assert!(keys.have(&key(3).id) && !keys.have(&key(4).id) && keys.ids().len() == 3);
    }

    #[test]
    fn same_ticket_has_the_same_token_and_others_differ() {
        let tokens = |number| key(1).token(ticket(number)).expose_secret().to_owned();
        assert_eq!(tokens(1), tokens(1));
        assert_ne!(tokens(1), tokens(2));
        assert_eq!(ticket(1).successor(), ticket(2));
        // Logins outlive releases, so the format must not change. The value was computed with an independent
        // implementation (Python cryptography: HKDF, HMAC).
        assert_eq!(
            tokens(1),
            "nascron_rt_AAAAAAAAAAAAAAAAEjRWeAAAAAAAAAABdfJvvx4axhXHpNjmicsQt0Ai3IR06uLoy9W1lByT1Zs"
        );
    }

    #[test]
    fn altered_tokens_are_rejected() {
        let token = key(1).token(ticket(7)).expose_secret().to_owned();
        for at in PREFIX.len()..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key(1).read(std::str::from_utf8(&altered).unwrap()), None, "at {at}");
        }
        for odd in
            ["", PREFIX, &token[1..], &token[..token.len() - 1], &format!("{token}A"), &format!("{token}=")]
        {
            assert_eq!(key(1).read(odd), None, "{odd}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics_or_is_accepted(text in "(nascron_rt_)?\\PC{0,90}") {
            assert_eq!(key(1).read(&text), None);
        }
    }
}
