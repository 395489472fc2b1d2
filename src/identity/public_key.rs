//! An agent's public key: an OpenSSH line `ssh-ed25519 <base64> [comment]`, and what is signed with its other half.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::IsIdentity;
use nas_cron_protocol::InvalidField;
use ring::signature::{ED25519, UnparsedPublicKey};

/// The name of the field on the wire.
const FIELD: &str = "agent_public_key";
/// The type of key that is taken.
const TYPE: &str = "ssh-ed25519";
/// The longest line, in bytes: 80 and a comment.
const MAX_LINE: usize = 1024;
/// The bytes of a point.
const LENGTH: usize = 32;

/// Other types, by what their names begin with. They are told by name, so that whoever sends one knows what it was.
const OTHER_TYPES: [&str; 6] = ["ssh-rsa", "ssh-dss", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "ssh-ed448"];

/// An Ed25519 public key that is fit to be trusted: canonical, on the curve, in the prime-order group. So there is one
/// encoding of each key, and no signature that many keys verify.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; LENGTH]);

impl PublicKey {
    /// Reads one line as `ssh-keygen` writes it (RFC 8709, 4; RFC 4253, 6.6). The comment is not kept.
    ///
    /// What was sent is never repeated: it may be the wrong half.
    pub fn parse(line: &str) -> Result<Self, InvalidField> {
        let refuse = |problem: &str| InvalidField::new(FIELD, problem);
        if line.contains("PRIVATE KEY") {
            return Err(refuse(
                "is a private key, which never leaves the agent: take it for known to others, make a new pair, and \
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
        of_type(kind)?;
        let text = words.next().ok_or_else(|| refuse("ends after its type: the key in base64 is missing"))?;
        let blob = STANDARD
            .decode(text)
            .map_err(|_| refuse("is not base64 after its type (the standard alphabet, with padding)"))?;
        Self::from_blob(&blob)
    }

    /// The inside of the base64: the type once more, then the point, each a string with its length before it
    /// (RFC 4251, 5), and nothing else.
    fn from_blob(blob: &[u8]) -> Result<Self, InvalidField> {
        let refuse = |problem: &str| InvalidField::new(FIELD, problem);
        let cut = || refuse("is cut short inside its base64");
        let (kind, rest) = string(blob).ok_or_else(cut)?;
        if kind != TYPE.as_bytes() {
            return Err(refuse("says another type inside its base64 than before it"));
        }
        let (point, rest) = string(rest).ok_or_else(cut)?;
        let point: [u8; LENGTH] = point
            .try_into()
            .map_err(|_| refuse("must hold a point of 32 bytes, as every Ed25519 key does"))?;
        if !rest.is_empty() {
            return Err(refuse("has bytes after the key inside its base64"));
        }
        Self::from_bytes(point).ok_or_else(|| {
            refuse(
                "is no point that a key pair can have (not canonical, not on the curve, or of small order): send the \
                 line of a key that was made by ssh-keygen or the like",
            )
        })
    }

    /// The point in its encoding of RFC 8032; `None` unless it is one that a key pair can have.
    pub fn from_bytes(encoded: [u8; LENGTH]) -> Option<Self> {
        let point = CompressedEdwardsY(encoded).decompress()?;
        let canonical = point.compress().to_bytes() == encoded;
        (canonical && !point.is_identity() && point.is_torsion_free()).then_some(Self(encoded))
    }

    /// For rows that were checked when they were stored.
    pub(super) fn stored(encoded: &[u8]) -> Self {
        Self(encoded.try_into().expect("the table holds points of 32 bytes, by its CHECK"))
    }

    /// The encoded point.
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// Whether `signature` is this key's over `message`: pure Ed25519 (RFC 8032, 5.1.7), and of the two numbers that
    /// would do for its second half only the canonical one.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    /// The X25519 key of the same pair: what a sealed box for its owner is made for.
    pub(super) fn to_x25519(self) -> [u8; LENGTH] {
        let point = CompressedEdwardsY(self.0).decompress();
        point.expect("it was on the curve when it was read").to_montgomery().to_bytes()
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

/// The word before the base64.
fn of_type(kind: &str) -> Result<(), InvalidField> {
    if kind == TYPE {
        return Ok(());
    }
    let problem = if kind.contains("-cert-v01@openssh.com") {
        format!("is a certificate: send the plain {TYPE} key that it is for")
    } else if let Some(other) = OTHER_TYPES.iter().find(|other| kind.starts_with(**other)) {
        let other = other.trim_end_matches('-');
        format!("is a key of another type ({other}): make one with `ssh-keygen -t ed25519`")
    } else {
        format!("must begin with `{TYPE} `: options, and types of another name, are not taken")
    };
    Err(InvalidField::new(FIELD, problem))
}

/// A string with its length before it, and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Strings one after the other, each with its length before it.
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

    /// A well-known line, as `ssh-keygen` wrote it for the first vector of RFC 8032, 7.1.
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
    fn a_line_is_read_and_written_alike_and_its_comment_dropped() {
        let key = PublicKey::parse(LINE).unwrap();
        assert_eq!(
            hex::encode(key.as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(key.to_string(), LINE);
        for clothes in [
            format!("{LINE} me@host"),
            format!("{LINE} two words"),
            format!("{LINE} "),
            LINE.replacen(' ', "\t", 1),
        ] {
            assert_eq!(PublicKey::parse(&clothes).unwrap(), key, "{clothes}");
        }
    }

    #[test]
    fn another_kind_of_line_is_refused_by_name() {
        for (wrong, expected) in [
            ("", "must not be empty"),
            ("   ", "must not be empty"),
            ("ssh-ed25519", "the key in base64 is missing"),
            ("ssh-ed25519 ", "the key in base64 is missing"),
            ("ssh-rsa AAAAB3NzaC1yc2E=", "another type (ssh-rsa)"),
            ("ecdsa-sha2-nistp256 AAAA", "another type (ecdsa-sha2)"),
            ("sk-ssh-ed25519@openssh.com AAAA", "another type (sk-ssh)"),
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
        // Nothing of it is repeated: it may be the wrong half of the pair.
        assert!(!refused("MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v").contains("MC4C"));
    }

    #[test]
    fn base64_is_of_one_alphabet_and_padded() {
        // 51 bytes need no padding: another key's blob is made to.
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
    fn the_inside_agrees_with_the_outside_to_the_last_byte() {
        let key = *PublicKey::parse(LINE).unwrap().as_bytes();
        assert_eq!(line(&strings(&[b"ssh-ed25519", &key])), LINE);
        for (wrong, expected) in [
            (strings(&[b"ssh-rsa", &key]), "another type inside"),
            (strings(&[b"ssh-ed25519 ", &key]), "another type inside"),
            (strings(&[b"ssh-ed25519", &key[..31]]), "a point of 32 bytes"),
            (strings(&[b"ssh-ed25519", &[&key[..], &[0]].concat()]), "a point of 32 bytes"),
            (strings(&[b"ssh-ed25519", b""]), "a point of 32 bytes"),
            (strings(&[b"ssh-ed25519"]), "cut short"),
            ([strings(&[b"ssh-ed25519", &key]), vec![0]].concat(), "bytes after the key"),
            (strings(&[b"ssh-ed25519", &key, b"more"]), "bytes after the key"),
            (strings(&[b"ssh-ed25519", &key])[..50].to_vec(), "cut short"),
            ([&[0xff; 4][..], b"ssh-ed25519"].concat(), "cut short"),
            ([&strings(&[b"ssh-ed25519"])[..], &[0xff, 0xff, 0xff, 0xff], &key].concat(), "cut short"),
        ] {
            assert!(refused(&line(&wrong)).contains(expected), "{expected}: {}", refused(&line(&wrong)));
        }
    }

    /// The eight points of small order, and the other encodings that they and their like have: with one of them for a
    /// key, a signature could be made without any secret.
    #[test]
    fn a_point_that_no_key_pair_has_is_refused() {
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
                    .contains("no point that a key pair")
            );
        }
        // Each of the eight is one: its eightfold is the identity, and they are all.
        for known in small {
            let point = CompressedEdwardsY(point(known)).decompress().unwrap();
            assert!(point.is_small_order(), "{known}");
        }
        // A good key with a part of small order: on the curve, canonical, and still refused.
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
    fn a_signature_has_one_form_only() {
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

    proptest::proptest! {
        #[test]
        fn no_line_panics_and_what_is_read_is_written_alike(line in "(ssh-ed25519 )?[A-Za-z0-9+/= ]{0,120}") {
            if let Ok(key) = PublicKey::parse(&line) {
                proptest::prop_assert_eq!(PublicKey::parse(&key.to_string()), Ok(key));
            }
        }

        #[test]
        fn every_pair_s_key_is_taken(seed: [u8; 32]) {
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let key = PublicKey::from_bytes(pair.public_key().as_ref().try_into().unwrap());
            proptest::prop_assert!(key.is_some());
        }
    }
}
