//! The background task against a correct server, and against servers that fail in various ways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_base::clock::SystemClock;
use nas_cron_base::testing::Scratch;
use serde_json::{Value, json};

use super::*;
use crate::client::store::{Mode, StoredBearer};
use crate::client::{Client, ClientError};

/// State and behaviour of a server.
#[derive(Default)]
struct Server {
    /// Public keys by identity.
    identities: BTreeMap<String, String>,
    tasks: BTreeSet<(String, String)>,
    /// Errors for the next requests of a path, each used once.
    refusals: BTreeMap<&'static str, Vec<(u16, &'static str)>>,
    /// Path and credential scheme of every request.
    seen: Vec<(String, String)>,
    registered: usize,
    /// Number of registrations that succeed without their response arriving.
    responses_lost: usize,
    tasks_registered: usize,
}

type Shared = Arc<Mutex<Server>>;
type Answer = (StatusCode, Json<Value>);

fn refused(status: u16, error: &str) -> Answer {
    let body = json!({"error": error, "error_description": format!("told {error}")});
    (StatusCode::from_u16(status).unwrap(), Json(body))
}

fn ok(body: Value) -> Answer {
    (StatusCode::OK, Json(body))
}

impl Server {
    fn enter(&mut self, path: &'static str, headers: &HeaderMap) -> Result<String, Answer> {
        let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
        let (scheme, credential) = authorization.split_once(' ').unwrap_or_default();
        self.seen.push((path.to_owned(), scheme.to_owned()));
        if let Some(refusals) = self.refusals.get_mut(path).filter(|refusals| !refusals.is_empty()) {
            let (status, error) = refusals.remove(0);
            return Err(refused(status, error));
        }
        Ok(credential.to_owned())
    }
}

async fn register(State(server): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    let mut server = server.lock();
    match server.enter("register", &headers) {
        Err(answer) => return answer,
        Ok(token) if token != "token" => return refused(401, "invalid_token"),
        Ok(_) => {}
    }
    let key = body["agent_public_key"].as_str().unwrap().to_owned();
    if let Some(replaced) = body["replaces"].as_str() {
        server.identities.remove(replaced);
    }
    let known = server.identities.iter().find(|(_, known)| **known == key).map(|(id, _)| id.clone());
    let id = known.unwrap_or_else(|| {
        server.registered += 1;
        let id = format!("rt-{}", server.registered);
        server.identities.insert(id.clone(), key);
        id
    });
    if server.responses_lost > 0 {
        server.responses_lost -= 1;
        return refused(503, "temporarily_unavailable");
    }
    ok(json!({ "agent_runtime_id": id }))
}

async fn register_task(State(server): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let mut server = server.lock();
    if let Err(answer) = server.enter("task", &headers) {
        return answer;
    }
    if !server.identities.contains_key(&id) {
        return refused(401, "unknown_agent");
    }
    server.tasks_registered += 1;
    let task = format!("task-{}", server.tasks_registered);
    server.tasks.insert((id, task.clone()));
    ok(json!({ "task_id": task }))
}

async fn revoke(State(server): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let mut server = server.lock();
    if let Err(answer) = server.enter("revoke", &headers) {
        return answer;
    }
    server.identities.remove(&id).map_or_else(|| refused(404, "not_found"), |_| ok(json!({"ok": true})))
}

async fn list(State(server): State<Shared>, headers: HeaderMap) -> Answer {
    let mut server = server.lock();
    let credential = match server.enter("list", &headers) {
        Ok(credential) => credential,
        Err(answer) => return answer,
    };
    if credential == "stale" {
        return refused(401, "invalid_token");
    }
    if credential != "token" {
        let envelope = URL_SAFE_NO_PAD.decode(credential).unwrap();
        let envelope: Value = serde_json::from_slice(&envelope).unwrap();
        let text = |name: &str| envelope[name].as_str().unwrap().to_owned();
        if !server.identities.contains_key(&text("agent_runtime_id")) {
            return refused(401, "unknown_agent");
        }
        if !server.tasks.contains(&(text("agent_runtime_id"), text("task_id"))) {
            return refused(401, "unknown_task");
        }
    }
    ok(json!({"armed": [], "dead": []}))
}

/// A server, and an agent that is logged in there.
struct World {
    server: Shared,
    url: ServerUrl,
    store: AuthStore,
    _scratch: Scratch,
}

thread_local! {
    static WARNINGS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Each test runs in its own thread, so it sees only its own warnings.
fn note(text: &str) {
    WARNINGS.with_borrow_mut(|all| all.push(text.to_owned()));
}

fn warnings() -> Vec<String> {
    WARNINGS.take()
}

impl World {
    async fn new() -> Self {
        let server = Shared::default();
        let router = Router::new()
            .route("/v1/agent/register", post(register))
            .route("/v1/agent/{id}/task/register", post(register_task))
            .route("/v1/agent/{id}", delete(revoke))
            .route("/api/agent-cron/list", get(list))
            .with_state(Arc::clone(&server));
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url: ServerUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let scratch = Scratch::new();
        let store = AuthStore::named(Some(scratch.path().join("auth.json"))).unwrap();
        let world = Self { server, url, store, _scratch: scratch };
        world.login("token").await;
        world
    }

    async fn login(&self, token: &str) {
        let bearer = StoredBearer { access_token: token.to_owned().into(), expires_at: None };
        self.store.change(&self.url, |entry| entry.bearer = Some(bearer)).await.unwrap();
    }

    fn task(&self, store: &AuthStore) -> BackgroundTask {
        self.task_with("token", store)
    }

    fn task_with(&self, token: &str, store: &AuthStore) -> BackgroundTask {
        let bearer = Bearer::Given(token.to_owned().into());
        BackgroundTask::new(self.url.clone(), store.clone(), bearer, Arc::new(SystemClock), note).unwrap()
    }

    /// A separate process, as far as the store can tell.
    fn client(&self) -> Client {
        Client::as_agent_identity(self.task(&self.store))
    }

    fn refuse(&self, path: &'static str, status: u16, error: &'static str) {
        self.server.lock().refusals.entry(path).or_default().push((status, error));
    }

    /// Returns the requests since the last call, in order.
    fn seen(&self) -> Vec<String> {
        let seen = std::mem::take(&mut self.server.lock().seen);
        seen.into_iter().map(|(path, scheme)| format!("{path} {scheme}").trim().to_owned()).collect()
    }

    fn entry(&self) -> ServerEntry {
        self.store.server(&self.url).unwrap().unwrap()
    }

    fn identity(&self) -> StoredIdentity {
        self.entry().agent_identity.unwrap()
    }

    /// The public half of the pending key.
    fn pending(&self) -> Option<String> {
        self.entry().pending_private_key.map(|key| AgentKey::parse(&key).unwrap().public_line())
    }

    /// The public half of the stored key.
    fn key(&self) -> String {
        AgentKey::parse(&self.identity().private_key).unwrap().public_line()
    }

    /// All identities of the server.
    fn known(&self) -> Vec<(String, String)> {
        self.server.lock().identities.clone().into_iter().collect()
    }
}

const REGISTERED: [&str; 3] = ["register Bearer", "task", "list AgentAssertion"];

#[tokio::test]
async fn task_is_registered_once_and_shared_with_the_next_process() {
    let world = World::new().await;
    world.client().list().await.unwrap();
    assert_eq!(world.seen(), REGISTERED);
    let first = world.identity();
    world.client().list().await.unwrap();
    assert_eq!(world.seen(), ["list AgentAssertion"]);
    assert_eq!(world.identity().background_task_id, first.background_task_id);
    assert!(warnings().is_empty());
}

#[tokio::test]
async fn concurrent_processes_register_one_task() {
    let world = World::new().await;
    let clients: Vec<Client> = (0..8).map(|_| world.client()).collect();
    for listed in futures::future::join_all(clients.iter().map(Client::list)).await {
        listed.unwrap();
    }
    let server = world.server.lock();
    assert_eq!((server.registered, server.tasks.len()), (1, 1));
    assert!(
        server.seen.iter().filter(|(path, _)| path == "list").all(|(_, scheme)| scheme == "AgentAssertion")
    );
}

#[tokio::test]
async fn task_unknown_to_the_server_is_renewed_within_the_call() {
    let world = World::new().await;
    let client = world.client();
    client.list().await.unwrap();
    world.server.lock().tasks.clear();
    world.seen();
    client.list().await.unwrap();
    assert_eq!(world.seen(), ["list AgentAssertion", "task", "list AgentAssertion"]);
    assert!(warnings().is_empty());
}

#[tokio::test]
async fn identity_unknown_to_the_server_is_registered_anew() {
    let world = World::new().await;
    let client = world.client();
    client.list().await.unwrap();
    let before = world.identity();
    world.server.lock().identities.clear();
    world.seen();
    client.list().await.unwrap();
    assert_eq!(world.seen(), ["list AgentAssertion", "register Bearer", "task", "list AgentAssertion"]);
    let after = world.identity();
    assert_ne!(after.agent_runtime_id, before.agent_runtime_id);
    assert!(warnings().is_empty());
}

#[tokio::test]
async fn task_renewed_by_another_process_is_read_from_the_store() {
    let world = World::new().await;
    world.client().list().await.unwrap();
    let task = world.task(&world.store);
    let soon = Instant::now() + Duration::from_mins(1);
    let used = task.assertion(soon).await.unwrap();
    world.server.lock().tasks.clear();
    world.client().list().await.unwrap();
    world.seen();
    let rejected = ClientError::Refused {
        status: 401,
        error: "unknown_task".into(),
        description: String::new(),
        retry_after: None,
    };
    let again = task.after_rejection(&used, rejected, soon).await.unwrap().unwrap();
    assert_eq!(world.identity().background_task_id.as_deref(), Some(again.ids.task_id.as_str()));
    assert!(world.seen().is_empty(), "nothing is registered twice");
}

#[tokio::test]
async fn interrupted_registration_continues_with_the_same_key() {
    let world = World::new().await;
    world.refuse("register", 503, "temporarily_unavailable");
    world.client().list().await.unwrap();
    let made = world.pending().unwrap();
    assert!(world.entry().agent_identity.is_none(), "the identity is stored only after its registration");
    world.refuse("task", 503, "temporarily_unavailable");
    world.seen();
    world.client().list().await.unwrap();
    let before = world.identity();
    assert_eq!((before.agent_runtime_id.as_str(), &before.background_task_id), ("rt-1", &None));
    assert_eq!((world.key(), world.pending()), (made, None));
    assert_eq!(world.seen(), ["register Bearer", "task", "list Bearer"]);
    world.client().list().await.unwrap();
    assert_eq!(world.seen(), ["task", "list AgentAssertion"]);
}

#[tokio::test]
async fn registration_with_a_lost_response_is_the_same_identity() {
    let world = World::new().await;
    world.server.lock().responses_lost = 1;
    world.client().list().await.unwrap();
    world.client().list().await.unwrap();
    assert_eq!(world.known(), [("rt-1".to_owned(), world.key())]);
    assert_eq!((world.identity().agent_runtime_id.as_str(), world.pending()), ("rt-1", None));
}

#[tokio::test]
async fn key_is_kept_until_its_replacement_is_registered() {
    let world = World::new().await;
    let client = world.client();
    client.list().await.unwrap();
    let first = world.key();
    world.server.lock().identities.clear();
    world.refuse("register", 503, "temporarily_unavailable");
    client.list().await.unwrap();
    let pending = world.pending().unwrap();
    assert_eq!(world.key(), first, "a server that is being restored may know it again");
    client.list().await.unwrap();
    assert_eq!((world.key(), world.pending()), (pending, None));
}

#[tokio::test]
async fn interrupted_rotation_loses_no_key() {
    // Before the server has the new key: calls use the old one, and the next rotation continues.
    let world = World::new().await;
    world.client().list().await.unwrap();
    let before = world.key();
    world.refuse("register", 503, "temporarily_unavailable");
    world.task(&world.store).rotate().await.unwrap_err();
    let pending = world.pending().unwrap();
    assert_eq!(world.key(), before);
    world.seen();
    world.client().list().await.unwrap();
    assert_eq!(world.seen(), ["list AgentAssertion"]);
    assert_eq!(world.task(&world.store).rotate().await.unwrap(), "rt-2");
    assert_eq!((world.known(), world.pending()), (vec![("rt-2".to_owned(), pending)], None));

    // After the server has revoked the old key: a call finds the new one, and so does the next rotation.
    for again in [false, true] {
        let world = World::new().await;
        world.client().list().await.unwrap();
        world.server.lock().responses_lost = 1;
        world.task(&world.store).rotate().await.unwrap_err();
        if again {
            assert_eq!(world.task(&world.store).rotate().await.unwrap(), "rt-2");
        } else {
            world.seen();
            world.client().list().await.unwrap();
            assert_eq!(
                world.seen(),
                ["list AgentAssertion", "register Bearer", "task", "list AgentAssertion"]
            );
        }
        assert_eq!((world.known(), world.pending()), (vec![("rt-2".to_owned(), world.key())], None));
    }
    assert!(warnings().is_empty());
}

#[tokio::test]
async fn revoked_pending_key_is_replaced() {
    let world = World::new().await;
    world.refuse("register", 503, "temporarily_unavailable");
    world.client().list().await.unwrap();
    let pending = world.pending().unwrap();
    world.refuse("register", 409, "key_revoked");
    world.client().list().await.unwrap();
    assert_ne!(world.key(), pending);
    assert_eq!(world.known(), [("rt-1".to_owned(), world.key())]);
}

#[tokio::test]
async fn a_failing_identity_falls_back_to_the_token_with_one_warning() {
    for (path, status, error, why) in [
        ("register", 403, "agent_identity_off", "agent identities are off"),
        (
            "register",
            409,
            "too_many_identities",
            "registering the identity failed: the server returned 409 too_many_identities",
        ),
        ("task", 401, "invalid_assertion", "task failed: the server returned 401 invalid_assertion"),
        ("list", 401, "scheme_not_enabled", "agent identities are off"),
        ("list", 401, "invalid_assertion", "this machine's clock"),
    ] {
        let world = World::new().await;
        world.refuse(path, status, error);
        let client = world.client();
        client.list().await.unwrap();
        assert_eq!(world.seen().last().unwrap(), "list Bearer", "{path} {error}");
        let warned = warnings();
        assert!(matches!(&warned[..], [one] if one.contains(why)), "{warned:?}");
        client.list().await.unwrap();
        assert_eq!(world.seen(), ["list Bearer"], "the identity is paused");
        assert!(warnings().is_empty(), "the warning is not repeated");
    }
}

#[tokio::test]
async fn a_transient_failure_does_not_pause_the_identity() {
    for (path, status, error) in [
        ("register", 503, "temporarily_unavailable"),
        ("register", 401, "invalid_token"),
        ("task", 503, "temporarily_unavailable"),
        ("task", 429, "too_many_requests"),
    ] {
        let world = World::new().await;
        world.refuse(path, status, error);
        let client = world.client();
        for scheme in ["list Bearer", "list AgentAssertion"] {
            client.list().await.unwrap();
            assert_eq!(world.seen().last().unwrap(), scheme, "{path} {status}");
        }
        assert_eq!(warnings().len(), 1);
    }
    let world = World::new().await;
    let client =
        Client::as_agent_identity(world.task(&world.store.clone().with_lock_wait(Duration::from_millis(10))));
    let held = world.store.lock().await.unwrap();
    client.list().await.unwrap();
    drop(held);
    client.list().await.unwrap();
    assert_eq!(world.seen().last().unwrap(), "list AgentAssertion");
}

#[tokio::test]
async fn paused_identity_uses_a_task_of_another_process() {
    let world = World::new().await;
    let client = world.client();
    world.refuse("list", 401, "invalid_assertion");
    client.list().await.unwrap();
    client.list().await.unwrap();
    assert_eq!(world.seen().last_chunk().unwrap(), &["list Bearer", "list Bearer"]);
    world.task(&world.store).rotate().await.unwrap();
    world.client().list().await.unwrap();
    world.seen();
    client.list().await.unwrap();
    assert_eq!(world.seen(), ["list AgentAssertion"]);
}

#[tokio::test]
async fn the_identity_is_tried_again_if_the_token_fails_too() {
    let world = World::new().await;
    world.client().list().await.unwrap();
    // A token that the server rejects, and no token at all.
    for (token, tried) in
        [("stale", &["list Bearer", "list AgentAssertion"][..]), ("", &["list AgentAssertion"])]
    {
        let client = Client::as_agent_identity(world.task_with(token, &world.store));
        world.refuse("list", 401, "invalid_assertion");
        client.list().await.unwrap_err();
        world.seen();
        client.list().await.unwrap();
        assert_eq!(world.seen(), tried);
    }
}

#[tokio::test]
async fn identity_is_tried_again_after_the_pause_without_another_warning() {
    let world = World::new().await;
    let client = world.client();
    for round in 0..2 {
        world.refuse("list", 401, "scheme_not_enabled");
        client.list().await.unwrap();
        assert_eq!(world.seen().last_chunk().unwrap(), &["list AgentAssertion", "list Bearer"]);
        assert_eq!(warnings().len(), 1 - round, "one warning per process");
        tokio::time::pause();
        tokio::time::advance(PAUSE + Duration::from_secs(1)).await;
        tokio::time::resume();
    }
    client.list().await.unwrap();
    assert_eq!(world.seen(), ["list AgentAssertion"]);
}

#[tokio::test]
async fn call_uses_the_identity_at_most_twice() {
    let world = World::new().await;
    for _ in 0..3 {
        world.refuse("list", 401, "unknown_task");
    }
    let error = world.client().list().await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: 401, .. }), "{error}");
    let calls: Vec<_> = world.seen().into_iter().filter(|one| one.starts_with("list")).collect();
    assert_eq!(calls, ["list AgentAssertion", "list AgentAssertion", "list Bearer"]);
    assert_eq!(warnings().len(), 1);
}

#[tokio::test]
async fn errors_unrelated_to_the_credential_are_returned() {
    let world = World::new().await;
    world.refuse("list", 403, "access_denied");
    let error = world.client().list().await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: 403, .. }), "{error}");
    assert_eq!(world.seen(), REGISTERED);
    assert!(warnings().is_empty());
}

#[tokio::test]
async fn unusable_store_causes_one_warning() {
    let world = World::new().await;
    let nowhere = AuthStore::named(Some("/proc/nas-cron/auth.json".into())).unwrap();
    let stuck = world.store.clone().with_lock_wait(Duration::from_millis(10));
    let held = world.store.lock().await.unwrap();
    for (store, why) in
        [(&nowhere, "has no entry for http://127.0.0.1"), (&stuck, "another process has held the lock")]
    {
        Client::as_agent_identity(world.task(store)).list().await.unwrap();
        assert_eq!(world.seen(), ["list Bearer"]);
        let warned = warnings();
        assert!(matches!(&warned[..], [one] if one.contains(why)), "{warned:?}");
    }
    drop(held);
    std::fs::write(world.store.path(), r#"{"version":1,"serv"#).unwrap();
    world.client().list().await.unwrap();
    let warned = warnings();
    assert!(matches!(&warned[..], [one] if one.contains("is truncated")), "{warned:?}");
}

#[tokio::test]
async fn invalid_stored_key_causes_a_warning_and_is_replaced_by_a_rotation() {
    let world = World::new().await;
    world.client().list().await.unwrap();
    let spoil = |entry: &mut ServerEntry| {
        entry.agent_identity.as_mut().unwrap().private_key = "s3cret".to_owned().into();
    };
    world.store.change(&world.url, spoil).await.unwrap();
    world.client().list().await.unwrap();
    let warned = warnings();
    assert!(
        matches!(&warned[..], [one] if one.contains("identity rotate") && !one.contains("s3cret")),
        "{warned:?}"
    );
    assert_eq!(world.task(&world.store).rotate().await.unwrap(), "rt-2");
    assert_eq!(world.server.lock().identities.keys().collect::<Vec<_>>(), ["rt-2"]);
    world.seen();
    world.client().list().await.unwrap();
    assert_eq!(world.seen(), ["task", "list AgentAssertion"]);
}

#[tokio::test]
async fn forgetting_an_identity_revokes_it_first() {
    let world = World::new().await;
    world.client().list().await.unwrap();
    world.refuse("revoke", 503, "temporarily_unavailable");
    let error = world.task(&world.store).forget(false).await.unwrap_err();
    assert!(error.to_string().contains("revoking the identity at the server failed"), "{error}");
    assert_eq!(world.identity().agent_runtime_id, "rt-1", "the identity is kept");
    assert_eq!(world.task(&world.store).forget(false).await.unwrap().as_deref(), Some("rt-1"));
    assert!(world.server.lock().identities.is_empty());
    let entry = world.store.server(&world.url).unwrap().unwrap();
    assert!(entry.agent_identity.is_none() && entry.bearer.is_some());
    assert_eq!(entry.use_agent_identity, Some(Mode::Off));

    // Without an identity, or with only a pending key, the mode is off too.
    world.refuse("register", 503, "temporarily_unavailable");
    world.client().list().await.unwrap();
    world.store.change(&world.url, |entry| entry.use_agent_identity = Some(Mode::On)).await.unwrap();
    assert_eq!(world.task(&world.store).forget(false).await.unwrap(), None);
    let entry = world.entry();
    assert_eq!((entry.use_agent_identity, world.pending()), (Some(Mode::Off), None));
}
