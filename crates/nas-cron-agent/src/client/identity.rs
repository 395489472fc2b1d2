//! The agent's own key. It is generated here, and its private half never leaves the auth store.
//!
//! codex uses the same envelopes (docs/clients.md#codex-agent-identity-assertions), so everything signed here matches its
//! format byte for byte.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, SecondsFormat, Utc};
use ring::digest::{SHA512, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::Serialize;

/// Offset of the 32-byte seed in an Ed25519 key in PKCS#8 (RFC 8410). Before it come the length and the version of the
/// structure, which depend on whether a public key follows, and then these bytes: the algorithm (1.3.101.112) and two
/// headers.
const SEED_AT: usize = 16;
const ALGORITHM_AND_SEED: [u8; 11] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// The key type, in the OpenSSH line and again inside its base64 (RFC 8709).
const KEY_TYPE: &str = "ssh-ed25519";

/// An Ed25519 key pair. Its `Debug` shows the public half.
pub struct AgentKey {
    pair: Ed25519KeyPair,
    seed: SecretBox<[u8; 32]>,
}

/// A stored private key that could not be parsed. The error never contains any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid `private_key`: expected an Ed25519 key in base64 PKCS#8")]
pub struct InvalidKey;

/// A sealed task id that could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`encrypted_task_id` is not sealed to this agent's key")]
pub struct UnsealError;

/// Body of a task registration.
#[derive(Clone, Debug, Serialize)]
pub struct TaskRegistration {
    /// RFC 3339, whole seconds, `Z`.
    timestamp: String,
    /// Signature of `{agent_runtime_id}:{timestamp}`, in standard base64.
    signature: String,
}

/// Fields in alphabetical order, as real agents write them.
#[derive(Serialize)]
struct Envelope<'a> {
    agent_runtime_id: &'a str,
    signature: String,
    task_id: &'a str,
    timestamp: String,
}

impl AgentKey {
    /// Generates a key. Returns it with its private half as the store keeps it.
    pub fn generate() -> (Self, SecretString) {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let pkcs8 = pkcs8.expect("the system's random source works");
        let text = SecretString::from(STANDARD.encode(pkcs8.as_ref()));
        let key = Self::parse(&text).expect("ring parses a key that it generated");
        (key, text)
    }

    /// Parses base64 PKCS#8, with or without the public half.
    pub fn parse(private_key: &SecretString) -> Result<Self, InvalidKey> {
        let der = SecretBox::new(Box::new(
            STANDARD.decode(private_key.expose_secret().trim()).map_err(|_| InvalidKey)?,
        ));
        let der = der.expose_secret();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| InvalidKey)?;
        let headers = der.get(SEED_AT - ALGORITHM_AND_SEED.len()..SEED_AT);
        let seed = der.get(SEED_AT..SEED_AT + 32).filter(|_| headers == Some(&ALGORITHM_AND_SEED));
        let seed: [u8; 32] = seed.and_then(|seed| seed.try_into().ok()).ok_or(InvalidKey)?;
        Ok(Self { pair, seed: SecretBox::new(Box::new(seed)) })
    }

    /// Returns the public half as an OpenSSH line without a comment.
    pub fn public_line(&self) -> String {
        let mut blob = Vec::new();
        for part in [KEY_TYPE.as_bytes(), self.pair.public_key().as_ref()] {
            let length = u32::try_from(part.len()).expect("both parts are tens of bytes long");
            blob.extend_from_slice(&length.to_be_bytes());
            blob.extend_from_slice(part);
        }
        format!("{KEY_TYPE} {}", STANDARD.encode(blob))
    }

    /// Signs a task registration.
    pub fn task_registration(&self, agent_runtime_id: &str, now: DateTime<Utc>) -> TaskRegistration {
        let timestamp = whole_seconds(now);
        let signature = self.sign(&format!("{agent_runtime_id}:{timestamp}"));
        TaskRegistration { timestamp, signature }
    }

    /// Signs an assertion, which is valid for some minutes: the credential after `AgentAssertion` in the `Authorization`
    /// header.
    pub fn assertion(&self, agent_runtime_id: &str, task_id: &str, now: DateTime<Utc>) -> String {
        let timestamp = whole_seconds(now);
        let signature = self.sign(&format!("{agent_runtime_id}:{task_id}:{timestamp}"));
        let envelope = Envelope { agent_runtime_id, signature, task_id, timestamp };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&envelope).expect("strings are always JSON"))
    }

    /// Opens a task id that is sealed (libsodium's `crypto_box_seal`) to the X25519 key derived from this key: the first
    /// half of the seed's SHA-512, which Ed25519 itself uses (RFC 8032, 5.1.5).
    pub fn open(&self, encrypted_task_id: &str) -> Result<String, UnsealError> {
        let hash = digest(&SHA512, self.seed.expose_secret());
        let scalar: [u8; 32] = hash.as_ref()[..32].try_into().expect("half of 64 bytes");
        let sealed = STANDARD.decode(encrypted_task_id).map_err(|_| UnsealError)?;
        let opened = crypto_box::SecretKey::from(scalar).unseal(&sealed).map_err(|_| UnsealError)?;
        String::from_utf8(opened).map_err(|_| UnsealError)
    }

    fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.pair.sign(text.as_bytes()))
    }
}

impl std::fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AgentKey").field(&self.public_line()).finish()
    }
}

fn whole_seconds(now: DateTime<Utc>) -> String {
    now.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// RFC 8032, 7.1, test 1: seed and public half.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    /// The same key with and without its public half.
    fn encodings() -> [SecretString; 2] {
        let v1 = format!("302e020100300506032b657004220420{SEED}");
        let v2 = format!("3053020101300506032b657004220420{SEED}a123032100{PUBLIC}");
        [v1, v2].map(|der| STANDARD.encode(hex::decode(der).unwrap()).into())
    }

    fn now() -> DateTime<Utc> {
        "2026-04-16T17:36:00.9Z".parse().unwrap()
    }

    #[test]
    fn both_encodings_give_the_same_public_line() {
        for text in encodings() {
            let key = AgentKey::parse(&text).unwrap();
            let line = key.public_line();
            let blob = STANDARD.decode(line.strip_prefix("ssh-ed25519 ").unwrap()).unwrap();
            assert_eq!(hex::encode(blob), format!("0000000b7373682d6564323535313900000020{PUBLIC}"));
            assert_eq!(format!("{key:?}"), format!("AgentKey({line:?})"));
        }
    }

    #[test]
    fn invalid_key_is_rejected_and_not_shown() {
        let ec = ring::signature::EcdsaKeyPair::generate_pkcs8(
            &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &SystemRandom::new(),
        );
        let cut = STANDARD.encode(&STANDARD.decode(encodings()[0].expose_secret()).unwrap()[..40]);
        for text in ["", "secret!", &STANDARD.encode(SEED), &STANDARD.encode(ec.unwrap()), &cut] {
            let error = AgentKey::parse(&text.to_owned().into()).unwrap_err();
            assert_eq!(error.to_string(), "invalid `private_key`: expected an Ed25519 key in base64 PKCS#8");
        }
    }

    #[test]
    fn assertion_is_the_envelope_of_real_agents() {
        let key = AgentKey::parse(&encodings()[0]).unwrap();
        let envelope = URL_SAFE_NO_PAD.decode(key.assertion("rt-1", "task-1", now())).unwrap();
        let text = String::from_utf8(envelope).unwrap();
        assert!(text.starts_with(r#"{"agent_runtime_id":"rt-1","signature":""#), "{text}");
        let envelope: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&envelope["task_id"], &envelope["timestamp"]),
            (&json!("task-1"), &json!("2026-04-16T17:36:00Z"))
        );
        let public = hex::decode(PUBLIC).unwrap();
        let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
        let verify = |message: &str, signature: &Value| {
            let signature = STANDARD.decode(signature.as_str().unwrap()).unwrap();
            public.verify(message.as_bytes(), &signature)
        };
        verify("rt-1:task-1:2026-04-16T17:36:00Z", &envelope["signature"]).unwrap();
        let registration = serde_json::to_value(key.task_registration("rt-1", now())).unwrap();
        assert_eq!(registration["timestamp"], "2026-04-16T17:36:00Z");
        verify("rt-1:2026-04-16T17:36:00Z", &registration["signature"]).unwrap();
    }

    /// Vectors of independent implementations: see `tests/external/agent_tools/vectors.py`.
    fn vectors() -> Vec<Value> {
        serde_json::from_str(include_str!("../../../../tests/data/agent_identity_vectors.json")).unwrap()
    }

    fn of_seed(seed: &Value) -> AgentKey {
        let der = format!("302e020100300506032b657004220420{}", seed.as_str().unwrap());
        AgentKey::parse(&STANDARD.encode(hex::decode(der).unwrap()).into()).unwrap()
    }

    #[test]
    fn lines_and_signatures_match_independent_implementations() {
        let (agent, task) = ("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d", "0b8e1b0e-6f3a-4c55-8e0c-2f6f1a2b3c4d");
        let at = "2027-01-15T08:00:00Z".parse().unwrap();
        for vector in vectors() {
            let key = of_seed(&vector["seed"]);
            assert_eq!(key.public_line(), vector["line"]);
            assert_eq!(key.task_registration(agent, at).signature, vector["registration"]);
            assert_eq!(key.assertion(agent, task, at), vector["assertion"]);
        }
    }

    #[test]
    fn sealed_task_is_opened_only_by_its_key() {
        for vector in vectors() {
            let key = of_seed(&vector["seed"]);
            let recipient: [u8; 32] =
                hex::decode(vector["x25519"].as_str().unwrap()).unwrap().try_into().unwrap();
            let sealed = crypto_box::PublicKey::from(recipient).seal(&mut crypto_box::aead::OsRng, b"task-1");
            let sealed = STANDARD.encode(sealed.unwrap());
            assert_eq!(key.open(&sealed), Ok("task-1".to_owned()));
            assert_eq!(AgentKey::generate().0.open(&sealed), Err(UnsealError));
            for broken in ["", "AAAA", &sealed[..40], "***"] {
                assert_eq!(key.open(broken), Err(UnsealError), "{broken}");
            }
        }
    }

    #[test]
    fn generated_key_round_trips_through_its_text() {
        let (key, text) = AgentKey::generate();
        assert_eq!(AgentKey::parse(&text).unwrap().public_line(), key.public_line());
    }
}
