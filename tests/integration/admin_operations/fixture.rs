//! A service with jobs of two orgs, and callers of its admin API.

use nas_cron_testing::service::{ADMIN_TOKEN, Settings, client};
use nas_cron_testing::world::World;
use serde_json::{Value, json};

/// A service whose jobs do not come due during a test, unless they are armed for that.
pub(crate) struct Admin {
    pub(crate) world: World,
    http: reqwest::Client,
}

impl Admin {
    /// `inst-1` belongs to org `org-1`, `other` to org `org-2`.
    pub(crate) async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    pub(crate) async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let world = World::with(change).await;
        world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('other', 'org-2')").await;
        Self { world, http: client() }
    }

    /// Stores the one-shot of a job with this state, and further columns as `column = value`.
    pub(crate) async fn store(&self, instance: &str, job: &str, state: &str, more: &[(&str, &str)]) {
        let ended = matches!(state, "dead" | "stuck");
        let mut columns = vec![
            ("instance_id", format!("'{instance}'")),
            ("job_id", format!("'{job}'")),
            ("schedule_id", "gen_random_uuid()".to_owned()),
            ("dedup_key", format!("'{job}:key'")),
            ("fire_at_text", "'2100-01-01T00:00:00Z'".to_owned()),
            ("fire_at", "'2100-01-01T00:00:00Z'".to_owned()),
            ("callback_url", format!("'{}'", self.world.callback())),
            ("state", format!("'{state}'")),
            ("dead_since", if ended { "now()" } else { "NULL" }.to_owned()),
            (
                "next_attempt_at",
                if ended || state == "delivered" { "NULL" } else { "'2100-01-01'" }.to_owned(),
            ),
        ];
        for (name, value) in more {
            columns.retain(|(known, _)| known != name);
            columns.push((name, (*value).to_owned()));
        }
        let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let (names, values) = (names.join(", "), values.join(", "));
        self.world.sql(&format!("INSERT INTO one_shots ({names}) VALUES ({values})")).await;
    }

    /// Stores a delivered job of `inst-1` that is dormant since 2020. Returns its schedule id.
    pub(crate) async fn store_dormant(&self, job: &str) -> String {
        let columns = [
            ("fire_at", "'2020-01-01'"),
            ("created_at", "'2020-01-01'"),
            ("updated_at", "'2020-01-01'"),
            ("last_outcome", "'delivered'"),
        ];
        self.store("inst-1", job, "delivered", &columns).await;
        sqlx::query_scalar(
            "INSERT INTO awaited_rearms (instance_id, job_id, schedule_id, delivered_at, recurrence, expected_at, check_at,
                                         closes_after, dormant_since)
             SELECT instance_id, job_id, schedule_id, '2020-01-01', 'daily', '2020-01-02', '2020-01-02', '100 years',
                    '2020-01-02'
             FROM one_shots WHERE instance_id = 'inst-1' AND job_id = $1 RETURNING schedule_id::text",
        )
        .bind(job)
        .fetch_one(&self.world.pool)
        .await
        .expect("a dormant job")
    }

    /// Creates a token that is limited to an org.
    pub(crate) async fn token_of(&self, org: &str, role: &str) -> String {
        let body = json!({"name": format!("{org}-{role}"), "role": role, "org_id": org});
        let (status, body) = self.call("POST", "/api/admin/tokens", Some(&body)).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.call_as(ADMIN_TOKEN, method, path, body).await
    }

    pub(crate) async fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request =
            self.http.request(method, format!("{}{path}", self.world.service.url)).bearer_auth(token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.expect("a response");
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let text = response.text().await.expect("a body");
        if status >= 400 {
            assert_eq!(kind.as_deref(), Some("application/problem+json"), "{path}: {text}");
        }
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Sends a request that succeeds, and returns the body.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Sends a request that fails with this status, and returns the description.
    pub(crate) async fn refused(
        &self,
        status: u16,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> String {
        let (actual, answer) = self.call(method, path, body).await;
        assert_eq!(actual, status, "{method} {path}: {answer}");
        answer["detail"].as_str().expect("a description").to_owned()
    }

    /// Lists jobs by these conditions, and returns `instance/job` of all pages.
    pub(crate) async fn listed(&self, query: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.ok("GET", &format!("/api/admin/jobs?{query}{after}"), None).await;
            found.extend(names(&page));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return found,
            }
        }
    }
}

/// Returns `instance/job` of the jobs of a page.
pub(crate) fn names(page: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let jobs = page["jobs"].as_array().expect("jobs").iter();
    jobs.map(|job| format!("{}/{}", text(&job["instance_id"]), text(&job["job_id"]))).collect()
}
