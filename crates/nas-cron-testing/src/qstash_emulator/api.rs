//! The HTTP API of the emulator.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::faults::{ApiFault, DeliveryFault};
use super::refusal::error;
use super::store::{Entry, Message};
use super::{Shared, headers, now};

/// True if the route belongs to the emulator and not to QStash.
pub fn is_control(uri: &Uri) -> bool {
    uri.path().starts_with("/emulator/")
}

/// Returns all routes.
pub fn router(shared: Arc<Shared>) -> Router {
    let api = Router::new()
        .route("/v2/publish/{*destination}", post(publish))
        .route("/v2/messages", axum::routing::delete(cancel_many))
        .route("/v2/messages/{id}", get(message).delete(cancel))
        .route("/v2/events", get(log))
        .route("/v2/logs", get(log))
        .route("/v2/keys", get(keys))
        .route("/v2/keys/rotate", post(rotate))
        .fallback(async || error(StatusCode::NOT_FOUND, "not emulated"))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), authorize));
    Router::new()
        .route("/emulator/state", get(state))
        .route("/emulator/faults", put(set_faults))
        .merge(api)
        .layer(DefaultBodyLimit::max(16 << 20))
        .with_state(shared)
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response<Body> {
    let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if given.and_then(|given| given.strip_prefix("Bearer ")) != Some(&shared.settings.token) {
        shared.count(|counts| counts.unauthorized += 1);
        return error(StatusCode::UNAUTHORIZED, "invalid token");
    }
    next.run(request).await
}

/// Publishes a message. The destination is the unmodified rest of the path.
async fn publish(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    given: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let destination = path.strip_prefix("/v2/publish/").unwrap_or_default();
    let message = match headers::message(destination, &given, body, &shared.settings, now()) {
        Ok(message) => message,
        Err((status, text)) => return error(status, &text),
    };
    let id = message.id.clone();
    {
        let mut store = shared.store();
        let window = shared.settings.deduplication_window;
        let existing = message.deduplication_id.as_ref().and_then(|id| store.duplicate_of(id, window));
        if let Some(existing) = existing {
            drop(store);
            shared.count(|counts| counts.deduplicated += 1);
            let answer = json!({"messageId": existing, "url": destination, "deduplicated": true});
            return (StatusCode::ACCEPTED, Json(answer)).into_response();
        }
        store.take(message);
    }
    shared.sooner.notify_one();
    shared.count(|counts| counts.published += 1);
    Json(json!({"messageId": id, "url": destination})).into_response()
}

async fn cancel(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response<Body> {
    let cancelled = shared.store().cancel(&id);
    if !cancelled {
        shared.count(|counts| counts.cancelled_nothing += 1);
        return error(StatusCode::NOT_FOUND, &format!("message {id} not found"));
    }
    shared.count(|counts| counts.cancelled += 1);
    Json(json!({"cancelled": 1})).into_response()
}

/// Cancels the messages that the query (npm) or the body (`PyPI`) names, or all messages.
async fn cancel_many(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response<Body> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Names {
        message_ids: Vec<String>,
    }
    let mut ids = values(query.as_deref(), "messageIds");
    if !body.is_empty() {
        match serde_json::from_slice::<Names>(&body) {
            Ok(names) => ids.extend(names.message_ids),
            Err(_) => return error(StatusCode::BAD_REQUEST, "only messageIds are emulated"),
        }
    }
    let mut store = shared.store();
    if ids.is_empty() && body.is_empty() {
        ids = store.messages.keys().cloned().collect();
    }
    let cancelled: u64 = ids.iter().map(|id| u64::from(store.cancel(id))).sum();
    drop(store);
    shared.count(|counts| counts.cancelled += cancelled);
    Json(json!({"cancelled": cancelled})).into_response()
}

async fn message(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response<Body> {
    let Some(message) = shared.store().messages.get(&id).cloned() else {
        return error(StatusCode::NOT_FOUND, &format!("message {id} not found"));
    };
    let mut shown = shown(&message);
    shown["body"] = shown_body(&message).map_or(Value::Null, |body| String::from_utf8_lossy(&body).into());
    shown["createdAt"] = message.created_at.timestamp_millis().into();
    shown["notBefore"] = message.not_before.timestamp_millis().into();
    shown["callerIP"] = message.caller.into();
    Json(shown).into_response()
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let store = shared.store();
    Json(json!({"current": store.current_key, "next": store.next_key}))
}

async fn rotate(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let (current, next) = shared.store().rotate_keys();
    Json(json!({"current": current, "next": next}))
}

/// Returns a page of log entries, newest first, `count` per page. The cursor is the position of the last entry.
async fn log(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response<Body> {
    let query = query.as_deref();
    let one = |name| values(query, name).into_iter().next();
    let number = |name| one(name).and_then(|value: String| value.parse::<i64>().ok());
    let mut ids = values(query, "messageIds");
    ids.extend(values(query, "messageId"));
    let (state, url) = (one("state"), one("url"));
    let count = number("count").map_or(100, |count| usize::try_from(count).unwrap_or(0).clamp(1, 1000));
    let from = number("fromDate").unwrap_or(i64::MIN);
    let to = number("toDate").unwrap_or(i64::MAX);
    let before = match one("cursor") {
        None => u64::MAX,
        Some(cursor) => match cursor.rsplit('-').next().and_then(|sequence| sequence.parse().ok()) {
            Some(sequence) => sequence,
            None => return error(StatusCode::BAD_REQUEST, "invalid cursor"),
        },
    };
    let in_state = |entry: &Entry| match state.as_deref() {
        None => true,
        Some("IN_PROGRESS") => matches!(entry.state, "ACTIVE" | "RETRY" | "ERROR"),
        Some(state) => entry.state == state,
    };
    let store = shared.store();
    let mut found = store.log.iter().rev().filter(|entry| {
        let time = entry.time.timestamp_millis();
        entry.sequence < before
            && (ids.is_empty() || ids.contains(&entry.message.id))
            && in_state(entry)
            && url.as_ref().is_none_or(|url| *url == entry.message.url)
            && (from..=to).contains(&time)
    });
    let page: Vec<&Entry> = found.by_ref().take(count).collect();
    let cursor = found.next().and(page.last());
    let cursor = cursor.map(|last| format!("{}-{}", last.time.timestamp_millis(), last.sequence));
    let mut answer = json!({"events": page.into_iter().map(shown_entry).collect::<Vec<_>>()});
    if let Some(cursor) = cursor {
        answer["cursor"] = cursor.into();
    }
    Json(answer).into_response()
}

async fn state(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let counts = shared.counts.borrow().clone();
    Json(json!({"counts": counts, "pending": shared.store().pending().len()}))
}

#[derive(Deserialize)]
struct Faults {
    api: Option<ApiFault>,
    times: Option<u32>,
    delivery: Option<DeliveryFault>,
}

async fn set_faults(State(shared): State<Arc<Shared>>, Json(faults): Json<Faults>) -> StatusCode {
    {
        let mut store = shared.store();
        store.api_fault = faults.api.map(|fault| (fault, faults.times));
        store.delivery_fault = faults.delivery;
    }
    shared.sooner.notify_one();
    StatusCode::NO_CONTENT
}

/// Returns all values of a parameter, repeated or separated by commas.
fn values(query: Option<&str>, name: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let wanted = pairs.filter(|(key, _)| key == name);
    wanted.flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn redacted(value: &[u8]) -> String {
    format!("REDACTED:{}", hex::encode(digest::digest(&digest::SHA256, value)))
}

fn shown_body(message: &Message) -> Option<Vec<u8>> {
    match message.body.is_empty() {
        true => None,
        false if message.redacted_body => Some(redacted(&message.body).into_bytes()),
        false => Some(message.body.to_vec()),
    }
}

fn shown(message: &Message) -> Value {
    let mut headers = serde_json::Map::new();
    for (name, value) in &message.headers {
        let hidden = message.redacted_headers.as_ref().is_none_or(|names| names.contains(&name.to_string()));
        let value = if hidden {
            redacted(value.as_bytes())
        } else {
            String::from_utf8_lossy(value.as_bytes()).into()
        };
        let name = title_case(name.as_str());
        headers.entry(name).or_insert_with(|| json!([])).as_array_mut().expect("an array").push(value.into());
    }
    json!({
        "messageId": message.id,
        "url": message.url,
        "method": message.method.as_str(),
        "header": headers,
        "maxRetries": message.max_retries,
    })
}

fn title_case(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

fn shown_entry(entry: &Entry) -> Value {
    let mut shown = shown(&entry.message);
    shown["time"] = entry.time.timestamp_millis().into();
    shown["state"] = entry.state.into();
    shown["timeout"] = u64::try_from(entry.message.timeout.as_millis()).unwrap_or(u64::MAX).into();
    if let Some(body) = shown_body(&entry.message) {
        shown["body"] = STANDARD.encode(body).into();
    }
    if let Some(next) = entry.next {
        shown["nextDeliveryTime"] = next.timestamp_millis().into();
    }
    if let Some(error) = &entry.error {
        shown["error"] = error.as_str().into();
    }
    if let Some((status, body)) = &entry.response {
        shown["responseStatus"] = (*status).into();
        shown["responseBody"] = STANDARD.encode(body).into();
    }
    shown
}
