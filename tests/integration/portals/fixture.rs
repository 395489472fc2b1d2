//! The fixture of these tests: a portal with a lookup and introspection, agents, and a service that uses them.

use nas_cron_testing::agent::Agents;
use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{Service, Settings, client};
use nas_cron_testing::time::{fire_at, now};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::authority::{Authority, CLIENT, LOOKUP_TOKEN};

pub const VPS: &str = "hermes-cli-vps";

pub struct Fixture {
    pub portal: Portal,
    pub authority: Authority,
    pub agents: Agents,
    pub service: Service,
    pub settings: Settings,
    pub pool: PgPool,
    http: reqwest::Client,
}

/// A response of the agent API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Returns its status and error word.
    pub fn word(&self) -> (u16, &str) {
        (self.status, self.body["error"].as_str().unwrap_or_default())
    }

    #[track_caller]
    pub fn is(&self, status: u16, error: &str) {
        assert_eq!(self.word(), (status, error), "{self:?}");
    }

    /// Asserts that it is a 503 with `Retry-After`.
    #[track_caller]
    pub fn not_now(&self) {
        self.is(503, "temporarily_unavailable");
        let seconds: u32 = self.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{self:?}");
    }
}

/// Settings with the lookup of this authority.
pub fn looked_up(settings: Settings, authority: &Authority) -> Settings {
    settings
        .with("NAS_CRON_DIRECTORY", "lookup")
        .with("NAS_CRON_LOOKUP_URL", authority.lookup_url())
        .with("NAS_CRON_LOOKUP_TOKEN", LOOKUP_TOKEN)
}

/// Settings with the introspection of this authority.
pub fn introspected(settings: Settings, authority: &Authority) -> Settings {
    settings
        .with("NAS_CRON_INTROSPECTION_URL", authority.introspection_url())
        .with("NAS_CRON_INTROSPECTION_CLIENT_ID", CLIENT.0)
        .with("NAS_CRON_INTROSPECTION_CLIENT_SECRET", CLIENT.1)
}

impl Fixture {
    /// A fixture with changed settings.
    pub async fn with(change: impl FnOnce(Settings, &Authority) -> Settings) -> Self {
        let (_, url) = database().await;
        let (portal, authority) = (Portal::start().await, Authority::start().await);
        let settings = Settings::new(&url, &portal)
            .with("NAS_CRON_MIGRATE", "false")
            .with("NAS_CRON_LOG_FILTER", "info,nas_cron=debug");
        let settings = change(settings, &authority);
        let service = Service::start(&settings).await;
        let pool = PgPool::connect(&url).await.unwrap();
        Self { portal, authority, agents: Agents::start().await, service, settings, pool, http: client() }
    }

    /// A fixture with the lookup.
    pub async fn looking_up(change: impl FnOnce(Settings) -> Settings) -> Self {
        Self::with(|settings, authority| change(looked_up(settings, authority))).await
    }

    /// A fixture with introspection and without the lookup: `inst-1` is in the table.
    pub async fn introspecting(change: impl FnOnce(Settings) -> Settings) -> Self {
        let fixture = Self::with(|settings, authority| change(introspected(settings, authority))).await;
        fixture.sql("INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ('inst-1', 'org-1', 'sid-1')")
            .await;
        fixture
    }

    pub async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }

    /// Queries one value.
    pub async fn value<T>(&self, query: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }

    /// Calls `list` with a token.
    pub async fn list(&self, token: &str) -> Answer {
        self.list_at(&self.service, token).await
    }

    pub async fn list_at(&self, service: &Service, token: &str) -> Answer {
        let request = self.http.get(format!("{}/api/agent-cron/list", service.url)).bearer_auth(token);
        answer(request).await
    }

    /// Calls `provision` with a token.
    pub async fn provision(&self, token: &str, job: &str, millis: i64) -> Answer {
        self.provision_at(&self.service, token, job, millis).await
    }

    pub async fn provision_at(&self, service: &Service, token: &str, job: &str, millis: i64) -> Answer {
        let at = fire_at(millis);
        let body = json!({
            "job_id": job, "fire_at": at, "agent_callback_url": self.agents.callback("a"), "dedup_key": format!("{job}:{at}"),
        });
        let url = format!("{}/api/agent-cron/provision", service.url);
        answer(self.http.post(url).bearer_auth(token).json(&body)).await
    }

    /// A session's token that is too old for its instance to be still in registration.
    pub fn old_session(&self, org: &str, sid: &str) -> String {
        self.portal.sign(json!({"client_id": VPS, "org_id": org, "sid": sid, "iat": now().timestamp() - 700}))
    }

    /// The same for an agent's client.
    pub fn old_client(&self, org: &str, instance: &str) -> String {
        let client = format!("agent:{instance}");
        self.portal.sign(json!({"client_id": client, "org_id": org, "iat": now().timestamp() - 700}))
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("a body");
    Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}
