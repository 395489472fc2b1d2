//! Several regions at once: each has its own token, signing keys and messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron::backends::qstash::{DirectEnd, Qstash, QstashOptions, REGION_HEADER, SIGNATURE_HEADER};
use nas_cron::backends::{BackendError, Refusal, RelayRequest, SchedulerBackend};
use nas_cron_testing::ports::free_address;
use nas_cron_testing::qstash_emulator::Emulator;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::world::{World, eventually};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::fixture::{Sink, account, client, direct, now, options, unwanted, wake_up};
use super::sdks::Sdk;

const URL: &str = "https://portal.example/api/agent-cron/relay";
const BODY: &[u8] = br#"{"job_id":"a"}"#;

/// The emulators of both regions.
async fn regions() -> [Emulator; 2] {
    [Emulator::quick_in("EU-CENTRAL-1").await, Emulator::quick_in("US-EAST-1").await]
}

/// Options with the accounts of these emulators. The first one publishes.
fn of(emulators: &[&Emulator], relay_url: &str) -> QstashOptions {
    let accounts = emulators.iter().map(|emulator| account(emulator)).collect();
    QstashOptions { accounts, ..options(emulators[0], relay_url) }
}

fn judged(client: &Qstash, signature: &str, region: Option<&str>) -> Result<(), Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
    if let Some(region) = region {
        headers.insert(REGION_HEADER, HeaderValue::from_str(region).unwrap());
    }
    client.verify(&RelayRequest { headers: &headers, body: BODY, now: now() + chrono::TimeDelta::seconds(1) })
}

#[tokio::test]
async fn keys_are_chosen_by_the_deliverys_region_as_in_the_official_receiver() {
    let [eu, us] = regions().await;
    let plain = Emulator::quick().await;
    let ours = client(of(&[&us, &plain, &eu], URL));
    let mut cases = Vec::new();
    for emulator in [&eu, &us, &plain] {
        let before = emulator.sign(URL, BODY);
        emulator.rotate_keys();
        // The next key is accepted as well, for a rotation.
        for signature in [before, emulator.sign(URL, BODY)] {
            for region in [None, Some("eu-central-1"), Some("US_EAST_1"), Some("US-EAST-1"), Some("mars")] {
                cases.push((emulator.settings().region, signature.clone(), region));
            }
        }
    }
    let keys = |emulator: &Emulator| json!({"current": emulator.settings().current_key, "next": emulator.settings().next_key});
    let shown: Vec<Value> = cases
        .iter()
        .map(|(_, signature, region)| {
            json!({"signature": signature, "body": STANDARD.encode(BODY), "url": URL, "region": region})
        })
        .collect();
    let task = json!({
        "now_ms": now().timestamp_millis() + 1000, "publishes": "US_EAST_1", "cases": shown,
        "regions": {"": keys(&plain), "EU_CENTRAL_1": keys(&eu), "US_EAST_1": keys(&us)},
    });
    let theirs = run(Sdk::Node, &task).await;
    for ((signer, signature, region), accepted) in cases.iter().zip(theirs) {
        let named = region.map(|region| region.to_uppercase().replace('_', "-"));
        let expected = match named.as_deref() {
            Some("EU-CENTRAL-1" | "US-EAST-1") => *signer == named.as_deref(),
            _ => signer.is_none(),
        };
        assert_eq!(accepted, expected, "the official receiver: {signer:?}, {region:?}");
        let result = judged(&ours, signature, *region);
        assert_eq!(result, if expected { Ok(()) } else { Err(Refusal::Key) }, "{signer:?}, {region:?}");
    }
}

#[tokio::test]
async fn delivery_without_a_region_belongs_to_the_publishing_one_if_every_account_has_a_region() {
    let [eu, us] = regions().await;
    let ours = client(of(&[&us, &eu], URL));
    let [from_eu, from_us] = [&eu, &us].map(|emulator| emulator.sign(URL, BODY));
    assert_eq!(judged(&ours, &from_us, None), Ok(()));
    assert_eq!(judged(&ours, &from_eu, None), Err(Refusal::Key));
}

#[tokio::test]
async fn both_official_receivers_verify_the_deliveries_of_each_region() {
    for emulator in regions().await {
        let sink = Sink::start().await;
        let ours = client(options(&emulator, &sink.url()));
        ours.arm(&[wake_up(0)]).await.remove(0).expect("it is accepted");
        let delivery = sink.next().await;
        assert_eq!(delivery.header(REGION_HEADER), emulator.settings().region.unwrap());
        let settings = emulator.settings();
        let (current, next) = (&settings.current_key, &settings.next_key);
        let prefix = delivery.header(REGION_HEADER).replace('-', "_");
        let case = json!({
            "signature": delivery.header(SIGNATURE_HEADER), "body": STANDARD.encode(&delivery.body),
            "url": sink.url(), "region": delivery.header(REGION_HEADER),
        });
        let task = json!({
            "now_ms": now().timestamp_millis() + 1000, "cases": [case], "current": current, "next": next,
        });
        assert_eq!(run(Sdk::Python, &task).await, [true]);
        let mut regional = task;
        regional["publishes"] = json!("EU_CENTRAL_1");
        regional["regions"] = json!({ prefix: {"current": current, "next": next} });
        assert_eq!(run(Sdk::Node, &regional).await, [true]);
    }
}

/// Returns the verdicts of an official receiver.
async fn run(sdk: Sdk, task: &Value) -> Vec<bool> {
    let file = std::env::temp_dir().join(format!("nas-cron-qstash-{:016x}.json", rand::random::<u64>()));
    std::fs::write(&file, task.to_string()).unwrap();
    let judged = sdk.run("receive", &[&file]).await;
    std::fs::remove_file(&file).unwrap();
    judged.as_array().unwrap().iter().map(|judged| judged["accepted"].as_bool().unwrap()).collect()
}

#[tokio::test]
async fn message_is_cancelled_and_looked_up_in_the_region_that_it_was_published_to() {
    let ([eu, us], sink) = (regions().await, Sink::start().await);
    let (first, then) = (client(of(&[&eu, &us], &sink.url())), client(of(&[&us, &eu], &sink.url())));
    let far = wake_up(3_600_000);
    let name = first.arm(std::slice::from_ref(&far)).await.remove(0).unwrap().unwrap();
    assert!(name.starts_with("eu-central-1/"), "{name}");
    let calls = [direct(0, sink.url()), direct(0, sink.url())];
    let delivered = first.arm(&calls[..1]).await.remove(0).unwrap().unwrap();
    let later = then.arm(&calls[1..]).await.remove(0).unwrap().unwrap();
    assert!(later.starts_with("us-east-1/"), "{later}");
    for _ in 0..2 {
        sink.next().await;
    }
    for emulator in [&eu, &us] {
        emulator.until(|counts| counts.delivered == 1).await;
    }
    let names = [delivered, later, name.clone()];
    let ends = then.direct_ends(&names, now() - chrono::TimeDelta::minutes(1)).await.unwrap();
    assert!(names[..2].iter().all(|name| matches!(ends[name], DirectEnd::Delivered { .. })), "{ends:?}");
    assert!(!ends.contains_key(&name));

    assert_eq!(then.cancel(&[unwanted(&far, Some(name.clone()))]).await, [Ok(())]);
    assert_eq!((eu.counts().cancelled, us.counts().cancelled_nothing), (1, 0));
    assert_eq!(eu.pending(), []);
    // A region that is no longer configured: the order stays, and says why.
    let alone = client(of(&[&us], &sink.url()));
    let refused = alone.cancel(&[unwanted(&far, Some(name))]).await.remove(0).unwrap_err();
    assert!(matches!(&refused, BackendError::Refused(why) if why.contains("eu-central-1")), "{refused}");
}

#[tokio::test]
async fn message_of_the_time_before_regions_is_cancelled_wherever_it_is() {
    let ([eu, us], sink) = (regions().await, Sink::start().await);
    let mut before = of(&[&eu], &sink.url());
    before.accounts[0].region = None;
    let far = wake_up(3_600_000);
    let id = client(before).arm(std::slice::from_ref(&far)).await.remove(0).unwrap();
    assert!(!id.as_ref().unwrap().contains('/'));
    assert_eq!(client(of(&[&us, &eu], &sink.url())).cancel(&[unwanted(&far, id)]).await, [Ok(())]);
    assert_eq!((eu.counts().cancelled, us.counts().cancelled_nothing), (1, 1));
}

fn with_regions(settings: Settings, [eu, us]: &[Emulator; 2]) -> Settings {
    let [in_eu, in_us] = [eu, us].map(Emulator::settings);
    settings
        .with("NAS_CRON_EU_CENTRAL_1_QSTASH_URL", eu.url())
        .with("NAS_CRON_EU_CENTRAL_1_QSTASH_TOKEN", &in_eu.token)
        .with("NAS_CRON_EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", &in_eu.current_key)
        .with("NAS_CRON_EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY", &in_eu.next_key)
        .with("NAS_CRON_US_EAST_1_QSTASH_URL", us.url())
        .with("NAS_CRON_US_EAST_1_QSTASH_TOKEN", &in_us.token)
        .with("NAS_CRON_US_EAST_1_QSTASH_CURRENT_SIGNING_KEY", &in_us.current_key)
        .with("NAS_CRON_US_EAST_1_QSTASH_NEXT_SIGNING_KEY", &in_us.next_key)
}

#[tokio::test]
async fn move_between_regions_refuses_no_wake_up() {
    let emulators = regions().await;
    let listen = free_address();
    let relay = format!("http://{listen}/api/agent-cron/relay");
    let world = World::with(|settings| {
        let settings = settings
            .with("NAS_CRON_LISTEN", listen.to_string())
            .with("NAS_CRON_RELAY_URL", relay)
            // Only QStash wakes, however slow the machine is.
            .with("NAS_CRON_WATCHDOG_GRACE", "1h")
            .with("NAS_CRON_BACKEND", "qstash")
            .with("NAS_CRON_QSTASH_REGION", "EU_CENTRAL_1");
        with_regions(settings, &emulators)
    })
    .await;
    let [eu, us] = &emulators;
    // Held back, so that the first region delivers after the move.
    eu.misdeliver(nas_cron_testing::qstash_emulator::faults::DeliveryFault::Never);
    for job in ["before-1", "before-2", "cancelled"] {
        world.arm(job, 8_000).await;
    }
    eu.until(|counts| counts.published == 3).await;

    let settings = world.settings.clone().with("NAS_CRON_QSTASH_REGION", "us-east-1");
    let stopped = world.service.stop().await;
    assert_eq!(stopped.code(), Some(0));
    let world = World { service: Service::start(&settings).await, ..world };
    for job in ["after-1", "after-2"] {
        world.arm(job, 8_000).await;
    }
    us.until(|counts| counts.published == 2).await;
    world.service.cancel(&world.token, "cancelled").await;
    eu.until(|counts| counts.cancelled == 1).await;
    eu.behave();
    for job in ["before-1", "before-2", "after-1", "after-2"] {
        world.agents.wait_for(job, 1).await;
        world.delivered(job).await;
    }
    eu.until(|counts| counts.delivered == 2).await;
    us.until(|counts| counts.delivered == 2).await;
    assert_eq!(us.counts().cancelled_nothing, 0);
    assert!(!world.service.log().contains("relay request rejected"), "{}", world.service.log());
    assert!(world.agents.fires_of("cancelled").is_empty());

    // `doctor` names each region.
    us.rotate_keys();
    let report = eventually("a report", async || {
        let (_, report, _) = settings.run(&["doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&report).unwrap();
        let line = |check: &str| {
            report["checks"].as_array().unwrap().iter().find(|line| line["check"] == check).cloned().unwrap()
        };
        let lines = [line("QStash"), line("QStash's keys")];
        (lines[0]["status"] == "ok" && lines[1]["status"] == "warning").then_some(lines)
    })
    .await;
    assert!(report[0]["found"].as_str().unwrap().contains("eu-central-1: reachable"), "{report:?}");
    assert!(report[1]["found"].as_str().unwrap().contains("us-east-1: the account's next key"), "{report:?}");
    assert!(report[1]["fix"].as_str().unwrap().contains("NAS_CRON_US_EAST_1_QSTASH_NEXT_SIGNING_KEY"));
}
