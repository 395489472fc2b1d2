//! Task IDs that only the agent can read: a libsodium sealed box (`crypto_box_seal`) to the X25519 key of the agent's
//! Ed25519 pair, in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::OsRng;

use super::public_key::PublicKey;

/// Seals `text`. Each box is different, and only the holder of the private key can open it.
pub fn seal(key: &PublicKey, text: &str) -> String {
    let sealed = crypto_box::PublicKey::from_bytes(key.to_x25519()).seal(&mut OsRng, text.as_bytes());
    STANDARD.encode(sealed.expect("the text is shorter than the cipher's limit"))
}

#[cfg(test)]
mod tests {
    use ring::digest::{SHA512, digest};
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    #[test]
    fn only_the_owner_can_open_a_box_and_no_two_boxes_are_equal() {
        let open = |seed: [u8; 32], sealed: &str| {
            // RFC 8032, 5.1.5: the scalar of the pair is the first half of the seed's SHA-512.
            let scalar: [u8; 32] = digest(&SHA512, &seed).as_ref()[..32].try_into().unwrap();
            crypto_box::SecretKey::from_bytes(scalar).unseal(&STANDARD.decode(sealed).unwrap())
        };
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = PublicKey::from_bytes(pair.public_key().as_ref().try_into().unwrap()).unwrap();
        let sealed = [seal(&key, "a task"), seal(&key, "a task")];
        assert_ne!(sealed[0], sealed[1]);
        for one in &sealed {
            assert_eq!(open([7; 32], one).unwrap(), b"a task");
            assert!(open([8; 32], one).is_err());
        }
    }
}
