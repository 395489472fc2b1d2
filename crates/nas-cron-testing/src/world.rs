//! Everything a fire needs: a database, a portal, agents, a running service, and an instance that may call it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::agent::Agents;
use crate::database::database;
use crate::portal::Portal;
use crate::service::{Service, Settings};
use crate::time::{PATIENCE, fire_at};

/// See the module.
pub struct World {
    /// It issues the tokens.
    pub portal: Portal,
    /// It answers the fires.
    pub agents: Agents,
    /// The running service.
    pub service: Service,
    /// Of `inst-1`, by its bootstrap session.
    pub token: String,
    /// For looking behind the service's back.
    pub pool: PgPool,
    /// Of its database.
    pub url: String,
    /// What the service runs with, for another replica.
    pub settings: Settings,
}

/// One attempt as the history has it.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Attempt {
    /// Of its budget, from 1.
    pub number: i32,
    /// `started`, `delivered`, `gone`, `failed` or `lost`.
    pub outcome: String,
    /// The HTTP status of the answer, where there was one.
    pub status: Option<i16>,
    /// What went wrong, where something did.
    pub error: Option<String>,
    /// Of the one-shot.
    pub schedule_id: String,
    /// Since the one-shot's `fire_at`, in seconds.
    pub started: f64,
    /// Since the one-shot's `fire_at`, in seconds.
    pub ended: Option<f64>,
}

impl World {
    /// With a service as `change` wants it.
    pub async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let (_, url) = database().await;
        let (portal, agents) = (Portal::start().await, Agents::start().await);
        let settings = change(Settings::new(&url, &portal));
        let service = Service::start(&settings).await;
        let pool = PgPool::connect(&url).await.unwrap();
        let token = portal.session_token("org-1", "sid-1");
        let world = Self { portal, agents, service, token, pool, url, settings };
        world.sql("INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ('inst-1', 'org-1', 'sid-1')").await;
        world
    }

    /// As a deployment has it by default.
    pub async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    /// Runs statements.
    pub async fn sql(&self, statements: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&self.pool)
            .await
            .expect(statements);
    }

    /// The callback of `inst-1`.
    pub fn callback(&self) -> String {
        self.agents.callback("inst-1")
    }

    /// Registers another instance of the same org, and returns its token.
    pub async fn instance(&self, instance_id: &str) -> String {
        sqlx::query("INSERT INTO instances (instance_id, org_id) VALUES ($1, 'org-1')")
            .bind(instance_id)
            .execute(&self.pool)
            .await
            .unwrap();
        self.portal.client_token("org-1", instance_id)
    }

    /// Arms a job of `inst-1` in `millis` and returns its `fire_at` and its schedule.
    pub async fn arm(&self, job: &str, millis: i64) -> (String, String) {
        let at = fire_at(millis);
        let schedule = self.service.provision(&self.token, job, &at, &self.callback()).await;
        (at, schedule)
    }

    /// Provisions what [`Self::arm`] did once more.
    pub async fn again(&self, job: &str, at: &str) -> String {
        self.service.provision(&self.token, job, at, &self.callback()).await
    }

    /// The job's entry in the caller's `list`, and in which half it is.
    pub async fn listed(&self, job: &str) -> Option<(&'static str, Value)> {
        let list = self.service.list(&self.token).await;
        ["armed", "dead"].into_iter().find_map(|half| {
            let entries = list[half].as_array().expect("a list");
            entries.iter().find(|entry| entry["job_id"] == job).map(|entry| (half, entry.clone()))
        })
    }

    /// Waits until the job is in neither half of `list`.
    pub async fn delivered(&self, job: &str) {
        eventually(&format!("{job} leaves the list"), async || {
            self.listed(job).await.is_none().then_some(())
        })
        .await;
    }

    /// Waits until nothing is listed.
    pub async fn all_delivered(&self) {
        eventually("the list is empty", async || {
            (self.service.list(&self.token).await == json!({"armed": [], "dead": []})).then_some(())
        })
        .await;
    }

    /// A job's attempts as the history has them, in their order.
    pub async fn history(&self, job: &str) -> Vec<Attempt> {
        sqlx::query_as(
            "SELECT attempt AS number, outcome::text, http_status AS status, error, schedule_id::text,
                    extract(epoch FROM started_at - fire_at)::float8 AS started,
                    extract(epoch FROM ended_at - fire_at)::float8 AS ended
             FROM fires WHERE job_id = $1 ORDER BY started_at",
        )
        .bind(job)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until the job has `count` attempts that have ended, and returns all.
    pub async fn ended(&self, job: &str, count: usize) -> Vec<Attempt> {
        eventually(&format!("{count} attempts of {job} have ended"), async || {
            let history = self.history(job).await;
            (history.iter().filter(|one| one.ended.is_some()).count() >= count).then_some(history)
        })
        .await
    }
}

/// Polls until `look` returns something: for what sends no event.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
