//! The backends under test, and the faults that a case can cause with each.

use std::time::Duration;

use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::qstash_emulator::faults::DeliveryFault;
use nas_cron_testing::qstash_emulator::{self, Emulator};
use nas_cron_testing::service::{Service, Settings, client};
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::balancer::Balancer;
use super::fixture::Armed;

/// A backend under test.
pub trait TestedBackend: Sized {
    /// The backend's name.
    const NAME: &'static str;
    /// True for an external backend, which sends the first wake-up.
    const EXTERNAL: bool;
    /// True if it accepts a wake-up that is a year ahead.
    const TAKES_A_YEAR: bool;
    /// Time from the arm to the instant, in milliseconds. External backends are not used for one-shots due within 3 s.
    const LEAD: i64 = 4_500;
    /// The same for cases that need more time before the first wake-up.
    const LONG_LEAD: i64 = 7_000;

    /// Starts the backend.
    async fn start() -> Self;

    /// Adds the backend's settings to those of the service.
    fn settings(&self, settings: Settings) -> Settings;

    /// Sets the replicas that receive wake-ups from now on.
    fn serve(&self, _: &[Service]) {}

    /// Makes the backend unavailable.
    async fn down(&mut self, pool: &PgPool);

    /// Makes the backend available again.
    async fn up(&mut self);

    /// Makes the backend lose every pending wake-up.
    async fn forget(&mut self, pool: &PgPool);

    /// Sends a wake-up, whether it was armed or not.
    async fn wake(&self, pool: &PgPool, armed: &Armed);

    /// Returns the number of pending wake-ups.
    async fn held(&self) -> usize;
}

fn body(armed: &Armed) -> Value {
    json!({
        "instance_id": armed.instance, "job_id": armed.job, "schedule_id": armed.schedule_id, "fire_at": armed.fire_at,
    })
}

/// The Postgres loop. Faults of Postgres itself are tested elsewhere (`faults.rs`). Here, the notifications that wake
/// the loop between two queries stand for a backend:
/// - unavailable, or a wake-up lost: the replicas' subscriptions are cut, and notifications are lost meanwhile;
/// - a wake-up: a notification. It names no one-shot: the cases about superseded and delivered ones hold because the
///   loop reads only rows.
pub struct Postgres;

impl TestedBackend for Postgres {
    const NAME: &'static str = "postgres";
    const EXTERNAL: bool = false;
    const TAKES_A_YEAR: bool = false;
    const LEAD: i64 = 2_500;
    const LONG_LEAD: i64 = 5_000;

    async fn start() -> Self {
        Self
    }

    fn settings(&self, settings: Settings) -> Settings {
        settings
    }

    async fn down(&mut self, pool: &PgPool) {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        // There is no subscription yet right after the start.
        eventually("a subscription is cut", async || {
            let count: i64 = sqlx::query_scalar(cut).fetch_one(pool).await.unwrap();
            (count > 0).then_some(())
        })
        .await;
    }

    async fn up(&mut self) {}

    async fn forget(&mut self, pool: &PgPool) {
        self.down(pool).await;
    }

    async fn wake(&self, pool: &PgPool, _: &Armed) {
        sqlx::query("NOTIFY nas_cron_due").execute(pool).await.unwrap();
    }

    async fn held(&self) -> usize {
        0
    }
}

/// `QStash`: the emulator, which other tests check with the official SDKs.
pub struct Qstash {
    emulator: Emulator,
    balancer: Balancer,
}

impl Qstash {
    fn relay_url(&self) -> String {
        format!("{}/api/agent-cron/relay", self.balancer.url())
    }
}

impl TestedBackend for Qstash {
    const NAME: &'static str = "qstash";
    const EXTERNAL: bool = true;
    const TAKES_A_YEAR: bool = false;

    async fn start() -> Self {
        // Back-offs of a quarter of a second, three seconds and half a minute.
        let settings = qstash_emulator::Settings { backoff: 0.02, ..qstash_emulator::Settings::default() };
        Self { emulator: Emulator::start(settings).await.unwrap(), balancer: Balancer::start().await }
    }

    fn settings(&self, settings: Settings) -> Settings {
        let account = self.emulator.settings();
        settings
            .with("NAS_CRON_RELAY_URL", self.relay_url())
            .with("NAS_CRON_QSTASH_URL", self.emulator.url())
            .with("NAS_CRON_QSTASH_TOKEN", &account.token)
            .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", &account.current_key)
            .with("NAS_CRON_QSTASH_NEXT_SIGNING_KEY", &account.next_key)
    }

    fn serve(&self, replicas: &[Service]) {
        self.balancer.serve(replicas.iter().map(|replica| replica.url.as_str()));
    }

    async fn down(&mut self, _: &PgPool) {
        self.emulator.go_down().await;
    }

    async fn up(&mut self) {
        self.emulator.come_up().await;
    }

    async fn forget(&mut self, _: &PgPool) {
        self.emulator.misdeliver(DeliveryFault::Never);
    }

    async fn wake(&self, _: &PgPool, armed: &Armed) {
        let body = body(armed).to_string();
        let signature = self.emulator.sign(&self.relay_url(), body.as_bytes());
        let request = client().post(self.relay_url()).header("upstash-signature", signature).body(body);
        let answer = request.send().await.expect("an answer");
        let (status, said) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
        assert!(matches!(status, 200 | 409 | 502 | 503), "{status} {said}");
    }

    async fn held(&self) -> usize {
        self.emulator.pending().len()
    }
}

/// The stream of NATS, by its default name.
const STREAM: &str = "NAS_CRON";

/// NATS: a real server.
pub struct Nats {
    servers: NatsServers,
}

impl TestedBackend for Nats {
    const NAME: &'static str = "nats";
    const EXTERNAL: bool = true;
    const TAKES_A_YEAR: bool = true;

    async fn start() -> Self {
        Self { servers: NatsServers::one().await }
    }

    fn settings(&self, settings: Settings) -> Settings {
        settings.with("NAS_CRON_NATS_URLS", self.servers.urls().join(","))
    }

    async fn down(&mut self, _: &PgPool) {
        self.servers.kill(0).await;
    }

    async fn up(&mut self) {
        self.servers.restart(0).await;
    }

    async fn forget(&mut self, _: &PgPool) {
        let stream = self.servers.jetstream().await.get_stream(STREAM).await.unwrap();
        stream.purge().await.unwrap();
    }

    async fn wake(&self, _: &PgPool, armed: &Armed) {
        let jetstream = self.servers.jetstream().await;
        let sent = jetstream.publish("nas-cron.wake", body(armed).to_string().into()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), sent).await.expect("an answer").unwrap();
    }

    async fn held(&self) -> usize {
        self.servers.messages(STREAM).await
    }
}
