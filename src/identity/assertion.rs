//! Assertions that agents present, `AgentAssertion <base64url(JSON)>`, and their time window. Pure.
//!
//! An assertion covers neither the method nor the body of its request, and two of the same second are identical. Anyone
//! who holds one can use it until its window ends, so it is a bearer token with a lifetime of a few minutes. Used
//! assertions are not remembered, because concurrent calls with the same one are legitimate.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_protocol::{AgentRuntimeId, TaskId, date_time, json};
use serde::Deserialize;

use super::IdentityError;
use super::public_key::PublicKey;

/// Maximum difference between the agent's clock and the service's, in both directions
/// (docs/contract.md#agent-identity).
pub const WINDOW: TimeDelta = TimeDelta::minutes(5);
/// Maximum length of an envelope, in bytes of base64. A real one has 352.
const MAX_ENVELOPE: usize = 2048;
/// Length of a signature, in bytes.
const SIGNATURE: usize = 64;

/// The fields of an envelope. Others are ignored.
#[derive(Deserialize)]
struct Envelope {
    agent_runtime_id: String,
    task_id: String,
    timestamp: String,
    signature: String,
}

/// A well-formed assertion that is not verified yet.
#[derive(Clone)]
pub struct Assertion {
    /// The claimed identity.
    pub agent_runtime_id: AgentRuntimeId,
    /// The task; `None` if the text is not a task ID that this service creates.
    pub task_id: Option<TaskId>,
    /// The time of signing.
    pub at: DateTime<Utc>,
    /// The text of the task ID, which is signed.
    task: String,
    signature: [u8; SIGNATURE],
}

impl std::fmt::Debug for Assertion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assertion").field("agent_runtime_id", &self.agent_runtime_id).finish_non_exhaustive()
    }
}

impl Assertion {
    /// Parses the text after the scheme. An ID that this service would not create is reported as unknown, not as
    /// malformed.
    pub fn read(presented: &str) -> Result<Self, IdentityError> {
        use IdentityError::Invalid;
        if presented.len() > MAX_ENVELOPE {
            return Err(Invalid("the assertion is longer than 2048 bytes"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(presented)
            .map_err(|_| Invalid("the assertion is not base64url without padding"))?;
        // White space before it would be accepted, too.
        if bytes.first() != Some(&b'{') {
            return Err(Invalid("the assertion is not a JSON object"));
        }
        let envelope: Envelope = json::from_slice(&bytes).map_err(|error| Invalid(json_problem(&error)))?;
        // The signature covers the text, so only one form of each ID is accepted.
        Ok(Self {
            agent_runtime_id: AgentRuntimeId::parse(&envelope.agent_runtime_id)
                .map_err(|_| IdentityError::UnknownAgent)?,
            task_id: TaskId::parse(&envelope.task_id).ok(),
            at: timestamp(&envelope.timestamp).ok_or(Invalid(TIMESTAMP))?,
            task: envelope.task_id,
            signature: signature(&envelope.signature).ok_or(Invalid(SIGNATURE_FORM))?,
        })
    }

    /// Verifies that `key` signed `"{agent_runtime_id}:{task_id}:{timestamp}"`.
    pub fn verify(&self, key: &PublicKey) -> Result<(), IdentityError> {
        let message = format!("{}:{}:{}", self.agent_runtime_id, self.task, written(self.at));
        verify(key, &message, &self.signature)
    }
}

/// The registration of a task, as sent to `POST /v1/agent/{agent_runtime_id}/task/register`. It is not verified yet.
#[derive(Clone)]
pub struct TaskRegistration {
    /// The time of signing, which identifies the registration: see [`crate::db::identities::tasks::register`].
    pub at: DateTime<Utc>,
    signature: [u8; SIGNATURE],
}

impl std::fmt::Debug for TaskRegistration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskRegistration").field("at", &self.at).finish_non_exhaustive()
    }
}

impl TaskRegistration {
    /// Parses the two fields of the body.
    pub fn read(timestamp: &str, signature: &str) -> Result<Self, nas_cron_protocol::InvalidField> {
        let invalid = |text: &'static str| {
            let (field, problem) = text.split_once(": ").unwrap_or(("signature", text));
            nas_cron_protocol::InvalidField::new(field, problem)
        };
        Ok(Self {
            at: self::timestamp(timestamp).ok_or_else(|| invalid(TIMESTAMP))?,
            signature: self::signature(signature).ok_or_else(|| invalid(SIGNATURE_FORM))?,
        })
    }

    /// Verifies that `key` signed `"{agent_runtime_id}:{timestamp}"`.
    pub fn verify(&self, agent_runtime_id: AgentRuntimeId, key: &PublicKey) -> Result<(), IdentityError> {
        verify(key, &format!("{agent_runtime_id}:{}", written(self.at)), &self.signature)
    }
}

const TIMESTAMP: &str = "timestamp: must be RFC 3339 in whole seconds and UTC, such as 2026-06-18T12:34:56Z";
const SIGNATURE_FORM: &str = "signature: must be 64 bytes in base64 (the standard alphabet, with padding)";

fn verify(key: &PublicKey, message: &str, signature: &[u8]) -> Result<(), IdentityError> {
    if key.verifies(message.as_bytes(), signature) {
        Ok(())
    } else {
        Err(IdentityError::Invalid(
            "signature: is not a signature of these IDs and this timestamp by the registered key",
        ))
    }
}

/// Checks that `at` is within the [`WINDOW`] around `now`.
pub fn within_window(at: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), IdentityError> {
    if (now - at).abs() <= WINDOW {
        Ok(())
    } else {
        Err(IdentityError::Invalid(
            "timestamp: differs from the service's clock by more than 5 minutes: correct the agent's clock",
        ))
    }
}

/// Parses a time of exactly the form `2026-06-18T12:34:56Z`. No other form is accepted, because the text is signed.
fn timestamp(text: &str) -> Option<DateTime<Utc>> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let mut frame = bytes.iter().zip(b"0000-00-00T00:00:00Z");
    let is_framed = frame.all(|(is, should)| is == should || *should == b'0' && is.is_ascii_digit());
    is_framed.then(|| date_time::parse(text).ok().map(|at| at.to_utc()))?
}

/// Formats a time in the one form that [`timestamp`] accepts.
fn written(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn signature(text: &str) -> Option<[u8; SIGNATURE]> {
    // Check the length before decoding.
    (text.len() == SIGNATURE.div_ceil(3) * 4).then(|| STANDARD.decode(text).ok()?.try_into().ok())?
}

/// Returns a description that names the field and repeats nothing of the input.
fn json_problem(error: &json::Error) -> &'static str {
    let text = error.to_string();
    let about = |start: &str| text.starts_with(start);
    if error.problem() == Some(json::Problem::RepeatedField) {
        "a field of the assertion occurs twice"
    } else if error.problem().is_some() {
        "readers could read the JSON of the assertion differently"
    } else if !error.is_data() {
        "the assertion is not valid JSON"
    } else if about("missing field `agent_runtime_id`") {
        "agent_runtime_id: is missing"
    } else if about("missing field `task_id`") {
        "task_id: is missing"
    } else if about("missing field `timestamp`") {
        "timestamp: is missing"
    } else if about("missing field `signature`") {
        "signature: is missing"
    } else {
        "agent_runtime_id, task_id, timestamp and signature must be strings"
    }
}

#[cfg(test)]
mod hostile_tests;

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::{Value, json};

    use super::*;

    const AGENT: &str = "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d";
    const TASK: &str = "0b8e1b0e-6f3a-4c55-8e0c-2f6f1a2b3c4d";
    const AT: &str = "2027-01-15T08:00:00Z";

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn key() -> PublicKey {
        PublicKey::from_bytes(pair().public_key().as_ref().try_into().unwrap()).unwrap()
    }

    fn sign(message: &str) -> String {
        STANDARD.encode(pair().sign(message.as_bytes()))
    }

    fn good() -> Value {
        json!({
            "agent_runtime_id": AGENT, "task_id": TASK, "timestamp": AT,
            "signature": sign(&format!("{AGENT}:{TASK}:{AT}")),
        })
    }

    fn encoded(envelope: &Value) -> String {
        URL_SAFE_NO_PAD.encode(envelope.to_string())
    }

    fn verdict(presented: &str) -> Result<(), IdentityError> {
        Assertion::read(presented)?.verify(&key())
    }

    fn refused(presented: &str) -> String {
        verdict(presented).expect_err(presented).to_string()
    }

    #[test]
    fn valid_assertion_is_verified_and_unknown_fields_are_ignored() {
        let mut envelope = good();
        let assertion = Assertion::read(&encoded(&envelope)).unwrap();
        assert_eq!(
            (assertion.agent_runtime_id.to_string(), assertion.task_id.unwrap().to_string()),
            (AGENT.to_owned(), TASK.to_owned())
        );
        assert_eq!(assertion.at, DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        assert!(assertion.verify(&key()).is_ok());
        assert!(!format!("{assertion:?}").contains(TASK), "nothing secret in a Debug");
        envelope["more"] = json!({"x": [1]});
        assert!(verdict(&encoded(&envelope)).is_ok());
    }

    #[test]
    fn missing_mistyped_or_repeated_fields_are_reported() {
        for field in ["agent_runtime_id", "task_id", "timestamp", "signature"] {
            let mut without = good();
            without.as_object_mut().unwrap().remove(field);
            assert_eq!(refused(&encoded(&without)), format!("{field}: is missing"));
            for other in [json!(null), json!(7), json!(["x"]), json!({"secret": 1}), json!(true)] {
                let mut envelope = good();
                envelope[field] = other;
                assert!(refused(&encoded(&envelope)).contains("must be strings"), "{envelope}");
            }
            let text = good().to_string();
            let doubled = text.replacen('{', &format!("{{\"{field}\":{},", good()[field]), 1);
            assert!(refused(&URL_SAFE_NO_PAD.encode(doubled)).contains("twice"), "{field}");
            let mut empty = good();
            empty[field] = json!("");
            assert!(verdict(&encoded(&empty)).is_err(), "{field}");
        }
    }

    #[test]
    fn malformed_envelope_is_rejected() {
        let text = good().to_string();
        for (presented, expected) in [
            (String::new(), "not a JSON object"),
            ("{}".to_owned(), "not base64url"),
            (text.clone(), "not base64url"),
            (STANDARD.encode(&text) + "=", "not base64url"),
            (format!("{}=", encoded(&good())), "not base64url"),
            (format!("{} ", encoded(&good())), "not base64url"),
            (URL_SAFE_NO_PAD.encode("[]"), "not a JSON object"),
            (URL_SAFE_NO_PAD.encode(json!([AGENT, TASK, AT, "x"]).to_string()), "not a JSON object"),
            (URL_SAFE_NO_PAD.encode("null"), "not a JSON object"),
            (URL_SAFE_NO_PAD.encode(format!(" {text}")), "not a JSON object"),
            (URL_SAFE_NO_PAD.encode(&text[..text.len() - 1]), "not valid JSON"),
            (URL_SAFE_NO_PAD.encode(format!("{text}x")), "not valid JSON"),
            (URL_SAFE_NO_PAD.encode(b"{\"signature\":\"\xff\"}"), "not valid JSON"),
            (URL_SAFE_NO_PAD.encode("x".repeat(1600)), "longer than 2048 bytes"),
            (URL_SAFE_NO_PAD.encode(format!("{{\"x\":{}}}", "[".repeat(1000))), "differently"),
            (URL_SAFE_NO_PAD.encode(text.replacen('{', "{\"Task_ID\":\"x\",", 1)), "differently"),
            (URL_SAFE_NO_PAD.encode(text.replacen('{', "{\"x\":{\"y\":1,\"y\":1},", 1)), "differently"),
        ] {
            assert!(refused(&presented).contains(expected), "{expected}: {}", refused(&presented));
        }
        // A text whose standard base64 has characters that base64url lacks.
        let mut odd = good();
        odd["x"] = json!("~~~???~~~???");
        let other_alphabet = STANDARD.encode(odd.to_string());
        assert!(other_alphabet.contains(['+', '/']));
        assert!(refused(&other_alphabet).contains("not base64url"));
    }

    #[test]
    fn ids_and_times_have_one_form() {
        for (field, others) in [
            (
                "agent_runtime_id",
                vec![AGENT.to_uppercase(), AGENT.replace('-', ""), format!("{{{AGENT}}}"), "x".to_owned()],
            ),
            ("task_id", vec![TASK.to_uppercase(), TASK.replace('-', ""), format!("urn:uuid:{TASK}")]),
            (
                "timestamp",
                [
                    "2027-01-15T08:00:00+00:00",
                    "2027-01-15T08:00:00z",
                    "2027-01-15t08:00:00Z",
                    "2027-01-15 08:00:00Z",
                    "2027-01-15T08:00:00.0Z",
                    "2027-01-15T08:00:00",
                    "2027-01-15T08:00Z",
                    "2027-1-15T08:00:00Z",
                    "2027-02-30T08:00:00Z",
                    "2027-01-15T24:00:00Z",
                    "2027-01-15T08:60:00Z",
                    "2027-01-15T08:00:60Z",
                    "-027-01-15T08:00:00Z",
                    "１027-01-15T08:00Z",
                    "1800000000",
                ]
                .map(str::to_owned)
                .to_vec(),
            ),
        ] {
            for other in others {
                let mut envelope = good();
                envelope[field] = json!(other);
                let text = |field: &str| envelope[field].as_str().unwrap().to_owned();
                let message = [text("agent_runtime_id"), text("task_id"), text("timestamp")].join(":");
                envelope["signature"] = json!(sign(&message));
                let read = Assertion::read(&encoded(&envelope));
                if field == "task_id" {
                    let read = read.expect(&other);
                    assert!(read.verify(&key()).is_ok() && read.task_id.is_none(), "{other}");
                } else {
                    assert!(read.is_err(), "{field}: {other}");
                }
            }
        }
    }

    #[test]
    fn signature_is_64_bytes_of_standard_base64_over_the_exact_message() {
        let of = |signature: String| {
            let mut envelope = good();
            envelope["signature"] = json!(signature);
            verdict(&encoded(&envelope))
        };
        let signature = good()["signature"].as_str().unwrap().to_owned();
        assert!(of(signature.clone()).is_ok());
        let bytes = STANDARD.decode(&signature).unwrap();
        for form in [
            URL_SAFE_NO_PAD.encode(&bytes),
            base64::engine::general_purpose::URL_SAFE.encode([0xff; 64]),
            signature.trim_end_matches('=').to_owned(),
            format!("{signature}="),
            format!(" {signature}"),
            hex::encode(&bytes),
            STANDARD.encode(&bytes[..63]),
            STANDARD.encode([&bytes[..], &[0]].concat()),
            "A".repeat(88),
        ] {
            let error = of(form.clone()).expect_err(&form).to_string();
            assert!(error.contains("64 bytes in base64"), "{form}: {error}");
        }
        for message in [
            format!("{TASK}:{AGENT}:{AT}"),
            format!("{AGENT}:{AT}:{TASK}"),
            format!("{AGENT}:{TASK}:{AT}\n"),
            format!("{AGENT}{TASK}{AT}"),
            format!("{AGENT}:{AT}"),
            String::new(),
        ] {
            let error = of(sign(&message)).expect_err(&message).to_string();
            assert!(error.starts_with("signature: is not a signature of these IDs"), "{message}: {error}");
        }
    }

    #[test]
    fn signatures_of_registrations_and_assertions_are_not_interchangeable() {
        let agent = AgentRuntimeId::parse(AGENT).unwrap();
        let over = |message: String| TaskRegistration::read(AT, &sign(&message)).unwrap();
        let registration = over(format!("{AGENT}:{AT}"));
        assert!(registration.verify(agent, &key()).is_ok());
        assert!(registration.verify(AgentRuntimeId::parse(TASK).unwrap(), &key()).is_err());
        assert!(over(format!("{AGENT}:{TASK}:{AT}")).verify(agent, &key()).is_err());
        let refused = |timestamp: &str, signature: &str| {
            TaskRegistration::read(timestamp, signature).unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused("now", "x"), @"timestamp: must be RFC 3339 in whole seconds and UTC, such as 2026-06-18T12:34:56Z");
        insta::assert_snapshot!(refused(AT, "x"), @"signature: must be 64 bytes in base64 (the standard alphabet, with padding)");
    }

    #[test]
    fn window_is_exactly_five_minutes_in_both_directions() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let edge = TimeDelta::seconds(300);
        let hair = TimeDelta::nanoseconds(1);
        for (now, accepted) in [
            (at, true),
            (at + edge, true),
            (at + edge + hair, false),
            (at - edge, true),
            (at - edge - hair, false),
            (at + TimeDelta::days(400_000), false),
        ] {
            assert_eq!(within_window(at, now).is_ok(), accepted, "{now}");
        }
        assert!(within_window(timestamp("0000-01-01T00:00:00Z").unwrap(), at).is_err());
        assert!(within_window(timestamp("9999-12-31T23:59:59Z").unwrap(), at).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(presented in ".{0,400}", json in "\\{[\\x00-\\x7f]{0,200}") {
            let _ = Assertion::read(&presented);
            let _ = Assertion::read(&URL_SAFE_NO_PAD.encode(json));
        }

        #[test]
        fn time_survives_formatting_and_parsing(seconds in -62_167_219_200_i64..253_402_300_800) {
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            proptest::prop_assert_eq!(timestamp(&written(at)), Some(at));
        }
    }
}
