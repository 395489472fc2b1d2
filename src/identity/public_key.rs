//! An agent's public key, an OpenSSH line `ssh-ed25519 <base64> [comment]`, and the verification of its signatures.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::IsIdentity;
use nas_cron_protocol::InvalidField;
use ring::signature::{ED25519, UnparsedPublicKey};

/// Name of the field on the wire.
const FIELD: &str = "agent_public_key";
/// The accepted key type.
const TYPE: &str = "ssh-ed25519";
/// Maximum length of a line, in bytes: 80 and a comment.
const MAX_LINE: usize = 1024;
/// Length of an encoded point, in bytes.
const LENGTH: usize = 32;

/// Prefixes of other key types, which the error names.
const OTHER_TYPES: [&str; 6] = ["ssh-rsa", "ssh-dss", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "ssh-ed448"];

/// A safe Ed25519 public key: canonical, on the curve, and in the prime-order group. Therefore each key has only one
/// encoding, and no signature is valid for many keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; LENGTH]);

impl PublicKey {
    /// Parses one line as `ssh-keygen` writes it (RFC 8709, 4; RFC 4253, 6.6). The comment is dropped.
    ///
    /// Errors never repeat the input, because it may be a private key.
    pub fn parse(line: &str) -> Result<Self, InvalidField> {
        let refuse = |problem: &str| InvalidField::new(FIELD, problem);
        if line.contains("PRIVATE KEY") {
            return Err(refuse(
                "is a private key, which must never leave the agent: consider it leaked, generate a new key pair, and \
                 send the line of its .pub file",
            ));
        }
        if line.len() > MAX_LINE {
            return Err(refuse(&format!("must be at most {MAX_LINE} bytes long")));
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(refuse("must be one line, without a line break at its end"));
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let kind = words.next().ok_or_else(|| refuse("must not be empty"))?;
        check_type(kind)?;
        let text =
            words.next().ok_or_else(|| refuse("ends after the key type: the key in base64 is missing"))?;
        let blob = STANDARD
            .decode(text)
            .map_err(|_| refuse("is not base64 after the key type (the standard alphabet, with padding)"))?;
        Self::from_blob(&blob)
    }

    /// Parses the decoded base64: the type and the point, each a length-prefixed string (RFC 4251, 5), and nothing
    /// else.
    fn from_blob(blob: &[u8]) -> Result<Self, InvalidField> {
        let refuse = |problem: &str| InvalidField::new(FIELD, problem);
        let truncated = || refuse("is truncated: the base64 ends too early");
        let (kind, rest) = string(blob).ok_or_else(truncated)?;
        if kind != TYPE.as_bytes() {
            return Err(refuse("has another key type in its base64 than before it"));
        }
        let (point, rest) = string(rest).ok_or_else(truncated)?;
        let point: [u8; LENGTH] = point
            .try_into()
            .map_err(|_| refuse("must contain a key of 32 bytes, the length of Ed25519 keys"))?;
        if !rest.is_empty() {
            return Err(refuse("has extra bytes after the key in its base64"));
        }
        Self::from_bytes(point).ok_or_else(|| {
            refuse(
                "is not a valid Ed25519 public key (not canonical, not on the curve, or of small order): send a key \
                 that was generated with ssh-keygen or a similar tool",
            )
        })
    }

    /// Reads a point in the encoding of RFC 8032. Returns `None` if it cannot be the public half of a key pair.
    pub fn from_bytes(encoded: [u8; LENGTH]) -> Option<Self> {
        let point = CompressedEdwardsY(encoded).decompress()?;
        let canonical = point.compress().to_bytes() == encoded;
        (canonical && !point.is_identity() && point.is_torsion_free()).then_some(Self(encoded))
    }

    /// Reads a key from the database, which was checked before it was stored.
    pub(super) fn stored(encoded: &[u8]) -> Self {
        Self(encoded.try_into().expect("the table's CHECK requires 32 bytes"))
    }

    /// Returns the encoded point.
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// True if `signature` is this key's signature of `message`: pure Ed25519 (RFC 8032, 5.1.7), with a canonical
    /// second half only.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    /// Returns the X25519 public key of the same pair, for sealed boxes.
    pub(super) fn to_x25519(self) -> [u8; LENGTH] {
        let point = CompressedEdwardsY(self.0).decompress();
        point.expect("it was checked to be on the curve").to_montgomery().to_bytes()
    }
}

/// The line, without a comment.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TYPE} {}", STANDARD.encode(strings(&[TYPE.as_bytes(), &self.0])))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks the key type, the word before the base64.
fn check_type(kind: &str) -> Result<(), InvalidField> {
    if kind == TYPE {
        return Ok(());
    }
    let problem = if kind.contains("-cert-v01@openssh.com") {
        format!("is a certificate: send the plain {TYPE} key that it certifies")
    } else if let Some(other) = OTHER_TYPES.iter().find(|other| kind.starts_with(**other)) {
        let other = other.trim_end_matches('-');
        format!("has an unsupported key type ({other}): generate a key with `ssh-keygen -t ed25519`")
    } else {
        format!("must begin with `{TYPE} `: options and other key types are not supported")
    };
    Err(InvalidField::new(FIELD, problem))
}

/// Splits off a length-prefixed string.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Concatenates length-prefixed strings.
fn strings(parts: &[&[u8]]) -> Vec<u8> {
    let one = |part: &&[u8]| {
        let length = u32::try_from(part.len()).expect("a key is short");
        [&length.to_be_bytes()[..], part].concat()
    };
    parts.iter().flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    /// The line that `ssh-keygen` writes for the first test vector of RFC 8032, 7.1.
    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

    fn line(blob: &[u8]) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(blob))
    }

    fn refused(line: &str) -> String {
        PublicKey::parse(line).expect_err(line).to_string()
    }

    fn point(hex_digits: &str) -> [u8; 32] {
        hex::decode(hex_digits).unwrap().try_into().unwrap()
    }

    #[test]
    fn line_is_parsed_and_written_unchanged_without_its_comment() {
        let key = PublicKey::parse(LINE).unwrap();
        assert_eq!(
            hex::encode(key.as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(key.to_string(), LINE);
        for variant in [
            format!("{LINE} me@host"),
            format!("{LINE} two words"),
            format!("{LINE} "),
            LINE.replacen(' ', "\t", 1),
        ] {
            assert_eq!(PublicKey::parse(&variant).unwrap(), key, "{variant}");
        }
    }

    #[test]
    fn other_lines_are_rejected_with_the_reason() {
        for (wrong, expected) in [
            ("", "must not be empty"),
            ("   ", "must not be empty"),
            ("ssh-ed25519", "the key in base64 is missing"),
            ("ssh-ed25519 ", "the key in base64 is missing"),
            ("ssh-rsa AAAAB3NzaC1yc2E=", "unsupported key type (ssh-rsa)"),
            ("ecdsa-sha2-nistp256 AAAA", "unsupported key type (ecdsa-sha2)"),
            ("sk-ssh-ed25519@openssh.com AAAA", "unsupported key type (sk-ssh)"),
            ("ssh-ed25519-cert-v01@openssh.com AAAA", "is a certificate"),
            ("sk-ssh-ed25519-cert-v01@openssh.com AAAA", "is a certificate"),
            ("SSH-ED25519 AAAA", "must begin with `ssh-ed25519 `"),
            ("AAAAC3NzaC1lZDI1NTE5", "must begin with `ssh-ed25519 `"),
            ("command=\"x\" ssh-ed25519 AAAA", "options"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "is a private key"),
        ] {
            assert!(refused(wrong).contains(expected), "{wrong}: {}", refused(wrong));
        }
        for odd in ["\n", "\r", "\0", "\u{1b}", "\nssh-ed25519 AAAA", "\u{85}"] {
            assert!(refused(&format!("{LINE}{odd}")).contains("must be one line"), "{odd:?}");
        }
        assert!(refused(&format!("{LINE} {}", "x".repeat(1024))).contains("at most 1024 bytes"));
        assert!(PublicKey::parse(&format!("{LINE} {}", "x".repeat(1024 - LINE.len() - 1))).is_ok());
        // The error does not repeat the input, which may be a private key.
        assert!(!refused("MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v").contains("MC4C"));
    }

    #[test]
    fn base64_has_the_standard_alphabet_and_padding() {
        // The blob has 51 bytes and needs no padding.
        for wrong in [
            LINE.replace('+', "-"),
            LINE.replace('/', "_").replace("d75", "_"),
            format!("{LINE}="),
            format!("{LINE}A"),
            LINE[..LINE.len() - 1].to_owned(),
            LINE.replacen("AAAAC3", "AAAA.C3", 1),
            format!("{} {}", &LINE[..30], &LINE[30..]),
        ] {
            if wrong != LINE {
                refused(&wrong);
            }
        }
        assert!(refused(&LINE.replace('+', "-")).contains("is not base64"));
    }

    #[test]
    fn base64_must_contain_exactly_the_type_and_the_key() {
        let key = *PublicKey::parse(LINE).unwrap().as_bytes();
        assert_eq!(line(&strings(&[b"ssh-ed25519", &key])), LINE);
        for (wrong, expected) in [
            (strings(&[b"ssh-rsa", &key]), "another key type in its base64"),
            (strings(&[b"ssh-ed25519 ", &key]), "another key type in its base64"),
            (strings(&[b"ssh-ed25519", &key[..31]]), "a key of 32 bytes"),
            (strings(&[b"ssh-ed25519", &[&key[..], &[0]].concat()]), "a key of 32 bytes"),
            (strings(&[b"ssh-ed25519", b""]), "a key of 32 bytes"),
            (strings(&[b"ssh-ed25519"]), "truncated"),
            ([strings(&[b"ssh-ed25519", &key]), vec![0]].concat(), "extra bytes after the key"),
            (strings(&[b"ssh-ed25519", &key, b"more"]), "extra bytes after the key"),
            (strings(&[b"ssh-ed25519", &key])[..50].to_vec(), "truncated"),
            ([&[0xff; 4][..], b"ssh-ed25519"].concat(), "truncated"),
            ([&strings(&[b"ssh-ed25519"])[..], &[0xff, 0xff, 0xff, 0xff], &key].concat(), "truncated"),
        ] {
            assert!(refused(&line(&wrong)).contains(expected), "{expected}: {}", refused(&line(&wrong)));
        }
    }

    /// The eight points of small order, in all their encodings, and other invalid points. With a key of small order, a
    /// signature could be forged without any secret.
    #[test]
    fn invalid_points_are_rejected() {
        let order_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
        let small = [
            "0100000000000000000000000000000000000000000000000000000000000000", // the identity
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
            "0000000000000000000000000000000000000000000000000000000000000000", // order 4, both
            "0000000000000000000000000000000000000000000000000000000000000080",
            order_8,
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        ];
        let not_canonical = [
            "0100000000000000000000000000000000000000000000000000000000000080", // x = 0 with a sign
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // y = p
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // y = p + 1
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ];
        let off_the_curve = ["0200000000000000000000000000000000000000000000000000000000000000"];
        for wrong in small.iter().chain(&not_canonical).chain(&off_the_curve) {
            assert!(PublicKey::from_bytes(point(wrong)).is_none(), "{wrong}");
            assert!(
                refused(&line(&strings(&[b"ssh-ed25519", &point(wrong)])))
                    .contains("not a valid Ed25519 public key")
            );
        }
        // All eight have small order, and there are no others.
        for known in small {
            let point = CompressedEdwardsY(point(known)).decompress().unwrap();
            assert!(point.is_small_order(), "{known}");
        }
        // A valid key plus a point of small order is canonical and on the curve, but rejected.
        let good = CompressedEdwardsY(*PublicKey::parse(LINE).unwrap().as_bytes()).decompress().unwrap();
        let mixed = good + CompressedEdwardsY(point(order_8)).decompress().unwrap();
        assert!(!mixed.is_small_order());
        assert!(PublicKey::from_bytes(mixed.compress().to_bytes()).is_none());
    }

    /// The order of the group, L, in little-endian bytes (RFC 8032, 5.1).
    const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

    fn plus_order(signature: &[u8]) -> Vec<u8> {
        let mut sum = signature.to_vec();
        let mut carry = 0_u16;
        for (byte, more) in sum[32..].iter_mut().zip(point(ORDER)) {
            let total = u16::from(*byte) + u16::from(more) + carry;
            *byte = total.to_le_bytes()[0];
            carry = total >> 8;
        }
        assert_eq!(carry, 0);
        sum
    }

    #[test]
    fn signature_has_only_one_valid_form() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = PublicKey::from_bytes(pair.public_key().as_ref().try_into().unwrap()).unwrap();
        let signature = pair.sign(b"message").as_ref().to_vec();
        assert!(key.verifies(b"message", &signature));
        assert!(!key.verifies(b"massage", &signature));
        assert!(!key.verifies(b"message", &plus_order(&signature)), "S + L");
        assert!(!key.verifies(b"message", &signature[..63]));
        assert!(!key.verifies(b"message", &[&signature[..], &[0]].concat()));
        assert!(!key.verifies(b"message", &[0; 64]));
        for bit in 0..512 {
            let mut other = signature.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verifies(b"message", &other), "bit {bit}");
        }
    }

    #[test]
    fn wycheproof_signatures_are_judged_correctly() {
        let set = wycheproof_ng_eddsa::TestName::Ed25519.json_data();
        let set: serde_json::Value = serde_json::from_str(set).unwrap();
        let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
        let mut count = 0;
        for group in set["testGroups"].as_array().unwrap() {
            let key = PublicKey::from_bytes(bytes(&group["publicKey"]["pk"]).try_into().unwrap()).unwrap();
            for test in group["tests"].as_array().unwrap() {
                let verified = key.verifies(&bytes(&test["msg"]), &bytes(&test["sig"]));
                assert_eq!(verified, test["result"] == "valid", "{}: {}", test["tcId"], test["comment"]);
                count += 1;
            }
        }
        assert!(count >= 140, "{count} signatures");
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics_and_valid_lines_survive_a_round_trip(line in "(ssh-ed25519 )?[A-Za-z0-9+/= ]{0,120}") {
            if let Ok(key) = PublicKey::parse(&line) {
                proptest::prop_assert_eq!(PublicKey::parse(&key.to_string()), Ok(key));
            }
        }

        #[test]
        fn public_key_of_every_pair_is_accepted(seed: [u8; 32]) {
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let key = PublicKey::from_bytes(pair.public_key().as_ref().try_into().unwrap());
            proptest::prop_assert!(key.is_some());
        }
    }
}
