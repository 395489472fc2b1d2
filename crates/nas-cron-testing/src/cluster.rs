//! Several replicas on one database, with agents that provision through any of them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgPoolOptions;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::agent::Agents;
use crate::database::database;
use crate::portal::Portal;
use crate::service::{Service, Settings};
use crate::time::PATIENCE;

/// An attempt in the history.
#[derive(Clone, Debug, FromRow)]
pub struct Attempt {
    /// Attempt id.
    pub attempt_id: Uuid,
    /// Schedule id of the one-shot.
    pub schedule_id: Uuid,
    /// The agent instance that was called.
    pub instance_id: String,
    /// The instance's job.
    pub job_id: String,
    /// Time at which its confirmation committed, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// Time at which its outcome was recorded; `None` while it is in flight.
    pub ended_at: Option<DateTime<Utc>>,
    /// `started`, `delivered`, `gone`, `failed` or `lost`.
    pub outcome: String,
}

/// Replicas with their database, portal and agents.
pub struct Cluster {
    /// Issues the tokens.
    pub portal: Portal,
    /// Receives the fires.
    pub agents: Agents,
    /// Connections to the database.
    pub pool: PgPool,
    /// Settings of all replicas.
    pub settings: Settings,
    /// The running services.
    pub replicas: Vec<Service>,
}

impl Cluster {
    /// Starts replicas on a new database.
    pub async fn start(replicas: usize, change: impl FnOnce(Settings) -> Settings) -> Self {
        let (_db, url) = database().await;
        Self::start_on(&url, replicas, change).await
    }

    /// Starts replicas on a database that has the schema.
    pub async fn start_on(url: &str, replicas: usize, change: impl FnOnce(Settings) -> Settings) -> Self {
        let (portal, agents) = (Portal::start().await, Agents::start().await);
        let settings = change(Settings::new(url, &portal));
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy(url).unwrap();
        let mut cluster = Self { portal, agents, pool, settings, replicas: Vec::new() };
        for _ in 0..replicas {
            cluster.grow().await;
        }
        cluster
    }

    /// Starts another replica.
    pub async fn grow(&mut self) -> &Service {
        self.replicas.push(Service::start(&self.settings).await);
        self.replicas.last().unwrap()
    }

    /// Registers an instance and returns its access token.
    pub async fn agent(&self, instance_id: &str) -> String {
        sqlx::query(
            "INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ($1, 'org-1', $1)",
        )
        .bind(instance_id)
        .execute(&self.pool)
        .await
        .unwrap();
        self.portal.session_token("org-1", instance_id)
    }

    /// Returns all attempts, oldest first.
    pub async fn attempts(&self) -> Vec<Attempt> {
        sqlx::query_as(
            "SELECT attempt_id, schedule_id, instance_id, job_id, started_at, ended_at, outcome::text AS outcome
             FROM fires ORDER BY started_at",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Returns the number that a query counts.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.expect(query)
    }

    /// Waits until `query` counts 0.
    pub async fn until_none(&self, query: &'static str) {
        let emptying = async {
            loop {
                // The database may be unavailable: some tests cause that.
                if matches!(sqlx::query_scalar::<_, i64>(query).fetch_one(&self.pool).await, Ok(0)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, emptying).await.is_err() {
            let left = self.count(query).await;
            let states: Vec<(String, Option<String>, i64)> = sqlx::query_as(
                "SELECT state::text, parked::text, count(*) FROM one_shots GROUP BY 1, 2 ORDER BY 1, 2",
            )
            .fetch_all(&self.pool)
            .await
            .unwrap();
            panic!("not within {PATIENCE:?}, {left} are left of: {query}\nstates: {states:?}");
        }
    }

    /// Waits until all one-shots are delivered.
    pub async fn all_delivered(&self) {
        self.until_none("SELECT count(*) FROM one_shots WHERE state <> 'delivered'").await;
    }
}
