//! Refresh tokens that need not be stored.
//!
//! The tokens of a login are numbered, and each is its own proof: `prefix . base64url(login, number, tag)`, the tag
//! being an HMAC-SHA256 of the rest under a key that is derived from the key-encryption key (HKDF, RFC 5869). So
//!
//! - the same token always has the same successor: refreshes that are repeated because an answer was lost, or that
//!   several processes make at once, cannot fork a login;
//! - a login's row holds one number, and every token before it is known to be spent, however old it is;
//! - what a stranger invents is refused before the database hears of it, and the database alone opens nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hkdf, hmac};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use uuid::Uuid;

/// How every refresh token begins, so that people and scanners of leaked secrets know one when they see it.
pub const PREFIX: &str = "nascron_rt_";

/// 16 bytes of the login, 8 of the number.
const NAMED: usize = 24;
const TAG: usize = 32;
const ENCODED: usize = (NAMED + TAG) * 4 / 3 + 1;

/// Which refresh token of which login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The login: random, and known from its refresh tokens only.
    pub login_id: Uuid,
    /// Counts from 0.
    pub number: i64,
}

impl Ticket {
    /// What it is exchanged for.
    #[must_use]
    pub fn successor(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

/// Makes refresh tokens, and knows its own.
pub struct RefreshKey {
    key: hmac::Key,
    id: [u8; 8],
}

impl RefreshKey {
    /// Derived: the same on every replica that has the same key-encryption key, and of no use for anything else.
    pub fn derive(key_encryption_key: &SecretBox<[u8; 32]>) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"nas-cron");
        let derived = salt.extract(key_encryption_key.expose_secret());
        let key: hmac::Key = derived
            .expand(&[b"refresh tokens"], hmac::HMAC_SHA256)
            .expect("32 bytes are far below the 8160 that HKDF gives")
            .into();
        let mut id = [0; 8];
        id.copy_from_slice(&hmac::sign(&key, b"id").as_ref()[..8]);
        Self { key, id }
    }

    /// A name of the key that tells nothing about it: kept with every login.
    pub fn id(&self) -> &[u8; 8] {
        &self.id
    }

    /// The token of this ticket.
    pub fn token(&self, ticket: Ticket) -> SecretString {
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

    /// The ticket of a token that this key made; of no other. Takes the same time for all that look like one.
    pub fn read(&self, token: &str) -> Option<Ticket> {
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
    fn a_token_is_read_by_the_key_that_made_it_and_by_no_other() {
        let token = key(1).token(ticket(7));
        assert_eq!(key(1).read(token.expose_secret()), Some(ticket(7)));
        assert_eq!(key(2).read(token.expose_secret()), None);
        assert_ne!(key(1).id(), key(2).id());
        assert_eq!(format!("{:?}", key(1)), "RefreshKey(REDACTED)");
    }

    #[test]
    fn the_same_ticket_has_the_same_token_and_every_other_another() {
        let tokens = |number| key(1).token(ticket(number)).expose_secret().to_owned();
        assert_eq!(tokens(1), tokens(1));
        assert_ne!(tokens(1), tokens(2));
        assert_eq!(ticket(1).successor(), ticket(2));
        // Logins outlive releases: what was handed out must still be read.
        // Checked with an independent implementation (Python cryptography: HKDF, HMAC).
        assert_eq!(
            tokens(1),
            "nascron_rt_AAAAAAAAAAAAAAAAEjRWeAAAAAAAAAABdfJvvx4axhXHpNjmicsQt0Ai3IR06uLoy9W1lByT1Zs"
        );
    }

    #[test]
    fn no_altered_token_is_read() {
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
        fn nothing_that_strangers_send_panics(text in "(nascron_rt_)?\\PC{0,90}") {
            assert_eq!(key(1).read(&text), None);
        }
    }
}
