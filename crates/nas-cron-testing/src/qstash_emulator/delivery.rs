//! Deliveries: at their instant, then with back-off until a 2xx response or the last retry.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue};
use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::headers::duration;
use super::store::{Message, Next};
use super::{Shared, now, sign};

/// Maximum pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// Maximum stored length of a response body.
const MAX_ANSWER: usize = 16 * 1024;

/// Delivers messages when they are due.
pub async fn deliver(shared: Arc<Shared>) {
    let client = reqwest::Client::builder()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // Long enough for messages that are due every second. A connection that is idle for longer may be closed by
        // the other end just when it is used, and the try would fail without a fault.
        .pool_idle_timeout(Duration::from_millis(1_500))
        .build()
        .expect("a client");
    let slots = Arc::new(Semaphore::new(shared.settings.in_flight));
    let mut wanted = shared.wanted.subscribe();
    loop {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        let next = shared.store().next();
        match next {
            Next::Nothing => shared.sooner.notified().await,
            Next::In(wait) => {
                tokio::select! {
                    () = shared.sooner.notified() => {}
                    _ = wanted.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
            Next::Now(id, twice) => {
                for _ in 0..=u8::from(twice) {
                    let slot = Arc::clone(&slots).acquire_owned().await.expect("never closed");
                    let (shared, client, id) = (Arc::clone(&shared), client.clone(), id.clone());
                    tokio::spawn(async move {
                        attempt(&shared, &client, &id).await;
                        drop(slot);
                    });
                }
            }
        }
    }
}

async fn attempt(shared: &Shared, client: &reqwest::Client, id: &str) {
    let (message, key) = {
        let mut store = shared.store();
        let Some(message) = store.messages.get(id).cloned() else { return };
        store.note("ACTIVE", &message, |_| ());
        (message, store.current_key.clone())
    };
    shared.count(|counts| counts.tries += 1);
    let answer =
        tokio::time::timeout(message.timeout, send(client, &message, &key, shared.settings.region)).await;
    let (error, response, headers) = match answer {
        Ok(Ok((status, ..))) if (200..300).contains(&status) => {
            // The second of two concurrent deliveries finds the message removed.
            let mut store = shared.store();
            if store.messages.remove(id).is_some() {
                store.note("DELIVERED", &message, |_| ());
                drop(store);
                shared.count(|counts| counts.delivered += 1);
            }
            return;
        }
        Ok(Ok((status, body, headers))) => {
            (format!("the destination returned {status}"), Some((status, body)), headers)
        }
        Ok(Err(error)) => (error.without_url().to_string(), None, HeaderMap::new()),
        Err(_) => ("the destination did not respond in time".to_owned(), None, HeaderMap::new()),
    };
    let pointless = response.as_ref().is_some_and(|(status, _)| *status == 489)
        && headers.get("upstash-nonretryable-error").is_some_and(|value| value == "true");
    let mut store = shared.store();
    // Cancelled, or delivered by another try, meanwhile.
    let Some(stored) = store.messages.get_mut(id) else { return };
    stored.retried += 1;
    let mut message = stored.clone();
    store.note("ERROR", &message, |entry| {
        entry.error = Some(error.clone());
        entry.response = response;
    });
    if pointless || message.retried > message.max_retries {
        message.retried -= 1;
        store.messages.remove(id);
        store.note("FAILED", &message, |entry| entry.error = Some(error));
        drop(store);
        shared.count(|counts| counts.failed += 1);
        return;
    }
    let at = now() + pause(&headers, &message, shared.settings.backoff, now());
    store.note("RETRY", &message, |entry| entry.next = Some(at));
    store.schedule(id, at);
    drop(store);
    shared.sooner.notify_one();
}

async fn send(
    client: &reqwest::Client,
    message: &Message,
    key: &str,
    region: Option<&str>,
) -> Result<(u16, Bytes, HeaderMap), reqwest::Error> {
    let mut headers = message.headers.clone();
    let mut set = |name, value: &str| {
        headers.insert(name, HeaderValue::from_str(value).expect("plain text"));
    };
    set("user-agent", "Upstash-QStash");
    set("upstash-message-id", &message.id);
    set("upstash-retried", &message.retried.to_string());
    set("upstash-caller-ip", &message.caller);
    if let Some(region) = region {
        set("upstash-region", region);
    }
    set("upstash-signature", &sign::sign(key, &message.url, &message.body, now()));
    let request = client.request(message.method.clone(), &message.url).headers(headers);
    let mut response = request.body(message.body.clone()).send().await?;
    let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
        if body.len() == MAX_ANSWER {
            break;
        }
    }
    Ok((status, body.into(), headers))
}

/// Returns the pause before the next try: that of the destination, else that of the publisher, else min(1 day, e^(2.5 n))
/// seconds before the n-th retry.
fn pause(headers: &HeaderMap, message: &Message, backoff: f64, now: DateTime<Utc>) -> Duration {
    const NAMES: [&str; 4] =
        ["retry-after", "x-ratelimit-reset", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"];
    let asked = NAMES.iter().find_map(|name| asked_pause(headers.get(*name)?.to_str().ok()?, now));
    if let Some(asked) = asked.filter(|asked| *asked <= LONGEST_PAUSE) {
        return asked;
    }
    message.retry_delay.unwrap_or_else(|| {
        let seconds = (2.5 * f64::from(message.retried)).exp().min(LONGEST_PAUSE.as_secs_f64());
        Duration::from_secs_f64(seconds * backoff)
    })
}

/// Parses seconds, a date, or a duration.
fn asked_pause(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    match DateTime::parse_from_rfc2822(text) {
        Ok(date) => Some((date.to_utc() - now).to_std().unwrap_or_default()),
        Err(_) => duration(text),
    }
}
