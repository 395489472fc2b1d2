//! The fixture of the agent API's tests: a portal, agents, a service with its own database, and three instances:
//! `inst-1` (`sid-1`) and `inst-2` (`sid-2`) of `org-1`, and `inst-3` (also `sid-1`) of `org-2`.

use std::time::Duration;

use nas_cron_testing::agent::Agents;
use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{Service, Settings, client};
use nas_cron_testing::time::{PATIENCE, fire_at};
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use sqlx::PgPool;

pub(crate) const PROVISION: &str = "/api/agent-cron/provision";
pub(crate) const CANCEL: &str = "/api/agent-cron/cancel";
pub(crate) const LIST: &str = "/api/agent-cron/list";

pub(crate) struct World {
    pub(crate) portal: Portal,
    pub(crate) agents: Agents,
    pub(crate) service: Service,
    /// A token of `inst-1`, by its session.
    pub(crate) token: String,
    pub(crate) settings: Settings,
    pub(crate) pool: PgPool,
    http: reqwest::Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|settings| settings).await
    }

    /// A world with changed settings.
    pub(crate) async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let (_, url) = database().await;
        let (portal, agents) = (Portal::start().await, Agents::start().await);
        let settings = change(Settings::new(&url, &portal).with("NAS_CRON_MIGRATE", "false"));
        let service = Service::start(&settings).await;
        let pool = PgPool::connect(&url).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO instances (instance_id, org_id, bootstrap_session_id) \
             VALUES ('inst-1', 'org-1', 'sid-1'), ('inst-2', 'org-1', 'sid-2'), ('inst-3', 'org-2', 'sid-1')",
        )
        .execute(&pool)
        .await
        .unwrap();
        let token = portal.session_token("org-1", "sid-1");
        Self { portal, agents, service, token, settings, pool, http: client() }
    }

    /// The callback of `inst-1`.
    pub(crate) fn callback(&self) -> String {
        self.agents.callback("inst-1")
    }

    /// Arms a job of `inst-1` in `millis`. Returns its `fire_at` and `schedule_id`.
    pub(crate) async fn arm(&self, job: &str, millis: i64) -> (String, String) {
        let at = fire_at(millis);
        let schedule = self.service.provision(&self.token, job, &at, &self.callback()).await;
        (at, schedule)
    }

    /// The body of a valid provision of `inst-1` with these changes. `null` is kept.
    pub(crate) fn body(&self, changes: &Value) -> Value {
        let mut body = json!({
            "job_id": "job-1", "fire_at": fire_at(3_600_000), "agent_callback_url": self.callback(), "dedup_key": "key-1",
        });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    }

    pub(crate) async fn provision(&self, token: &str, body: &Value) -> Answer {
        self.call("POST", PROVISION, Some(token), body.to_string()).await
    }

    /// Sends any request.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: impl Into<Body>,
    ) -> Answer {
        let authorization = token.map(|token| ("authorization", format!("Bearer {token}")));
        self.call_with(method, path, authorization, body).await
    }

    /// Sends any request with any headers.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: impl IntoIterator<Item = (&'static str, String)>,
        body: impl Into<Body>,
    ) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.service.url)).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Answer::of(request.send().await.expect("an answer")).await
    }

    pub(crate) async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }

    /// The contents of all tables that agents can change.
    pub(crate) async fn tables(&self) -> Value {
        sqlx::query_scalar(
            "SELECT jsonb_build_object( \
                 'instances', (SELECT jsonb_agg(i ORDER BY instance_id) FROM instances i), \
                 'one_shots', (SELECT jsonb_agg(o ORDER BY instance_id, job_id) FROM one_shots o), \
                 'cancelled_jobs', (SELECT jsonb_agg(c ORDER BY instance_id, job_id) FROM cancelled_jobs c), \
                 'fires', (SELECT jsonb_agg(f ORDER BY started_at, attempt_id) FROM fires f))",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until the list of `inst-1` satisfies `wanted`, and returns it.
    pub(crate) async fn list_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, async || Some(self.service.list(&self.token).await).filter(&wanted)).await
    }
}

/// Settings whose retries start with a back-off of `base` and end after `within`.
pub(crate) fn dying_within(settings: Settings, within: &str, base: &str) -> Settings {
    settings
        .with("NAS_CRON_RETRY_DEFINITE_BASE", base)
        .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", base)
        .with("NAS_CRON_RETRY_CAP", within)
        .with("NAS_CRON_RETRY_GIVE_UP_AFTER", within)
}

/// Polls until `probe` returns a value.
pub(crate) async fn until<T>(what: &str, probe: impl AsyncFn() -> Option<T>) -> T {
    let mut pauses = tokio::time::interval(Duration::from_millis(10));
    let polling = async {
        loop {
            pauses.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, polling)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts that it is this error, in the form of the agents' endpoints. Returns its description.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, error: &str) -> &str {
        assert_eq!((self.status, self.body["error"].as_str()), (status, Some(error)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        self.body["error_description"].as_str().filter(|text| !text.is_empty()).expect("a description")
    }

    /// Asserts that it is a 503 with `Retry-After`.
    #[track_caller]
    pub(crate) fn not_now(&self) {
        self.refused(503, "temporarily_unavailable");
        let seconds: u32 = self.header("retry-after").expect("Retry-After").parse().unwrap();
        assert!((1..=60).contains(&seconds), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn schedule_id(&self) -> &str {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["schedule_id"].as_str().expect("a schedule_id")
    }

    /// Everything that a caller can see, except what differs from request to request.
    pub(crate) fn visible(&self) -> (u16, Value, Vec<(HeaderName, String)>) {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        (self.status, self.body.clone(), headers)
    }
}
