//! A service with the built-in portal, and enrolled agents.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_testing::agent::Agents;
use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{Service, Settings, client};
use reqwest::header::HeaderMap;
use serde_json::Value;
use sqlx::PgPool;

/// A service with the built-in portal, and its agents.
pub struct World {
    pub agents: Agents,
    pub service: Service,
    pub settings: Settings,
    /// URL of the database.
    pub url: String,
    /// Direct access to the database.
    pub pool: PgPool,
}

/// The settings of a service with the built-in portal.
pub async fn settings(database_url: &str) -> Settings {
    // Of the test portal, only the URL is used, as the issuer.
    Settings::new(database_url, &Portal::start().await)
        .without("NAS_CRON_PORTAL_JWKS_URL")
        .with("NAS_CRON_OWN_PORTAL", "true")
}

/// A response of the token endpoint.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Returns a field, which must be a string.
    pub fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned()
    }

    /// Returns the status and the OAuth error.
    pub fn error(&self) -> (u16, String) {
        (self.status, self.field("error"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// Sends a request to the token endpoint.
pub async fn ask(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.expect("a body") }
}

/// Refreshes like a real agent.
pub async fn refresh(service: &Service, refresh_token: &str) -> Answer {
    ask(request(service).header("x-nous-refresh-token", refresh_token).form(&FORM)).await
}

/// The form of real agents.
pub const FORM: [(&str, &str); 2] = [("grant_type", "refresh_token"), ("client_id", "hermes-cli-vps")];

/// A request with a form as its body.
pub trait WithForm {
    fn form(self, fields: &[(&str, &str)]) -> Self;
}

impl WithForm for reqwest::RequestBuilder {
    fn form(self, fields: &[(&str, &str)]) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.header("content-type", "application/x-www-form-urlencoded").body(body)
    }
}

/// Builds an empty request to the token endpoint.
pub fn request(service: &Service) -> reqwest::RequestBuilder {
    client().post(format!("{}/api/oauth/token", service.url))
}

/// Returns the claims of a token.
pub fn claims(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("a JWT")).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

impl World {
    pub async fn new() -> Self {
        let (_, url) = database().await;
        Self::on(&url).await
    }

    /// A world on a database that has the schema.
    pub async fn on(url: &str) -> Self {
        let settings = settings(url).await;
        let service = Service::start(&settings).await;
        let pool = PgPool::connect(url).await.unwrap();
        Self { agents: Agents::start().await, service, settings, url: url.to_owned(), pool }
    }

    /// Runs `nas-cron agents … --json` and returns its output.
    pub async fn agents(&self, arguments: &[&str]) -> Value {
        let (status, out, said) = self.settings.run(&[&["agents"], arguments, &["--json"]].concat()).await;
        assert!(status.success(), "{arguments:?}: {said}");
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}"))
    }

    /// Enrolls an agent of `org-1`; `more` are further arguments.
    pub async fn enroll_with(&self, instance_id: &str, more: &[&str]) -> Value {
        let callback = self.agents.callback(instance_id);
        let arguments = ["enroll", instance_id, "--org", "org-1", "--callback-url", &callback];
        self.agents(&[&arguments, more].concat()).await
    }

    /// Enrolls an agent and returns its refresh token.
    pub async fn enroll(&self, instance_id: &str) -> String {
        refresh_token(&self.enroll_with(instance_id, &[]).await)
    }

    /// Runs a statement.
    pub async fn sql(&self, statement: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&self.pool).await.expect(statement);
    }
}

/// Returns the refresh token in the output of `enroll --json`.
pub fn refresh_token(enrolled: &Value) -> String {
    enrolled["auth"]["providers"]["nous"]["refresh_token"].as_str().expect("a refresh token").to_owned()
}
