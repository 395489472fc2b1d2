//! The client against the emulator, without faults.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::backends::qstash::{DirectEnd, KeyStanding, Qstash};
use nas_cron::backends::{BackendError, Refusal, RelayRequest, SchedulerBackend, WakeBody, WakeUp};
use nas_cron_testing::qstash_emulator::faults::DeliveryFault;
use nas_cron_testing::qstash_emulator::{Emulator, Settings};
use secrecy::SecretString;

use super::fixture::{Delivery, Sink, client, direct, now, options, unwanted, wake_up};

/// Arms wake-ups, and returns their message ids.
async fn armed(client: &Qstash, wake_ups: &[WakeUp]) -> Vec<String> {
    let armed = client.arm(wake_ups).await;
    armed.into_iter().map(|armed| armed.expect("it is accepted").expect("it has a message id")).collect()
}

fn judged(client: &Qstash, delivery: &Delivery, body: &[u8], now: DateTime<Utc>) -> Result<(), Refusal> {
    client.verify(&RelayRequest { headers: &delivery.headers, body, now })
}

#[tokio::test]
async fn an_armed_wake_up_arrives_at_the_relay_with_a_valid_signature() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, &sink.url()));
    let wake_up = wake_up(4_300);
    // Holds the delivery back until the pending message was examined.
    emulator.misdeliver(DeliveryFault::Never);
    let ids = armed(&client, std::slice::from_ref(&wake_up)).await;
    let pending = emulator.pending();
    emulator.behave();
    assert_eq!(pending[0].message_id, ids[0]);
    assert_eq!(pending[0].url, sink.url());
    let lead = wake_up.due_at - pending[0].due;
    assert!(lead >= TimeDelta::seconds(1) && lead < TimeDelta::seconds(2), "{lead}");

    let delivery = sink.next().await;
    assert!(delivery.at >= pending[0].due, "not before its due time");
    assert_eq!(format!("http://{}{}", delivery.header("host"), delivery.uri), sink.url());
    assert_eq!(delivery.header("upstash-message-id"), ids[0]);
    assert_eq!(delivery.header("upstash-retried"), "0");
    assert_eq!(delivery.header("content-type"), "application/json");
    let body: WakeBody = serde_json::from_slice(&delivery.body).unwrap();
    assert_eq!(body, WakeBody::from(&wake_up));
    assert_eq!(judged(&client, &delivery, &delivery.body, now()), Ok(()));
    assert_eq!(judged(&client, &delivery, b"{}", now()), Err(Refusal::Body));
    let late = now() + TimeDelta::minutes(6);
    assert_eq!(judged(&client, &delivery, &delivery.body, late), Err(Refusal::Expired));
    emulator.until(|counts| counts.delivered == 1).await;
    assert_eq!(emulator.pending(), []);
}

#[tokio::test]
async fn arming_again_is_the_same_message_until_the_generation_changes() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, &sink.url()));
    let wake_up = wake_up(3_600_000);
    let again = [wake_up.clone(), wake_up.clone(), WakeUp { generation: 2, ..wake_up.clone() }];
    let first = armed(&client, &again[..1]).await;
    let ids = armed(&client, &again).await;
    assert_eq!((&ids[0], &ids[1]), (&first[0], &first[0]));
    assert_ne!(ids[2], first[0], "a return to this backend is not deduplicated away");
    let call = direct(0, sink.url()).direct;
    let direct = armed(&client, &[WakeUp { direct: call, ..wake_up }]).await;
    assert!(!ids.contains(&direct[0]), "nor a direct call for a relayed one");
    let counts = emulator.counts();
    assert_eq!((counts.published, counts.deduplicated), (3, 2));
}

#[tokio::test]
async fn a_batch_is_answered_in_order_over_few_connections() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let mut options = options(&emulator, &sink.url());
    options.in_flight = 4;
    let client = client(options);
    let wake_ups: Vec<WakeUp> = (0..100).map(|_| wake_up(3_600_000)).collect();
    let ids = armed(&client, &wake_ups).await;
    let pending = emulator.pending();
    let names: HashMap<_, _> =
        pending.iter().map(|pending| (&pending.message_id, pending.deduplication_id.as_deref())).collect();
    for (wake_up, id) in wake_ups.iter().zip(&ids) {
        assert_eq!(names[id], Some(format!("{}-1", wake_up.schedule_id).as_str()));
    }
    let connections = emulator.counts().connections;
    assert!(connections <= 4, "{connections} connections for 4 calls at once");
    assert_eq!(client.arm(&[]).await, []);
}

#[tokio::test]
async fn a_cancelled_wake_up_never_arrives_and_cancelling_is_idempotent() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, &sink.url()));
    // Both are due at once; the deliveries are held back until the cancels are done.
    emulator.misdeliver(DeliveryFault::Never);
    let wake_ups = [wake_up(0), wake_up(0)];
    let ids = armed(&client, &wake_ups).await;
    let cancel = [
        unwanted(&wake_ups[0], Some(ids[0].clone())),
        unwanted(&wake_ups[0], Some(ids[0].clone())),
        unwanted(&wake_ups[0], Some("msg_unknown".to_owned())),
        unwanted(&wake_ups[0], None),
    ];
    assert_eq!(client.cancel(&cancel).await, [const { Ok(()) }; 4]);
    // An id that would select all messages.
    let all = client.cancel(&[unwanted(&wake_ups[0], Some(String::new()))]).await;
    assert_eq!(all[0].as_ref().unwrap_err().kind(), "refused");
    assert_eq!(emulator.pending().len(), 1, "the other message remains");
    emulator.behave();
    armed(&client, &[wake_up(0)]).await;
    let mut came = [sink.next().await, sink.next().await]
        .map(|delivery| delivery.header("upstash-message-id").to_owned());
    came.sort();
    assert!(came.contains(&ids[1]) && !came.contains(&ids[0]));
    let counts = emulator.until(|counts| counts.delivered == 2).await;
    assert_eq!((counts.cancelled, counts.cancelled_nothing, counts.tries), (1, 2, 2));
    assert!(sink.is_empty().await);
}

#[tokio::test]
async fn a_direct_call_comes_not_before_its_instant_with_its_authorization() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, "https://portal.example/api/agent-cron/relay"));
    let since = now();
    let wake_up = direct(1_200, sink.url());
    emulator.misdeliver(DeliveryFault::Never);
    let ids = armed(&client, std::slice::from_ref(&wake_up)).await;
    assert_eq!(client.direct_ends(&ids, since).await, Ok(HashMap::new()));
    emulator.behave();
    let delivery = sink.next().await;
    assert!(delivery.at >= wake_up.due_at, "{} is before {}", delivery.at, wake_up.due_at);
    assert_eq!(delivery.header("authorization"), "Bearer fire-token");
    assert_eq!(delivery.body, wake_up.direct.unwrap().body);
    emulator.until(|counts| counts.delivered == 1).await;
    let ends = client.direct_ends(&ids, since).await.unwrap();
    assert!(matches!(ends[&ids[0]], DirectEnd::Delivered { at } if at >= since), "{ends:?}");
    assert_eq!(client.direct_ends(&ids, now() + TimeDelta::minutes(1)).await, Ok(HashMap::new()));

    let log = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("{}/v2/events", emulator.url()))
        .bearer_auth(&emulator.settings().token)
        .send()
        .await
        .unwrap();
    let log = log.text().await.unwrap();
    assert!(log.contains("DELIVERED") && log.contains("REDACTED:") && !log.contains("fire-token"), "{log}");
}

#[tokio::test]
async fn the_log_reports_how_direct_calls_ended() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, "https://portal.example/api/agent-cron/relay"));
    let since = now() - TimeDelta::seconds(1);
    // One that fails with both retries; one without retries; one that is cancelled; one that waits.
    for status in [500, 502, 503] {
        sink.answer(status, &[]);
    }
    let failed = armed(&client, &[direct(0, sink.url())]).await;
    emulator.until(|counts| counts.failed == 1).await;
    sink.answer(489, &[("Upstash-NonRetryable-Error", "true")]);
    let pointless = armed(&client, &[direct(0, sink.url())]).await;
    emulator.until(|counts| counts.failed == 2).await;
    let others = [direct(3_600_000, sink.url()), direct(3_600_000, sink.url())];
    let waiting = armed(&client, &others).await;
    client.cancel(&[unwanted(&others[0], Some(waiting[0].clone()))]).await[0].clone().unwrap();
    // Enough for several calls and pages.
    let many: Vec<WakeUp> = (0..90).map(|_| direct(0, sink.url())).collect();
    let many = armed(&client, &many).await;
    emulator.until(|counts| counts.delivered == 90).await;

    let all =
        [failed.clone(), pointless.clone(), waiting.clone(), many.clone(), vec![String::new()]].concat();
    let ends = client.direct_ends(&all, since).await.unwrap();
    assert!(matches!(ends[&failed[0]], DirectEnd::Failed { status: Some(503), .. }), "{ends:?}");
    assert!(matches!(ends[&pointless[0]], DirectEnd::Failed { status: Some(489), .. }), "{ends:?}");
    assert!(matches!(ends[&waiting[0]], DirectEnd::Cancelled { .. }), "{ends:?}");
    assert!(!ends.contains_key(&waiting[1]), "{ends:?}");
    assert!(many.iter().all(|id| matches!(ends[id], DirectEnd::Delivered { .. })), "{ends:?}");
    assert_eq!(ends.len(), 93);
}

#[tokio::test]
async fn an_end_behind_many_other_log_entries_is_found_on_a_later_page() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, "https://portal.example/api/agent-cron/relay"));
    let since = now() - TimeDelta::seconds(1);
    let mut ids = armed(&client, &[direct(0, sink.url())]).await;
    emulator.until(|counts| counts.delivered == 1).await;
    // Each has ten log entries.
    (0..3 * 19).for_each(|_| sink.answer(500, &[]));
    let failing: Vec<WakeUp> = (0..19).map(|_| direct(0, sink.url())).collect();
    ids.extend(armed(&client, &failing).await);
    emulator.until(|counts| counts.failed == 19).await;
    let ends = client.direct_ends(&ids, since).await.unwrap();
    assert!(matches!(ends[&ids[0]], DirectEnd::Delivered { .. }), "{ends:?}");
    assert!(
        ids[1..].iter().all(|id| matches!(ends[id], DirectEnd::Failed { status: Some(500), .. })),
        "{ends:?}"
    );
}

#[tokio::test]
async fn one_key_rotation_interrupts_nothing_and_a_second_one_is_detected() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let ours = options(&emulator, &sink.url());
    let mut alone = ours.clone();
    alone.accounts[0].next_signing_key = None;
    let (client, alone) = (client(ours), client(alone));
    let verified = async |client: &Qstash| {
        armed(client, &[wake_up(0)]).await;
        let delivery = sink.next().await;
        judged(client, &delivery, &delivery.body, now())
    };
    assert_eq!(client.accounts()[0].key_standing().await, Ok(KeyStanding::Current));
    assert_eq!(alone.accounts()[0].key_standing().await, Ok(KeyStanding::Behind));
    assert_eq!(verified(&client).await, Ok(()));
    emulator.rotate_keys();
    assert_eq!(client.accounts()[0].key_standing().await, Ok(KeyStanding::Behind));
    assert_eq!(verified(&client).await, Ok(()));
    assert_eq!(alone.accounts()[0].key_standing().await, Ok(KeyStanding::Unknown));
    assert_eq!(verified(&alone).await, Err(Refusal::Key));
    emulator.rotate_keys();
    assert_eq!(client.accounts()[0].key_standing().await, Ok(KeyStanding::Unknown));
    assert_eq!(verified(&client).await, Err(Refusal::Key));
}

#[tokio::test]
async fn a_wrong_token_and_broken_limits_are_refusals_without_a_secret() {
    let settings = Settings { most_retries: 2, furthest: Duration::from_hours(1), ..Settings::default() };
    let (emulator, sink) = (Emulator::start(settings).await.unwrap(), Sink::start().await);
    let ours = options(&emulator, &sink.url());
    let refused = async |options, wake_up: WakeUp| {
        let error = client(options).arm(&[wake_up]).await[0].clone().unwrap_err();
        assert_eq!(error.kind(), "refused");
        error.to_string()
    };
    let mut wrong = ours.clone();
    wrong.accounts[0].token = SecretString::from("wr0ng-token");
    let text = refused(wrong.clone(), wake_up(0)).await;
    assert_eq!(text, "refused the request: 401: invalid token");
    let unhealthy = client(wrong).health().await;
    assert_eq!(unhealthy, Err(BackendError::Refused("401: invalid token".to_owned())));
    assert!(
        refused(ours.clone(), wake_up(0))
            .await
            .starts_with("refused the request: 400: invalid Upstash-Retries")
    );
    let mut fewer = ours.clone();
    fewer.retries = 2;
    assert!(refused(fewer.clone(), wake_up(7_200_000)).await.contains("delay"));
    // A refused wake-up does not affect the others of its batch.
    let mixed = client(fewer).arm(&[wake_up(0), wake_up(7_200_000), wake_up(0)]).await;
    let good: Vec<bool> = mixed.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, true]);
}

#[tokio::test]
async fn health_requires_an_answer_to_an_authenticated_call() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, &sink.url()));
    assert_eq!(client.health().await, Ok(()));
    let limits = client.limits();
    assert_eq!(limits.granularity, Duration::from_secs(1));
    assert_eq!(limits.furthest, Some(Duration::from_hours(7 * 24)));
    emulator.go_down().await;
    assert_eq!(client.health().await.unwrap_err().kind(), "unreachable");
    emulator.come_up().await;
    assert_eq!(client.health().await, Ok(()));
}
