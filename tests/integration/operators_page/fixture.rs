//! An operator with a browser, as HTTP: a cookie, pages, and the forms on them.

use nas_cron_testing::service::{ADMIN_TOKEN, Settings, client};
use nas_cron_testing::world::World;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// A service with the operators' page, and an agent `inst-1` of `org-1`.
pub(super) struct Ops {
    pub(super) world: World,
}

/// The response to a request.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(super) headers: HeaderMap,
    pub(crate) html: String,
}

impl Page {
    /// Returns a header.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Returns the hidden fields of the first form of an action. Fails if the page has no such form.
    pub(super) fn form(&self, action: &str) -> Vec<(String, String)> {
        self.forms(action).into_iter().next().unwrap_or_else(|| panic!("no form of {action}: {}", self.html))
    }

    /// Returns the hidden fields of all forms of an action.
    pub(super) fn forms(&self, action: &str) -> Vec<Vec<(String, String)>> {
        let start = format!("action=\"/ops/actions/{action}\"");
        let forms = self.html.split(&start).skip(1).map(|rest| rest.split("</form>").next().unwrap());
        forms.map(fields).collect()
    }
}

/// Returns the hidden fields of a form.
pub(super) fn fields(form: &str) -> Vec<(String, String)> {
    let inputs = form.split("<input type=\"hidden\" ").skip(1);
    let attribute = |input: &str, name: &str| {
        let (_, rest) = input.split_once(&format!("{name}=\"")).expect("the attribute");
        unescaped(rest.split('"').next().unwrap())
    };
    inputs.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect()
}

/// Returns the text of an attribute.
pub(super) fn unescaped(text: &str) -> String {
    [
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#39;", "'"),
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// An operator's browser.
#[derive(Clone)]
pub(crate) struct Operator {
    http: reqwest::Client,
    base: String,
    pub(crate) cookie: Option<String>,
}

impl Operator {
    /// A browser at a service that is not signed in.
    pub(crate) fn at(admin_url: &str) -> Self {
        Self { http: client(), base: admin_url.to_owned(), cookie: None }
    }

    /// Loads a page.
    pub(crate) async fn get(&self, path: &str) -> Page {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    /// Loads a page as the script does, without the operator.
    pub(super) async fn refresh(&self, path: &str) -> Page {
        self.send(self.http.get(format!("{}{path}", self.base)).header("hx-request", "true")).await
    }

    /// Sends a form.
    pub(super) async fn post(&self, path: &str, fields: &[(String, String)]) -> Page {
        self.post_with(path, fields, &[("sec-fetch-site", "same-origin"), ("origin", "null")]).await
    }

    /// Sends a form with these headers.
    pub(super) async fn post_with(
        &self,
        path: &str,
        fields: &[(String, String)],
        headers: &[(&str, &str)],
    ) -> Page {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut request = self.http.post(format!("{}{path}", self.base)).body(body);
        if headers.iter().all(|(name, _)| *name != "content-type") {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// Sends a form of an action.
    pub(super) async fn act(&self, action: &str, fields: &[(String, String)]) -> Page {
        self.post(&format!("/ops/actions/{action}"), fields).await
    }

    /// Sends a form of an action, and loads the page that it leads to.
    pub(super) async fn done(&self, action: &str, fields: &[(String, String)]) -> Page {
        let answer = self.act(action, fields).await;
        assert_eq!(answer.status, 303, "{}", answer.html);
        self.get(answer.header("location")).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Page {
        let request = match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        };
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Page { status, headers, html: response.text().await.unwrap() }
    }

    /// Signs in with these fields. Keeps the cookie.
    pub(crate) async fn sign_in(&mut self, fields: &[(&str, &str)]) -> Page {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let page = self.post("/ops/sign-in", &fields).await;
        if let Some(cookie) = page.headers.get("set-cookie") {
            self.cookie = cookie.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        page
    }
}

impl Ops {
    pub(super) async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    pub(super) async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let world =
            World::with(|settings| change(settings.with("NAS_CRON_ADMIN_LISTEN", "127.0.0.1:0"))).await;
        Self { world }
    }

    /// Returns the URL of a page.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.world.service.admin_url)
    }

    /// Returns a browser that is not signed in.
    pub(super) fn browser(&self) -> Operator {
        Operator::at(&self.world.service.admin_url)
    }

    /// Returns an operator who has signed in with a token.
    pub(super) async fn signed_in(&self, token: &str) -> Operator {
        let mut operator = self.browser();
        let page = operator.sign_in(&[("token", token)]).await;
        assert_eq!(page.status, 303, "{}", page.html);
        operator
    }

    /// Returns an operator with all rights.
    pub(super) async fn admin(&self) -> Operator {
        self.signed_in(ADMIN_TOKEN).await
    }

    /// Creates a token, and returns it.
    pub(super) async fn token(&self, name: &str, role: &str, org_id: Option<&str>) -> String {
        let body = json!({ "name": name, "role": role, "org_id": org_id });
        let (status, created) = self.world.service.admin("POST", "/api/admin/tokens", Some(&body)).await;
        assert_eq!(status, 201, "{created}");
        created["token"].as_str().unwrap().to_owned()
    }

    /// Returns the lines of the audit log that match a query, latest first.
    pub(super) async fn audit(&self, query: &str) -> Vec<Value> {
        let (status, body) =
            self.world.service.admin("GET", &format!("/api/admin/audit?{query}"), None).await;
        assert_eq!(status, 200, "{body}");
        body["lines"].as_array().unwrap().clone()
    }

    /// Counts rows.
    pub(super) async fn count(&self, of: &str) -> i64 {
        let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {of}"));
        sqlx::query_scalar(statement).fetch_one(&self.world.pool).await.unwrap()
    }

    /// Arms a job of `inst-1` far in the future.
    pub(super) async fn armed(&self, job: &str) {
        self.world.arm(job, 3_600_000).await;
    }
}

/// Returns the page of a job of `inst-1`.
pub(super) fn job(job: &str) -> String {
    let pairs = [("instance_id", "inst-1"), ("job_id", job)];
    format!("/ops/job?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

/// Returns the paths of every page, with each kind of filter, about an agent and one of its jobs.
pub(crate) fn every_page(agent: &str, job: &str) -> Vec<String> {
    let with = |path: &str, pairs: &[(&str, &str)]| {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        format!("{path}?{query}")
    };
    let pages = [
        with("/ops", &[]),
        with("/ops/load", &[]),
        with("/ops/backends", &[]),
        with("/ops/backends/switch", &[("backend", "postgres")]),
        with("/ops/jobs", &[]),
        with("/ops/jobs", &[("state", "dead")]),
        with("/ops/jobs", &[("state", "dormant")]),
        with("/ops/jobs", &[("overdue", "true")]),
        with("/ops/jobs", &[("parked", "true")]),
        with("/ops/jobs", &[("org_id", "org-1"), ("error", "busy")]),
        with("/ops/jobs", &[("instance_id", agent)]),
        with("/ops/job", &[("instance_id", agent), ("job_id", job)]),
        with("/ops/job", &[("instance_id", agent), ("job_id", "unknown")]),
        with("/ops/batch", &[("operation", "redrive_jobs"), ("instance_id", agent)]),
        with("/ops/dead-letters", &[]),
        with("/ops/agents", &[]),
        with("/ops/agents", &[("search", &agent[..3])]),
        with("/ops/agents", &[("search", "https://agent")]),
        with("/ops/agents", &[("search", &agent[..3]), ("org_id", "org-1")]),
        with("/ops/agents", &[("search", &agent[..3]), ("disabled", "true")]),
        with("/ops/agents", &[("search", &agent[..3]), ("unreachable", "true")]),
        with("/ops/agents", &[("disabled", "true")]),
        with("/ops/agents", &[("unreachable", "true")]),
        with("/ops/agent", &[("instance_id", agent)]),
        with("/ops/holds", &[]),
        with("/ops/events", &[]),
        with("/ops/events", &[("type", "dead_letter.created")]),
        with("/ops/webhook", &[("webhook_id", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f")]),
        with("/ops/audit", &[]),
        with("/ops/audit", &[("actor", "config"), ("action", "put_agent")]),
        with("/ops/audit", &[("subject", &format!("instance_id={agent}"))]),
        with("/ops/sign-in", &[]),
    ];
    let source = include_str!("../../../src/http/ops/mod.rs");
    for route in source.split(".route(\"").skip(1) {
        let (route, handlers) = route.split_once('"').unwrap();
        let is_page = handlers.starts_with(", get(") && !route.contains('{');
        let shown = pages.iter().any(|page| page.split('?').next() == Some(route));
        assert!(!is_page || shown, "add {route} to the pages of the tests");
    }
    pages.to_vec()
}

/// Returns the fields with another value.
pub(super) fn with(fields: &[(String, String)], name: &str, value: &str) -> Vec<(String, String)> {
    let mut fields: Vec<_> = fields.iter().filter(|(known, _)| known != name).cloned().collect();
    fields.push((name.to_owned(), value.to_owned()));
    fields
}
