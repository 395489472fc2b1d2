//! The emulator itself: deliveries as documented by QStash, and the faults that it can simulate.

use std::time::Duration;

use chrono::TimeDelta;
use nas_cron::backends::{SchedulerBackend, WakeUp};
use nas_cron_testing::qstash_emulator::faults::DeliveryFault;
use nas_cron_testing::qstash_emulator::{Emulator, Settings};

use super::fixture::{Sink, client, now, options, wake_up};

#[tokio::test]
async fn a_message_that_is_not_accepted_is_retried_and_finally_failed() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, &sink.url()));
    sink.answer(503, &[]);
    sink.answer(401, &[]);
    client.arm(&[wake_up(0)]).await[0].clone().unwrap();
    let tries = [sink.next().await, sink.next().await, sink.next().await];
    let retried = tries.each_ref().map(|delivery| delivery.header("upstash-retried").to_owned());
    assert_eq!(retried, ["0", "1", "2"]);
    let ids = tries.each_ref().map(|delivery| delivery.claims()["jti"].clone());
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "each try is signed anew");
    // A thousandth of 12 s and of 148 s.
    assert!(tries[1].at - tries[0].at >= TimeDelta::milliseconds(12));
    assert!(tries[2].at - tries[1].at >= TimeDelta::milliseconds(148));
    emulator.until(|counts| counts.delivered == 1).await;

    (0..4).for_each(|_| sink.answer(500, &[]));
    client.arm(&[wake_up(0)]).await[0].clone().unwrap();
    let counts = emulator.until(|counts| counts.failed == 1).await;
    assert_eq!((counts.tries, counts.delivered), (3 + 4, 1));
    assert_eq!(emulator.pending(), []);
}

#[tokio::test]
async fn a_destinations_retry_after_is_respected() {
    // Without `Retry-After`, the first pause would be at least 12 s.
    let emulator = Emulator::start(Settings { backoff: 1_000.0, ..Settings::default() }).await.unwrap();
    let sink = Sink::start().await;
    let client = client(options(&emulator, &sink.url()));
    sink.answer(503, &[("Retry-After", "1")]);
    sink.answer(503, &[("X-RateLimit-Reset", "250ms")]);
    client.arm(&[wake_up(0)]).await[0].clone().unwrap();
    let tries = [sink.next().await, sink.next().await, sink.next().await];
    assert!(tries[1].at - tries[0].at >= TimeDelta::seconds(1));
    assert!(tries[2].at - tries[1].at >= TimeDelta::milliseconds(250));
}

#[tokio::test]
async fn the_emulator_can_deliver_twice_early_and_never() {
    let (emulator, sink) = (Emulator::quick().await, Sink::start().await);
    let client = client(options(&emulator, &sink.url()));
    emulator.misdeliver(DeliveryFault::Twice);
    client.arm(&[wake_up(0)]).await[0].clone().unwrap();
    let twice = [sink.next().await, sink.next().await];
    assert_eq!(twice[0].header("upstash-message-id"), twice[1].header("upstash-message-id"));
    emulator.until(|counts| counts.delivered == 1).await;

    emulator.misdeliver(DeliveryFault::Early(3_600_000));
    client.arm(&[wake_up(3_000_000)]).await[0].clone().unwrap();
    sink.next().await;

    emulator.misdeliver(DeliveryFault::Never);
    client.arm(&[wake_up(0)]).await[0].clone().unwrap();
    assert_eq!(emulator.pending().len(), 1);
    emulator.go_down().await;
    emulator.behave();
    assert!(sink.is_empty().await, "nothing is delivered while it is down");
    emulator.come_up().await;
    sink.next().await;
}

#[tokio::test]
async fn thousands_of_pending_messages_arrive_and_none_early() {
    const MANY: usize = 2_000;
    // Both ends of every connection are in this process, whose number of files is limited.
    let settings = Settings { in_flight: 100, ..Settings::default() };
    let (emulator, sink) = (Emulator::start(settings).await.unwrap(), Sink::start().await);
    let mut ours = options(&emulator, &sink.url());
    ours.in_flight = 32;
    let client = client(ours);
    // These stay pending; the others are due over five seconds, and are held back until all are published.
    let later: Vec<WakeUp> = (0..3_000).map(|_| wake_up(3_600_000)).collect();
    assert!(client.arm(&later).await.iter().all(Result::is_ok));
    emulator.misdeliver(DeliveryFault::Never);
    let soon: Vec<WakeUp> =
        (0..MANY).map(|number| wake_up(i64::try_from(number % 5).unwrap() * 1000)).collect();
    assert!(client.arm(&soon).await.iter().all(Result::is_ok));
    let due: std::collections::HashMap<_, _> =
        emulator.pending().into_iter().map(|pending| (pending.message_id, pending.due)).collect();
    assert_eq!(due.len(), MANY + later.len());
    emulator.behave();
    for _ in 0..MANY {
        let delivery = sink.next().await;
        assert!(delivery.at >= due[delivery.header("upstash-message-id")]);
    }
    emulator.until(|counts| counts.delivered == MANY as u64).await;
    assert_eq!(emulator.pending().len(), later.len());
}

#[tokio::test]
async fn a_deduplication_id_is_forgotten_after_its_window() {
    let settings = Settings { deduplication_window: Duration::ZERO, ..Settings::default() };
    let (emulator, sink) = (Emulator::start(settings).await.unwrap(), Sink::start().await);
    let client = client(options(&emulator, &sink.url()));
    let wake_up = wake_up(3_600_000);
    let first = client.arm(std::slice::from_ref(&wake_up)).await;
    let second = client.arm(std::slice::from_ref(&wake_up)).await;
    assert_ne!(first, second, "after the window, it is a second message");
    assert_eq!(emulator.pending().len(), 2);
    assert!(now() < wake_up.due_at);
}
