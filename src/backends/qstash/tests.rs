//! Tests of the pure parts. `tests/integration/qstash` tests the rest against the emulator.

use std::sync::Arc;

use axum::http::HeaderValue;
use chrono::DateTime;
use nas_cron_base::clock::SystemClock;
use nas_cron_protocol::{CallbackUrl, FireAt, InstanceId, JobId, ScheduleId};
use proptest::prelude::*;

use super::account::message_path;
use super::publish::{self, LEAD};
use super::*;
use crate::backends::DirectCall;

const RELAY: &str = "https://portal.example/api/agent-cron/relay";

fn options() -> QstashOptions {
    QstashOptions {
        accounts: vec![AccountOptions {
            region: None,
            url: "https://qstash.upstash.io".parse().unwrap(),
            token: "t0ken".into(),
            current_signing_key: "sig_current".into(),
            next_signing_key: Some("sig_next".into()),
        }],
        relay_url: RELAY.to_owned(),
        retries: 3,
        furthest: Duration::from_hours(7 * 24),
        in_flight: 8,
        timeout: Duration::from_secs(10),
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn wake_up(due_at: DateTime<chrono::Utc>, direct: bool) -> WakeUp {
    WakeUp {
        callback_url: CallbackUrl::parse("https://agent.example").unwrap(),
        instance_id: InstanceId::new("inst-1").unwrap(),
        job_id: JobId::new("job-1").unwrap(),
        schedule_id: ScheduleId(uuid::Uuid::nil()),
        generation: 3,
        fire_at: FireAt::parse("2026-06-18T12:34:56.5+05:45").unwrap(),
        due_at,
        auth: None,
        direct: direct.then(|| DirectCall {
            url: "https://agent.example/api/cron/fire".to_owned(),
            authorization: "Bearer fire-token".into(),
            body: r#"{"job_id":"job-1"}"#.to_owned(),
        }),
    }
}

fn sent(wake_up: &WakeUp, name: &str) -> Option<String> {
    let headers = publish::message(wake_up, &options()).headers().unwrap();
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn relay_message_matches_the_contract() {
    let wake_up = wake_up("2026-06-18T06:49:56.5Z".parse().unwrap(), false);
    let message = publish::message(&wake_up, &options());
    assert_eq!(message.destination, RELAY);
    insta::assert_snapshot!(message.body, @r#"{"instance_id":"inst-1","job_id":"job-1","schedule_id":"00000000-0000-0000-0000-000000000000","fire_at":"2026-06-18T12:34:56.5+05:45"}"#);
    insta::assert_debug_snapshot!(message.headers().unwrap(), @r#"
    {
        "content-type": "application/json",
        "upstash-method": "POST",
        "upstash-not-before": "1781765395",
        "upstash-deduplication-id": "00000000-0000-0000-0000-000000000000-3",
        "upstash-retries": "3",
        "upstash-timeout": "50s",
    }
    "#);
}

#[test]
fn direct_message_goes_to_the_agent_and_keeps_its_token_out_of_logs() {
    let wake_up = wake_up("2026-06-18T06:49:56.5Z".parse().unwrap(), true);
    let message = publish::message(&wake_up, &options());
    assert_eq!(message.destination, "https://agent.example/api/cron/fire");
    assert_eq!(message.body, r#"{"job_id":"job-1"}"#);
    insta::assert_debug_snapshot!(message.headers().unwrap(), @r#"
    {
        "content-type": "application/json",
        "upstash-method": "POST",
        "upstash-not-before": "1781765397",
        "upstash-deduplication-id": "00000000-0000-0000-0000-000000000000-3-direct",
        "upstash-retries": "2",
        "upstash-timeout": "50s",
        "upstash-forward-authorization": Sensitive,
        "upstash-redact-fields": "header[Authorization]",
    }
    "#);
    assert_eq!(sent(&wake_up, "upstash-forward-authorization").unwrap(), "Bearer fire-token");
}

#[test]
fn placeholder_has_the_deduplication_id_of_its_wake_up_and_calls_no_agent() {
    let now = "2026-06-18T06:49:56.5Z".parse().unwrap();
    for (kind, direct) in [(Kind::WakeUp, false), (Kind::Direct, true)] {
        let wake_up = wake_up(now, direct);
        let unwanted = Unwanted {
            schedule_id: wake_up.schedule_id,
            generation: wake_up.generation,
            message_id: None,
            unconfirmed: true,
        };
        let placeholder = publish::placeholder(&unwanted, kind, &options(), now);
        assert_eq!((placeholder.destination.as_str(), placeholder.body.as_str()), (RELAY, "{}"));
        let headers = placeholder.headers().unwrap();
        let name = "upstash-deduplication-id";
        assert_eq!(headers[name], sent(&wake_up, name).unwrap());
        assert_eq!(headers["upstash-not-before"], "1781768996", "in an hour: it is cancelled before");
        assert_eq!(headers["upstash-retries"], "0");
    }
}

proptest! {
    #[test]
    fn relay_is_called_one_to_two_seconds_early_and_an_agent_never_early(micros in 0_i64..4_000_000_000_000_000) {
        let due_at = DateTime::from_timestamp_micros(micros).unwrap();
        let second = |direct| {
            let seconds = sent(&wake_up(due_at, direct), "upstash-not-before").unwrap().parse().unwrap();
            DateTime::from_timestamp(seconds, 0).unwrap()
        };
        let before = (due_at - second(false)).to_std().unwrap();
        prop_assert!(before >= Duration::from_secs(1) && before < LEAD);
        let after = (second(true) - due_at).to_std().unwrap();
        prop_assert!(after < Duration::from_secs(1));
    }
}

#[test]
fn invalid_options_are_refused_and_debug_output_contains_no_secret() {
    let new = |change: fn(&mut QstashOptions)| {
        let mut options = options();
        change(&mut options);
        Qstash::new(options, &clock()).map_err(|error| error.to_string())
    };
    let good = format!("{:?}", new(|_| ()).unwrap());
    for secret in ["t0ken", "sig_current", "sig_next"] {
        assert!(!good.contains(secret), "{good}");
    }
    assert!(new(|options| options.accounts[0].token = "a\nb".into()).is_err());
    assert!(new(|options| options.accounts[0].token = "".into()).is_err());
    assert!(new(|options| options.accounts[0].current_signing_key = "".into()).is_err());
    assert!(new(|options| options.accounts[0].next_signing_key = None).is_ok());
    assert!(new(|options| options.accounts[0].url = "https://qstash.example/?a".parse().unwrap()).is_err());
    assert!(new(|options| options.accounts[0].url = "mailto:a@b".parse().unwrap()).is_err());
    assert!(new(|options| options.accounts.clear()).is_err());
    assert!(new(|options| options.relay_url = format!("{RELAY}?tenant=a&b=%20c")).is_ok());
    for bad in [
        "/api/agent-cron/relay",
        "ftp://portal.example/relay",
        "https://portal.example/relay#a",
        "https://portal.example/a/../relay",
        "https://portal.example/relay a",
        "https://PORTAL.example/relay",
        "https://portal.example",
    ] {
        let mut options = options();
        options.relay_url = bad.to_owned();
        assert!(Qstash::new(options, &clock()).is_err(), "{bad}");
    }
}

#[test]
fn invalid_message_ids_have_no_path() {
    assert_eq!(message_path("msg_26hZ-C").as_deref(), Some("/v2/messages/msg_26hZ-C"));
    for bad in ["", ".", "..", "a/b", "a?b", "a#", "a b", "%2e", "é"] {
        assert_eq!(message_path(bad), None, "{bad:?}");
    }
    assert_eq!(message_path(&"a".repeat(513)), None);
}

#[test]
fn request_must_have_exactly_one_signature() {
    let mut headers = HeaderMap::new();
    assert_eq!(signature_of(&headers), Err(Refusal::Unsigned));
    headers.append(SIGNATURE_HEADER, HeaderValue::from_static("a"));
    assert_eq!(signature_of(&headers), Ok(&b"a"[..]));
    headers.append(SIGNATURE_HEADER, HeaderValue::from_static("a"));
    assert_eq!(signature_of(&headers), Err(Refusal::Malformed));
}
