//! The real codex CLI registers its key and its task with the service, and its assertions authenticate calls of the agent
//! API. `make agent-tools` installs it.
//!
//! A stand-in for its model provider records its credentials. It is also the proxy for all other addresses, and a request
//! to any of them fails the test: codex may use loopback only.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_testing::service::Settings;
use nas_cron_testing::world::World;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::fixture::{call, list, on};

/// Timeout of one run; long enough for a slow machine.
const DEADLINE: Duration = Duration::from_mins(3);

/// The requests that the stand-in received.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    /// The `Authorization` header of each call to the model. Listings, which use a bearer token, are not recorded.
    presented: Vec<String>,
    /// Requests to other addresses.
    strayed: Vec<String>,
}

/// Starts the stand-in for the model provider, for its backend, and for the proxy.
async fn stand_in() -> (String, Seen) {
    let seen = Seen::default();
    let router = Router::new()
        .route("/v1/models", routing::get(async || Json(json!({"models": []}))))
        .route("/v1/responses", routing::post(answer))
        .route("/backend-api/{*path}", routing::any(async || StatusCode::NOT_FOUND))
        .fallback(strayed)
        .with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, seen)
}

/// One turn of a model that responds "pong".
async fn answer(State(seen): State<Seen>, request: Request) -> Response {
    let presented = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    seen.0.lock().unwrap().presented.extend(presented);
    let item = json!({
        "type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "pong"}],
    });
    let usage = json!({
        "input_tokens": 1, "input_tokens_details": null, "output_tokens": 1, "output_tokens_details": null,
        "total_tokens": 2,
    });
    let events = [
        json!({"type": "response.created", "response": {"id": "resp_1"}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {"id": "resp_1", "output": [item], "usage": usage}}),
    ];
    let line = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    ([(CONTENT_TYPE, "text/event-stream")], events.iter().map(line).collect::<String>()).into_response()
}

async fn strayed(State(seen): State<Seen>, request: Request) -> StatusCode {
    seen.0.lock().unwrap().strayed.push(format!("{} {}", request.method(), request.uri()));
    StatusCode::BAD_GATEWAY
}

/// A temporary home of one codex.
struct Home {
    folder: PathBuf,
    authority: String,
    stand_in: String,
    seen: Seen,
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Home {
    /// Creates a home that is logged in with a token of the portal, and that uses agent identities at `authority`.
    async fn new(authority: &str, access_token: &str) -> Self {
        let (stand_in, seen) = stand_in().await;
        let name = format!("codex-{}-{:x}", std::process::id(), rand::random::<u32>());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(folder.join("work")).unwrap();
        let config = format!(
            r#"
model = "gpt-5.5"
model_provider = "stand-in"
chatgpt_base_url = "{stand_in}/backend-api"
cli_auth_credentials_store = "file"
check_for_update_on_startup = false
[analytics]
enabled = false
[features]
use_agent_identity = true
plugins = false
apps = false
remote_plugin = false
[model_providers.stand-in]
name = "stand-in"
base_url = "{stand_in}/v1"
wire_api = "responses"
requires_openai_auth = true
request_max_retries = 0
stream_max_retries = 0
"#
        );
        std::fs::write(folder.join("config.toml"), config).unwrap();
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let about = json!({
            "chatgpt_user_id": "user-1", "user_id": "user-1", "chatgpt_plan_type": "pro", "chatgpt_account_id": "account-1",
        });
        let claims = json!({
            "email": "user@example.com", "email_verified": true, "exp": 4_000_000_000_u64,
            "https://api.openai.com/auth": about,
        });
        let id_token = format!("{}.{}.c2ln", part(&json!({"alg": "none", "typ": "JWT"})), part(&claims));
        let auth = json!({
            "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "last_refresh": "2099-01-01T00:00:00Z",
            "tokens": {
                "id_token": id_token, "access_token": access_token, "refresh_token": "none", "account_id": "account-1",
            },
        });
        std::fs::write(folder.join("auth.json"), auth.to_string()).unwrap();
        Self { folder, authority: authority.to_owned(), stand_in, seen }
    }

    /// Runs one prompt. Returns the assertion that codex sent to its model.
    async fn exec(&self) -> String {
        let before = self.seen.0.lock().unwrap().presented.len();
        let arguments = ["exec", "--skip-git-repo-check", "--json", "-s", "read-only", "ping"];
        let mut command = tokio::process::Command::new(binary());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("HOME", self.folder.join("work"))
            .env("CODEX_HOME", &self.folder)
            .env("CODEX_AGENT_IDENTITY_AUTHAPI_BASE_URL", &self.authority)
            .env("CODEX_AGENT_IDENTITY_JWKS_BASE_URL", format!("{}/backend-api", self.stand_in));
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, &self.stand_in);
        }
        for name in ["no_proxy", "NO_PROXY"] {
            command.env(name, "127.0.0.1");
        }
        command.current_dir(self.folder.join("work")).stdin(Stdio::null()).kill_on_drop(true);
        let output =
            tokio::time::timeout(DEADLINE, command.output()).await.expect("codex ends").expect("codex runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let record = self.seen.0.lock().unwrap();
        assert_eq!(record.strayed, [""; 0], "codex called another address");
        assert!(output.status.success() && out.contains("pong"), "{out}\n{err}");
        // Without an identity, codex silently falls back to the token.
        let presented = record.presented[before..].last().unwrap_or_else(|| panic!("{out}\n{err}"));
        assert!(presented.starts_with("AgentAssertion "), "codex fell back to the token\n{err}");
        presented.clone()
    }

    /// Returns the identity in its auth file.
    fn kept(&self) -> Value {
        let auth = std::fs::read(self.folder.join("auth.json")).unwrap();
        serde_json::from_slice::<Value>(&auth).unwrap()["agent_identity"].clone()
    }
}

/// Path of the binary in the npm package for this machine.
fn binary() -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agent-tools-node/node_modules/@openai");
    let folders = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let targets = folders(&packages).into_iter().flat_map(|package| folders(&package.join("vendor")));
    let found = targets.map(|target| target.join("bin/codex")).find(|path| path.exists());
    found.expect("codex is not installed: run `make agent-tools` (`make test` does)")
}

async fn codex_registers_and_calls(change: impl FnOnce(Settings) -> Settings) {
    let world = World::with(|s| on(change(s))).await;
    let service = &world.service;
    let (_, schedule) = world.arm("marker", 3_600_000).await;
    let codex = Home::new(&service.url, &world.token).await;
    let first = codex.exec().await;
    // The assertion belongs to the instance of the token.
    let answer = list(service, &first).await;
    assert_eq!(
        (answer.status, &answer.body["armed"][0]["schedule_id"]),
        (200, &json!(schedule)),
        "{answer:?}"
    );
    let counts = async || -> (i64, i64) {
        let counts = "SELECT (SELECT count(*) FROM agent_identities), (SELECT count(*) FROM agent_tasks)";
        sqlx::query_as(counts).fetch_one(&world.pool).await.unwrap()
    };
    let after_one = counts().await;
    assert_eq!(after_one, (1, 1));
    let kept = codex.kept();
    let shown = call(service, "GET", "/v1/agent", Some(&first), None).await.body;
    assert_eq!(shown["identities"][0]["agent_runtime_id"], kept["agent_runtime_id"], "{shown}");
    assert_eq!(shown["identities"][0]["tasks"][0]["task_id"], kept["task_id"], "{shown}");

    // A second run uses the same identity and task.
    let second = codex.exec().await;
    assert_eq!(list(service, &second).await.status, 200);
    assert_eq!(counts().await, after_one, "nothing was registered again");
    assert_eq!(codex.kept(), kept);

    // A revocation at the service ends the assertions.
    let path = format!("/api/admin/agents/inst-1/identities/{}", kept["agent_runtime_id"].as_str().unwrap());
    assert_eq!(service.admin("DELETE", &path, None).await.0, 204);
    for presented in [first, second] {
        list(service, &presented).await.unasserted("unknown_agent");
    }
}

#[tokio::test]
async fn the_real_codex_registers_and_its_assertions_are_accepted() {
    codex_registers_and_calls(|settings| settings).await;
}

#[tokio::test]
async fn the_real_codex_opens_a_sealed_task() {
    codex_registers_and_calls(|settings| settings.with("NAS_CRON_AGENT_TASK_IDS_ENCRYPTED", "true")).await;
}
