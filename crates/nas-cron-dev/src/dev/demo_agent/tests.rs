//! The demo agent against a correct service, and against faulty ones.

use nas_cron_base::clock::SystemClock;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::super::event::Verdict;
use super::super::fake_service::{Behaviour, FakeService};
use super::*;

struct Running {
    events: UnboundedReceiver<Event>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// An agent whose one-shots are 25 ms apart.
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

    async fn next(&mut self) -> EventKind {
        self.events.recv().await.expect("the agent runs").kind
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn agent_verifies_its_fires_and_arms_again() {
    let service = FakeService::start().await;
    let mut agent = Running::against(&service);
    let mut fired = std::collections::BTreeSet::new();
    // More rounds than lie before the first list call.
    while fired.len() < 7 {
        match agent.next().await {
            EventKind::Fired { fire_at, lateness, verdict: Verdict::OnTime } => {
                assert!(lateness >= TimeDelta::zero());
                assert!(fired.insert(fire_at), "each instant once");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(service.jwks_fetches(), 1, "cached");
    agent.end().await;
    assert!(service.armed().is_empty(), "cancelled at the end");
}

#[tokio::test]
async fn client_5_agent_cancels_unknown_one_shots() {
    let service = FakeService::start().await;
    service.leave_armed("a1", "left-over");
    service.leave_armed("a2", "anothers");
    let mut agent = Running::against(&service);
    assert!(matches!(agent.next().await, EventKind::Fired { verdict: Verdict::OnTime, .. }));
    assert_eq!(service.cancelled(), ["left-over"]);
    agent.end().await;
}

#[tokio::test]
async fn early_fire_is_reported() {
    let service = FakeService::with(Behaviour::Early).await;
    // Far enough ahead that the fire is early even on a busy machine.
    let mut agent = Running::with_cadence(&service, Duration::from_mins(1), TimeDelta::seconds(30));
    let EventKind::Fired { lateness, verdict: Verdict::Early, .. } = agent.next().await else { panic!() };
    assert!(lateness < TimeDelta::zero());
    agent.end().await;
}

#[tokio::test]
async fn missing_fire_is_reported() {
    let service = FakeService::with(Behaviour::Silent).await;
    let mut agent = Running::start(&service, Duration::ZERO);
    assert!(matches!(agent.next().await, EventKind::Missing { .. }));
    service.behave(Behaviour::Correct);
    loop {
        match agent.next().await {
            EventKind::Missing { .. } => {}
            EventKind::Fired { verdict: Verdict::OnTime, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    agent.end().await;
}

#[tokio::test]
async fn token_for_another_agent_is_reported() {
    let service = FakeService::with(Behaviour::WrongAudience).await;
    let mut agent = Running::against(&service);
    let EventKind::Unverified { why } = agent.next().await else { panic!() };
    assert_eq!(why, "the token's aud is not agent:a1");
    agent.end().await;
}

#[tokio::test]
async fn second_delivery_is_reported_as_such() {
    let service = FakeService::with(Behaviour::Duplicate).await;
    let mut agent = Running::against(&service);
    assert!(matches!(agent.next().await, EventKind::Fired { verdict: Verdict::OnTime, .. }));
    assert!(matches!(agent.next().await, EventKind::Fired { verdict: Verdict::Again, .. }));
    agent.end().await;
}

#[tokio::test]
async fn client_1_rewritten_fire_at_is_reported() {
    let service = FakeService::with(Behaviour::Rewrites).await;
    let mut agent = Running::against(&service);
    let EventKind::Unverified { why } = agent.next().await else { panic!() };
    assert!(why.contains("Z, but ") && why.contains("+00:00 was provisioned"), "{why}");
    agent.end().await;
}

#[tokio::test]
async fn client_2_failed_provision_is_reported() {
    let service = FakeService::with(Behaviour::Unavailable).await;
    let mut agent = Running::against(&service);
    let EventKind::Failed { error } = agent.next().await else { panic!() };
    assert_eq!(
        error,
        "provision failed: the server returned 503 temporarily_unavailable: temporarily_unavailable"
    );
    agent.end().await;
}

#[test]
fn fire_at_is_formatted_as_for_intervals_and_cron_expressions() {
    let now = DateTime::from_timestamp(1_781_786_096, 100_000_001).unwrap();
    let next = |whole_seconds, hours: i32| {
        let offset = FixedOffset::east_opt(hours * 3600).unwrap();
        Cadence { every: TimeDelta::milliseconds(2_000), whole_seconds, offset }.next(now)
    };
    let (due, text) = next(false, 0);
    assert_eq!(text, "2026-06-18T12:34:58.100001+00:00");
    assert_eq!(DateTime::parse_from_rfc3339(&text).unwrap(), due, "the text is the same instant");
    assert_eq!(next(true, 2).1, "2026-06-18T14:34:59+02:00");
}

#[test]
fn first_fire_is_soon_and_never_later_than_the_next() {
    let now = DateTime::from_timestamp(1_781_786_096, 0).unwrap();
    let first = |every, whole_seconds| {
        let offset = FixedOffset::east_opt(0).unwrap();
        Cadence { every: TimeDelta::milliseconds(every), whole_seconds, offset }.first(now).0 - now
    };
    assert_eq!(first(2_500, false), TimeDelta::milliseconds(500));
    assert_eq!(first(2_500, true), TimeDelta::seconds(1));
    assert_eq!(first(100, false), TimeDelta::milliseconds(100));
}
