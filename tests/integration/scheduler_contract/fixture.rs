//! A service on one backend, with the actions and queries of the cases.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_testing::agent::Fire;
use nas_cron_testing::cluster::{Attempt, Cluster};
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::time::{fire_at, instant, lateness_ms, now};
use nas_cron_testing::world::eventually;
use serde_json::json;

use super::backends::TestedBackend;

/// Time ahead in milliseconds that no case reaches.
pub const FAR: i64 = 3_600_000;
/// Maximum lateness of a correct fire on an overloaded machine. A missing wake-up exceeds it, as the watchdog is off.
const LATE_MS: f64 = 60_000.0;
/// Watchdog grace period for cases about the backend: it never ends.
const NO_WATCHDOG: &str = "1h";

/// A cluster of the service with its backend.
pub struct Fixture<B> {
    pub backend: B,
    pub cluster: Cluster,
    token: String,
}

/// An armed one-shot.
#[derive(Clone, Debug)]
pub struct Armed {
    pub instance: String,
    pub job: String,
    pub fire_at: String,
    pub schedule_id: String,
}

impl Armed {
    /// Returns the time until the instant.
    pub fn in_how_long(&self) -> Duration {
        (instant(&self.fire_at) - now()).to_std().unwrap_or_default()
    }

    /// Waits until this long after the instant.
    pub async fn over_by(&self, millis: u64) {
        tokio::time::sleep(self.in_how_long() + Duration::from_millis(millis)).await;
    }
}

impl<B: TestedBackend> Fixture<B> {
    /// Starts one replica. Only the backend sends first wake-ups.
    pub async fn start() -> Self {
        Self::with(1, |settings| settings).await
    }

    /// Starts one replica with a watchdog and this grace period.
    pub async fn watched(grace: &'static str) -> Self {
        Self::with(1, |settings| settings.with("NAS_CRON_WATCHDOG_GRACE", grace)).await
    }

    /// Starts this many replicas with changed settings.
    pub async fn with(replicas: usize, change: impl FnOnce(Settings) -> Settings) -> Self {
        let backend = B::start().await;
        let cluster = Cluster::start(replicas, |settings| {
            let settings =
                settings.with("NAS_CRON_BACKEND", B::NAME).with("NAS_CRON_WATCHDOG_GRACE", NO_WATCHDOG);
            change(backend.settings(settings))
        })
        .await;
        let token = cluster.agent("inst-1").await;
        let fixture = Self { backend, cluster, token };
        fixture.backend.serve(&fixture.cluster.replicas);
        fixture
    }

    /// Starts another replica, behind the address that the backend calls already.
    pub async fn grow(&mut self) {
        self.cluster.grow().await;
        self.backend.serve(&self.cluster.replicas);
    }

    /// Returns the first replica.
    pub fn service(&self) -> &Service {
        &self.cluster.replicas[0]
    }

    /// Arms a job.
    pub async fn arm_at(&self, job: &str, fire_at: &str) -> Armed {
        let url = self.cluster.agents.callback("inst-1");
        let schedule_id = self.service().provision(&self.token, job, fire_at, &url).await;
        Armed { instance: "inst-1".to_owned(), job: job.to_owned(), fire_at: fire_at.to_owned(), schedule_id }
    }

    /// Arms a job that is due in `millis` and awaits its backend. On a machine too slow for that, arms it again for a
    /// later instant.
    pub async fn arm(&self, job: &str, millis: i64) -> Armed {
        let mut millis = millis;
        loop {
            let armed = self.arm_at(job, &fire_at(millis)).await;
            let awaits: Option<String> =
                sqlx::query_scalar("SELECT awaits::text FROM one_shots WHERE job_id = $1")
                    .bind(job)
                    .fetch_one(&self.cluster.pool)
                    .await
                    .unwrap();
            if !B::EXTERNAL || awaits.as_deref() == Some(B::NAME) {
                return armed;
            }
            millis *= 2;
            assert!(millis < FAR * 2, "it never awaits its backend: {awaits:?}");
        }
    }

    /// Cancels a job. The response must arrive well before an agent's timeout.
    pub async fn cancel(&self, job: &str) {
        let asked = Instant::now();
        self.service().cancel(&self.token, job).await;
        assert!(asked.elapsed() < Duration::from_mins(1), "{:?}", asked.elapsed());
    }

    /// Waits until all outbox rows are armed. Returns the number of wake-ups pending at the backend.
    pub async fn handed_over(&self) -> usize {
        let left = "SELECT count(*) FROM wake_ups WHERE state <> 'armed'";
        self.cluster.until_none(left).await;
        self.backend.held().await
    }

    /// Waits until the outbox is empty and the backend has no pending wake-up.
    pub async fn nothing_left(&self) {
        self.cluster.until_none("SELECT count(*) FROM wake_ups").await;
        eventually("the backend holds nothing", async || (self.backend.held().await == 0).then_some(()))
            .await;
    }

    /// Makes a job due now, without a wake-up.
    pub async fn pull(&self, armed: &Armed) {
        let done = sqlx::query(
            "UPDATE one_shots SET fire_at = now(), next_attempt_at = now() WHERE job_id = $1 AND schedule_id = $2::uuid",
        )
        .bind(&armed.job)
        .bind(&armed.schedule_id)
        .execute(&self.cluster.pool)
        .await
        .unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// Makes the backend send this wake-up.
    pub async fn wake(&self, armed: &Armed) {
        self.backend.wake(&self.cluster.pool, armed).await;
    }

    /// Waits for the job's fire, and asserts that it is not early, not late, and the only one.
    pub async fn fires_on_time(&self, armed: &Armed) -> Fire {
        let fire = self.fires(armed).await;
        let late = lateness_ms(&armed.fire_at, fire.arrived);
        assert!(late < LATE_MS, "{late} ms late: {armed:?}");
        fire
    }

    /// Waits for the job's fire, and asserts that it is not early, and the only one.
    pub async fn fires(&self, armed: &Armed) -> Fire {
        let fire = self.cluster.agents.wait_for(&armed.job, 1).await;
        assert_eq!(fire.fire_at, armed.fire_at, "byte for byte");
        let late = lateness_ms(&armed.fire_at, fire.arrived);
        assert!(late >= 0.0, "{late} ms: early, {armed:?}");
        self.delivered(&armed.job).await;
        assert_eq!(self.cluster.agents.fires_of(&armed.job).len(), 1, "once");
        let attempts = self.attempts_of(&armed.job).await;
        assert!(
            attempts.iter().all(|attempt| attempt.started_at >= instant(&armed.fire_at)),
            "early by the database's clock"
        );
        fire
    }

    /// Waits until the job is delivered.
    pub async fn delivered(&self, job: &str) {
        eventually(&format!("{job} is delivered"), async || {
            let state: Option<String> =
                sqlx::query_scalar("SELECT state::text FROM one_shots WHERE job_id = $1")
                    .bind(job)
                    .fetch_optional(&self.cluster.pool)
                    .await
                    .unwrap();
            (state.as_deref() == Some("delivered")).then_some(())
        })
        .await;
    }

    /// Returns the job's attempts, oldest first.
    pub async fn attempts_of(&self, job: &str) -> Vec<Attempt> {
        let mut attempts = self.cluster.attempts().await;
        attempts.retain(|attempt| attempt.job_id == job);
        attempts
    }

    /// Returns the jobs that `list` shows as armed.
    pub async fn listed(&self) -> Vec<String> {
        let list = self.service().list(&self.token).await;
        assert_eq!(list["dead"], json!([]));
        let armed = list["armed"].as_array().expect("a list");
        armed.iter().map(|one| one["job_id"].as_str().expect("a job").to_owned()).collect()
    }

    /// Returns a counter of this backend, summed over all replicas.
    pub async fn counted(&self, name: &str, labels: &str) -> u64 {
        let mut sum = 0.0;
        for replica in &self.cluster.replicas {
            for line in replica.metrics().await.lines() {
                let Some((series, value)) = line.rsplit_once(' ') else { continue };
                let of_ours = series.starts_with(&format!("{name}{{"))
                    && series.contains(&format!("backend=\"{}\"", B::NAME))
                    && series.contains(labels);
                if of_ours {
                    sum += value.parse::<f64>().expect("a number");
                }
            }
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        return sum as u64;
    }

    /// Asserts that the backend, and not the watchdog, has sent at least this many wake-ups.
    pub async fn woken_by_the_backend(&self, at_least: u64) {
        if B::EXTERNAL {
            let woken = self.counted("nas_cron_wake_ups_total", "").await;
            assert!(woken >= at_least, "{woken} wake-ups");
            assert_eq!(self.missed().await, 0, "the watchdog fired it");
        }
    }

    /// Returns the number of backend misses, which the watchdog has fired.
    pub async fn missed(&self) -> u64 {
        self.counted("nas_cron_backend_misses_total", "").await
    }

    /// Waits until this many wake-ups had this result.
    pub async fn found(&self, what: &str, at_least: u64) {
        self.wake_ups(&format!("result=\"{what}\""), at_least).await;
    }

    /// Waits until this many wake-ups have arrived, with any result.
    pub async fn brought(&self, at_least: u64) {
        self.wake_ups("", at_least).await;
    }

    async fn wake_ups(&self, labels: &str, at_least: u64) {
        if B::EXTERNAL {
            eventually(&format!("{at_least} wake-ups with {labels}"), async || {
                (self.counted("nas_cron_wake_ups_total", labels).await >= at_least).then_some(())
            })
            .await;
        }
    }
}

/// Returns the start of a whole second, at least this far ahead.
pub fn whole_second(millis: i64) -> DateTime<Utc> {
    let at = now() + TimeDelta::milliseconds(millis + 999);
    DateTime::from_timestamp(at.timestamp(), 0).expect("a time")
}
