//! The demo agent against a service that is proper, and against services that are not.

use nas_cron_base::clock::SystemClock;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::super::event::Verdict;
use super::super::fake_service::{FakeService, Manner};
use super::*;

struct Running {
    events: UnboundedReceiver<Event>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// An agent in a hurry.
    fn start(service: &FakeService, patience: Duration) -> Self {
        Self::with_cadence(service, patience, TimeDelta::milliseconds(25))
    }

    fn with_cadence(service: &FakeService, patience: Duration, every: TimeDelta) -> Self {
        let (sender, events) = unbounded_channel();
        let offset = FixedOffset::east_opt(0).unwrap();
        let cadence = Cadence { every, whole_seconds: false, offset };
        let agent = DemoAgent {
            instance_id: "a1".into(),
            access_token: "a1".to_owned().into(),
            portal_url: service.issuer(),
            jwks_url: service.jwks_url(),
            cadence,
            patience,
            clock: Arc::new(SystemClock),
            events: sender,
        };
        let stop = CancellationToken::new();
        Self { events, task: tokio::spawn(agent.run(stop.clone())), stop }
    }

    fn against(service: &FakeService) -> Self {
        Self::start(service, Duration::from_mins(1))
    }

    async fn next(&mut self) -> What {
        self.events.recv().await.expect("the agent lives").what
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn it_is_fired_on_time_verifies_and_arms_again() {
    let service = FakeService::start().await;
    let mut agent = Running::against(&service);
    let mut fired = std::collections::BTreeSet::new();
    // Beyond the round in which it looks at the list.
    while fired.len() < 7 {
        match agent.next().await {
            What::Fired { fire_at, lateness, verdict: Verdict::Good } => {
                assert!(lateness >= TimeDelta::zero());
                assert!(fired.insert(fire_at), "each instant once");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(service.jwks_fetches(), 1, "kept");
    agent.end().await;
    assert!(service.armed().is_empty(), "disarmed in the end");
}

#[tokio::test]
async fn client_5_what_it_does_not_know_it_cancels() {
    let service = FakeService::start().await;
    service.leave_armed("a1", "left-over");
    service.leave_armed("a2", "anothers");
    let mut agent = Running::against(&service);
    assert!(matches!(agent.next().await, What::Fired { verdict: Verdict::Good, .. }));
    assert_eq!(service.cancelled(), ["left-over"]);
    agent.end().await;
}

#[tokio::test]
async fn an_early_fire_is_seen() {
    let service = FakeService::with(Manner::Early).await;
    // Far enough ahead that a busy machine does not bring it on time.
    let mut agent = Running::with_cadence(&service, Duration::from_mins(1), TimeDelta::seconds(30));
    let What::Fired { lateness, verdict: Verdict::Early, .. } = agent.next().await else { panic!() };
    assert!(lateness < TimeDelta::zero());
    agent.end().await;
}

#[tokio::test]
async fn a_fire_that_does_not_come_is_missing() {
    let service = FakeService::with(Manner::Silent).await;
    let mut agent = Running::start(&service, Duration::ZERO);
    assert!(matches!(agent.next().await, What::Missing { .. }));
    service.behave(Manner::Proper);
    loop {
        match agent.next().await {
            What::Missing { .. } => {}
            What::Fired { verdict: Verdict::Good, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    agent.end().await;
}

#[tokio::test]
async fn a_token_for_another_agent_is_seen() {
    let service = FakeService::with(Manner::WrongAudience).await;
    let mut agent = Running::against(&service);
    let What::Unverified { why } = agent.next().await else { panic!() };
    assert_eq!(why, "the token's aud is not agent:a1");
    agent.end().await;
}

#[tokio::test]
async fn a_second_delivery_is_told_apart() {
    let service = FakeService::with(Manner::Twice).await;
    let mut agent = Running::against(&service);
    assert!(matches!(agent.next().await, What::Fired { verdict: Verdict::Good, .. }));
    assert!(matches!(agent.next().await, What::Fired { verdict: Verdict::Again, .. }));
    agent.end().await;
}

#[tokio::test]
async fn client_1_other_words_for_the_same_instant_are_seen() {
    let service = FakeService::with(Manner::Rewrites).await;
    let mut agent = Running::against(&service);
    let What::Unverified { why } = agent.next().await else { panic!() };
    assert!(why.contains("Z, and ") && why.contains("+00:00 was provisioned"), "{why}");
    agent.end().await;
}

#[tokio::test]
async fn client_2_a_provision_that_fails_is_trouble() {
    let service = FakeService::with(Manner::Refuses).await;
    let mut agent = Running::against(&service);
    let What::Trouble { what } = agent.next().await else { panic!() };
    assert_eq!(
        what,
        "provision failed: the server returned 503 temporarily_unavailable: temporarily_unavailable"
    );
    agent.end().await;
}

#[test]
fn it_arms_as_intervals_and_as_cron_expressions_do() {
    let now = DateTime::from_timestamp(1_781_786_096, 100_000_001).unwrap();
    let next = |whole_seconds, hours: i32| {
        let offset = FixedOffset::east_opt(hours * 3600).unwrap();
        Cadence { every: TimeDelta::milliseconds(2_000), whole_seconds, offset }.next(now)
    };
    let (due, text) = next(false, 0);
    assert_eq!(text, "2026-06-18T12:34:58.100001+00:00");
    assert_eq!(DateTime::parse_from_rfc3339(&text).unwrap(), due, "what is written is what is meant");
    assert_eq!(next(true, 2).1, "2026-06-18T14:34:59+02:00");
}
