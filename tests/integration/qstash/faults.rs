//! The client against an emulator with faults: errors have the right kind, no call exceeds its deadline, and failed
//! calls can be repeated.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nas_cron::backends::qstash::Qstash;
use nas_cron::backends::{BackendError, SchedulerBackend, Unwanted, WakeUp};
use nas_cron_testing::qstash_emulator::Emulator;
use nas_cron_testing::qstash_emulator::faults::ApiFault;

use super::fixture::{PATIENCE, Sink, client, now, options, unwanted, wake_up};

/// Timeout of calls that get no response.
const SHORT: Duration = Duration::from_millis(300);

struct World {
    emulator: Emulator,
    sink: Sink,
}

impl World {
    async fn start() -> Self {
        Self { emulator: Emulator::quick().await, sink: Sink::start().await }
    }

    fn client(&self, timeout: Duration) -> Qstash {
        let mut options = options(&self.emulator, &self.sink.url());
        options.timeout = timeout;
        client(options)
    }
}

/// Makes every kind of call, one after the other, and returns their errors.
async fn errors(client: &Qstash) -> [BackendError; 4] {
    let wake_up = wake_up(3_600_000);
    let cancel = [unwanted(&wake_up, Some("msg_a".to_owned()))];
    [
        client.arm(std::slice::from_ref(&wake_up)).await[0].clone().unwrap_err(),
        client.cancel(&cancel).await[0].clone().unwrap_err(),
        client.health().await.unwrap_err(),
        client.direct_ends(&["msg_a".to_owned()], now()).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn every_call_reports_each_fault_with_its_kind() {
    let world = World::start().await;
    let client = world.client(PATIENCE);
    for (fault, kind) in [
        (ApiFault::TooMany(7), "rate_limited"),
        (ApiFault::Burst(30), "rate_limited"),
        (ApiFault::Status(500), "unreachable"),
        (ApiFault::Status(503), "unreachable"),
        (ApiFault::Status(400), "refused"),
        (ApiFault::Status(302), "garbage"),
        (ApiFault::Endless, "garbage"),
        (ApiFault::Close, "unreachable"),
        (ApiFault::LoseAnswer, "unreachable"),
    ] {
        world.emulator.misbehave(fault, None);
        for error in errors(&client).await {
            assert_eq!(error.kind(), kind, "{fault:?}: {error}");
            assert!(error.to_string().len() < 400, "{error}");
        }
        world.emulator.behave();
        assert_eq!(client.health().await, Ok(()), "works again after {fault:?}");
    }
    world.emulator.misbehave(ApiFault::TooMany(7), None);
    assert_eq!(client.health().await.unwrap_err().retry_after(), Some(Duration::from_secs(7)));
    world.emulator.misbehave(ApiFault::Burst(3_600), None);
    let pause = client.health().await.unwrap_err().retry_after().unwrap();
    assert!(pause <= Duration::from_hours(1) && pause > Duration::from_mins(50), "{pause:?}");
}

#[tokio::test]
async fn malformed_answers_are_reported_as_garbage() {
    let world = World::start().await;
    let client = world.client(PATIENCE);
    for fault in [ApiFault::Garbage, ApiFault::WrongShape] {
        world.emulator.misbehave(fault, None);
        let wake_up = wake_up(3_600_000);
        let error = client.arm(std::slice::from_ref(&wake_up)).await[0].clone().unwrap_err();
        assert_eq!(error.kind(), "garbage", "{error}");
        assert!(!error.to_string().contains("html"), "{error}");
        assert_eq!(client.health().await.unwrap_err().kind(), "garbage");
        assert_eq!(client.direct_ends(&["msg_a".to_owned()], now()).await.unwrap_err().kind(), "garbage");
        // Only the status of a response to a cancel is read.
        assert_eq!(client.cancel(&[unwanted(&wake_up, Some("msg_a".to_owned()))]).await, [Ok(())]);
    }
}

#[tokio::test]
async fn a_hanging_call_fails_at_its_deadline() {
    let world = World::start().await;
    let client = world.client(SHORT);
    for fault in [ApiFault::Hang, ApiFault::Drip] {
        world.emulator.misbehave(fault, None);
        let start = Instant::now();
        for error in errors(&client).await {
            assert_eq!(error, BackendError::TimedOut, "{fault:?}");
        }
        assert!(start.elapsed() >= 4 * SHORT && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    }
    // After the deadline of a batch, no further calls are started.
    world.emulator.misbehave(ApiFault::Hang, None);
    let before = world.emulator.counts().faults;
    let wake_ups: Vec<WakeUp> = (0..500).map(|_| wake_up(3_600_000)).collect();
    let start = Instant::now();
    let armed = client.arm(&wake_ups).await;
    assert!(armed.iter().all(|armed| *armed == Err(BackendError::TimedOut)));
    assert_eq!(armed.len(), 500);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    let calls = world.emulator.counts().faults - before;
    assert!(calls <= 16, "{calls} calls, where 8 may be under way at once");
    world.emulator.behave();
    assert!(world.client(PATIENCE).arm(&wake_ups).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn an_account_wide_refusal_ends_the_batch() {
    let world = World::start().await;
    let client = world.client(PATIENCE);
    let wake_ups: Vec<WakeUp> = (0..500).map(|_| wake_up(3_600_000)).collect();
    for fault in [ApiFault::TooMany(7), ApiFault::Status(503), ApiFault::Close] {
        world.emulator.misbehave(fault, None);
        let before = world.emulator.counts().faults;
        let armed = client.arm(&wake_ups).await;
        assert!(armed.iter().all(Result::is_err));
        let calls = world.emulator.counts().faults - before;
        assert!(calls <= 16, "{calls} calls after {fault:?}");
    }
    world.emulator.go_down().await;
    assert!(
        client.arm(&wake_ups).await.iter().all(|armed| armed.as_ref().unwrap_err().kind() == "unreachable")
    );
    world.emulator.come_up().await;
    world.emulator.behave();
    let cancel: Vec<_> =
        client.arm(&wake_ups).await.into_iter().map(|armed| unwanted(&wake_ups[0], armed.unwrap())).collect();
    world.emulator.misbehave(ApiFault::TooMany(7), None);
    assert!(client.cancel(&cancel).await.iter().all(Result::is_err));
    world.emulator.behave();
    assert!(client.cancel(&cancel).await.iter().all(Result::is_ok));
    assert_eq!(world.emulator.pending(), []);
}

#[tokio::test]
async fn repeating_a_publish_whose_answer_was_lost_makes_no_second_message() {
    let world = World::start().await;
    let client = world.client(PATIENCE);
    world.emulator.misbehave(ApiFault::LoseAnswer, Some(1));
    let wake_up = wake_up(3_600_000);
    let lost = client.arm(std::slice::from_ref(&wake_up)).await;
    assert_eq!(lost[0].as_ref().unwrap_err().kind(), "unreachable");
    let pending = world.emulator.pending();
    assert_eq!(pending.len(), 1, "it was published once");
    let again = client.arm(std::slice::from_ref(&wake_up)).await;
    assert_eq!(again[0], Ok(Some(pending[0].message_id.clone())));
    assert_eq!(world.emulator.pending(), pending);
}

/// A process that dies after a publish, or a lost answer, leaves a message whose id no replica knows.
#[tokio::test]
async fn a_cancel_finds_the_message_of_a_publish_whose_answer_was_lost() {
    let world = World::start().await;
    let client = world.client(PATIENCE);
    world.emulator.misbehave(ApiFault::LoseAnswer, Some(1));
    let wake_up = wake_up(3_600_000);
    assert!(client.arm(std::slice::from_ref(&wake_up)).await[0].is_err());
    let unknown = unwanted(&wake_up, None);
    assert_eq!(client.cancel(std::slice::from_ref(&unknown)).await, [Ok(())]);
    assert_eq!(world.emulator.pending().len(), 1, "no arm was tried, as far as this cancel is concerned");
    let unconfirmed = Unwanted { unconfirmed: true, ..unknown };
    for _ in 0..2 {
        assert_eq!(client.cancel(std::slice::from_ref(&unconfirmed)).await, [Ok(())]);
        assert_eq!(world.emulator.pending(), []);
    }
    assert_eq!(world.emulator.counts().published, 1);
}

#[tokio::test]
async fn a_cancel_of_an_unconfirmed_wake_up_that_was_never_published_leaves_no_message() {
    let world = World::start().await;
    let client = world.client(PATIENCE);
    let unconfirmed = Unwanted { unconfirmed: true, ..unwanted(&wake_up(3_600_000), None) };
    world.emulator.misbehave(ApiFault::Status(503), Some(1));
    let unreachable = client.cancel(std::slice::from_ref(&unconfirmed)).await;
    assert_eq!(unreachable[0].as_ref().unwrap_err().kind(), "unreachable");
    assert_eq!(client.cancel(std::slice::from_ref(&unconfirmed)).await, [Ok(())]);
    assert_eq!((world.emulator.pending(), world.emulator.counts().cancelled), (Vec::new(), 1));
    world.emulator.misbehave(ApiFault::Status(400), Some(1));
    assert_eq!(client.cancel(&[unconfirmed]).await, [Ok(())], "QStash has refused the wake-up as well");
}

#[tokio::test]
async fn cut_connections_are_reopened() {
    let world = World::start().await;
    let client = world.client(PATIENCE);
    let wake_ups: Vec<WakeUp> = (0..20).map(|_| wake_up(3_600_000)).collect();
    assert!(client.arm(&wake_ups).await.iter().all(Result::is_ok));
    world.emulator.go_down().await;
    assert_eq!(client.health().await.unwrap_err().kind(), "unreachable");
    world.emulator.come_up().await;
    assert_eq!(client.health().await, Ok(()));
    assert!(client.arm(&wake_ups).await.iter().all(Result::is_ok));
    assert_eq!(world.emulator.counts().deduplicated, 20);
}

#[tokio::test]
async fn a_server_without_http_is_garbage_and_redirects_are_not_followed() {
    let world = World::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ours = options(&world.emulator, &world.sink.url());
    ours.accounts[0].url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let elsewhere = world.sink.url();
    std::thread::spawn(move || {
        let redirect =
            format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n");
        for answer in ["SSH-2.0-OpenSSH_9.2\r\n", &redirect] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut start = [0; 16];
            let _ = stream.read(&mut start);
            let _ = stream.write_all(answer.as_bytes());
            // Read everything: unread data would reset the connection before the client sees the response.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
        }
    });
    let client = client(ours);
    let wake_up = wake_up(3_600_000);
    for _ in 0..2 {
        let error = client.arm(std::slice::from_ref(&wake_up)).await[0].clone().unwrap_err();
        assert_eq!(error.kind(), "garbage", "{error}");
    }
    assert!(world.sink.is_empty().await, "the token was sent nowhere");
}
