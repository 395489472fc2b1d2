//! Calls of the admin API with any token, and tokens to call with.

use std::net::IpAddr;

use nas_cron_testing::service::{ADMIN_TOKEN, Service};
use nas_cron_testing::world::World;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

/// A caller at an address of this machine, with or without a token.
pub(super) struct Caller {
    client: reqwest::Client,
    token: Option<String>,
}

impl Caller {
    /// A caller with a token.
    pub(super) fn new(token: &str) -> Self {
        Self { client: nas_cron_testing::service::client(), token: Some(token.to_owned()) }
    }

    /// The same caller at another loopback address. The service limits invalid tokens per address.
    pub(super) fn at(self, address: IpAddr) -> Self {
        let builder = reqwest::Client::builder().tls_certs_only([]).no_proxy().local_address(address);
        Self { client: builder.build().unwrap(), ..self }
    }

    /// A caller without a token.
    pub(super) fn anonymous() -> Self {
        Self { token: None, ..Self::new("") }
    }

    /// Sends a request to the admin API.
    pub(super) async fn call(
        &self,
        service: &Service,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        self.with(service, method, path, body, &[]).await
    }

    /// Sends a request with more headers.
    pub(super) async fn with(
        &self,
        service: &Service,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", service.admin_url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if status >= 400 {
            assert_eq!(headers["content-type"], "application/problem+json", "{path}: {status}");
        }
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, headers, body }
    }
}

/// The token of the configuration, which may do everything.
pub(super) fn config() -> Caller {
    Caller::new(ADMIN_TOKEN)
}

/// Creates a token through the API, and returns it.
pub(super) async fn create(service: &Service, name: &str, role: &str, org_id: Option<&str>) -> String {
    let body = json!({ "name": name, "role": role, "org_id": org_id });
    let created = config().call(service, "POST", "/api/admin/tokens", Some(&body)).await;
    assert_eq!(created.status, 201, "{created:?}");
    created.body["token"].as_str().unwrap().to_owned()
}

/// Runs a command that must succeed, and returns its stdout.
pub(super) async fn command(world: &World, arguments: &[&str]) -> String {
    let (status, out, error) = world.settings.run(arguments).await;
    assert!(status.success(), "{arguments:?}: {out}{error}");
    out
}

/// Returns the lines of the audit log that match a query, latest first.
pub(super) async fn lines(service: &Service, query: &str) -> Vec<Value> {
    let answer = config().call(service, "GET", &format!("/api/admin/audit?{query}"), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["lines"].as_array().unwrap().clone()
}
