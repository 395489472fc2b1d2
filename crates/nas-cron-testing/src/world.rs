//! A complete deployment: a database, a portal, agents, a running service, and a registered instance.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::agent::Agents;
use crate::database::database;
use crate::portal::Portal;
use crate::service::{Service, Settings};
use crate::time::{PATIENCE, fire_at};

/// A complete deployment for a test.
pub struct World {
    /// Issues the tokens.
    pub portal: Portal,
    /// Receives the fires.
    pub agents: Agents,
    /// The running service.
    pub service: Service,
    /// Token of `inst-1`, from its bootstrap session.
    pub token: String,
    /// Connections to the database.
    pub pool: PgPool,
    /// URL of the database.
    pub url: String,
    /// Settings of the service, for further replicas.
    pub settings: Settings,
}

/// An attempt in the history.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Attempt {
    /// Its id.
    pub id: String,
    /// Number of the attempt, from 1.
    pub number: i32,
    /// `started`, `delivered`, `gone`, `failed` or `lost`.
    pub outcome: String,
    /// HTTP status of the response, if any.
    pub status: Option<i16>,
    /// Error, if any.
    pub error: Option<String>,
    /// Schedule id of the one-shot.
    pub schedule_id: String,
    /// Start, in seconds after the one-shot's `fire_at`.
    pub started: f64,
    /// End, in seconds after the one-shot's `fire_at`.
    pub ended: Option<f64>,
}

impl World {
    /// Starts a world whose service has changed settings.
    pub async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let (_, url) = database().await;
        Self::on(url, change).await
    }

    /// Like [`Self::with`], on a given database.
    pub async fn on(url: String, change: impl FnOnce(Settings) -> Settings) -> Self {
        let (portal, agents) = (Portal::start().await, Agents::start().await);
        let settings = change(Settings::new(&url, &portal));
        let service = Service::start(&settings).await;
        let pool = PgPool::connect(&url).await.unwrap();
        let token = portal.session_token("org-1", "sid-1");
        let world = Self { portal, agents, service, token, pool, url, settings };
        world.sql("INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ('inst-1', 'org-1', 'sid-1')").await;
        world
    }

    /// Starts a world with default settings.
    pub async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    /// Runs SQL statements.
    pub async fn sql(&self, statements: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&self.pool)
            .await
            .expect(statements);
    }

    /// Returns the callback URL of `inst-1`.
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

    /// Arms a job of `inst-1` in `millis`. Returns its `fire_at` and schedule id.
    pub async fn arm(&self, job: &str, millis: i64) -> (String, String) {
        let at = fire_at(millis);
        let schedule = self.service.provision(&self.token, job, &at, &self.callback()).await;
        (at, schedule)
    }

    /// Provisions a job of [`Self::arm`] again.
    pub async fn again(&self, job: &str, at: &str) -> String {
        self.service.provision(&self.token, job, at, &self.callback()).await
    }

    /// Returns the job's entry in `list`, and the name of the list that contains it.
    pub async fn listed(&self, job: &str) -> Option<(&'static str, Value)> {
        let list = self.service.list(&self.token).await;
        ["armed", "dead"].into_iter().find_map(|half| {
            let entries = list[half].as_array().expect("a list");
            entries.iter().find(|entry| entry["job_id"] == job).map(|entry| (half, entry.clone()))
        })
    }

    /// Waits until the job is in neither list.
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

    /// Returns the attempts of a job from the history, oldest first.
    pub async fn history(&self, job: &str) -> Vec<Attempt> {
        sqlx::query_as(
            "SELECT attempt_id::text AS id, attempt AS number, outcome::text, http_status AS status, error, schedule_id::text,
                    extract(epoch FROM started_at - fire_at)::float8 AS started,
                    extract(epoch FROM ended_at - fire_at)::float8 AS ended
             FROM fires WHERE job_id = $1 ORDER BY started_at",
        )
        .bind(job)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until `count` attempts of the job have ended, and returns all attempts.
    pub async fn ended(&self, job: &str, count: usize) -> Vec<Attempt> {
        eventually(&format!("{count} attempts of {job} have ended"), async || {
            let history = self.history(job).await;
            (history.iter().filter(|one| one.ended.is_some()).count() >= count).then_some(history)
        })
        .await
    }
}

/// Polls until `look` returns a value.
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
