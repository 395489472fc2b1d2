//! Admin tokens of the configuration, of which the service knows only the SHA-256.

use subtle::{Choice, ConstantTimeEq};

use crate::admin_tokens::hash;

/// The hashes of the tokens in the configuration. There may be several, so that tokens can be rotated.
#[derive(Clone, Default)]
pub struct ConfigTokens(Vec<[u8; 32]>);

impl ConfigTokens {
    /// Accepts the tokens with these SHA-256 hashes.
    pub fn new(hashes: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self(hashes.into_iter().collect())
    }

    /// True if there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if `token` is one of the tokens. The time depends only on the token's length.
    pub fn accept(&self, token: &str) -> bool {
        self.has(&hash(token))
    }

    /// True if this is the hash of one of the tokens.
    pub fn has(&self, hash: &[u8; 32]) -> bool {
        let one_of = |found: Choice, known: &[u8; 32]| found | known.as_slice().ct_eq(hash.as_slice());
        self.0.iter().fold(Choice::from(0), one_of).into()
    }
}

impl std::fmt::Debug for ConfigTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConfigTokens({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_tokens_are_accepted_so_that_they_can_be_rotated() {
        let tokens = ConfigTokens::new([hash("old"), hash("new")]);
        assert!(tokens.accept("old") && tokens.accept("new"));
        for wrong in ["", "ol", "old ", "OLD", &hex::encode(hash("old"))] {
            assert!(!tokens.accept(wrong), "{wrong}");
        }
        assert!(!ConfigTokens::default().accept(""));
    }

    #[test]
    fn debug_output_reveals_no_token() {
        let tokens = ConfigTokens::new([hash("old")]);
        assert_eq!(format!("{tokens:?}"), "ConfigTokens(1)");
    }
}
