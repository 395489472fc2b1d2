//! The tokens whose signature a set of keys has verified.
//!
//! Agents send the same token for minutes or hours, and a signature costs more to verify than everything else about a
//! request. Only signatures are remembered: the claims and the time are checked for each request. A set of keys that was
//! fetched anew remembers nothing, so a token is refused as soon as its key is gone.

use std::collections::HashSet;
use std::mem;

use parking_lot::Mutex;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::token::Presented;

/// Maximum tokens in each of two generations: half a megabyte in all.
const GENERATION: usize = 4_096;

/// Names a token with its header, claims and signature.
pub(super) type TokenHash = [u8; SHA256_OUTPUT_LEN];

/// Verified tokens. If there are too many, those that were not presented for the longest time are forgotten.
#[derive(Debug, Default)]
pub(super) struct VerifiedTokens(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    latest: HashSet<TokenHash>,
    earlier: HashSet<TokenHash>,
}

impl VerifiedTokens {
    /// True if this token was [added](Self::add).
    pub(super) fn contains(&self, token: &TokenHash) -> bool {
        let known = self.0.lock();
        if known.latest.contains(token) {
            return true;
        }
        let is_earlier = known.earlier.contains(token);
        drop(known);
        if is_earlier {
            self.add(*token);
        }
        is_earlier
    }

    /// Adds a token whose signature is valid.
    pub(super) fn add(&self, token: TokenHash) {
        let mut known = self.0.lock();
        if known.latest.len() == GENERATION {
            known.earlier = mem::take(&mut known.latest);
        }
        known.latest.insert(token);
    }
}

/// Returns the name of a token.
pub(super) fn hash_of(token: &Presented<'_>) -> TokenHash {
    let mut context = Context::new(&SHA256);
    context.update(token.message.as_bytes());
    context.update(b".");
    context.update(token.signature.as_bytes());
    let mut hash = TokenHash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: usize) -> TokenHash {
        let mut token = TokenHash::default();
        token[..8].copy_from_slice(&number.to_be_bytes());
        token
    }

    #[test]
    fn tokens_in_use_are_remembered_and_memory_is_bounded() {
        let verified = VerifiedTokens::default();
        for number in 0..20 * GENERATION {
            verified.add(token(number));
            assert!(verified.contains(&token(0)), "it is in use");
        }
        assert!(verified.contains(&token(20 * GENERATION - 1)));
        assert!(!verified.contains(&token(1)), "it was not presented again");
        let known = verified.0.lock();
        assert!(known.latest.len() + known.earlier.len() <= 2 * GENERATION);
    }
}
