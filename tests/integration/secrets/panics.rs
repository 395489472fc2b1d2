//! Panics of the real service while it uses secrets.
//!
//! A clock of the machine before 1970 causes them, without any code for tests in the service: libraries do not expect one.

use std::time::Duration;

use nas_cron_testing::service::{ADMIN_TOKEN, client_builder};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

use super::search::{Secret, Seen};
use super::verbose::{always_used, service, signing_keys, verbose};
use crate::relay::caller::{RELAY_URL, silent_emulator, with_qstash};

/// An offset that is larger than the time since 1970.
const BEFORE_1970: &str = "-4000000000\n";

/// True if panics of this place were counted.
fn counted(page: &str, place: &str) -> bool {
    let prefix = format!("nas_cron_panics_total{{place=\"{place}\"}} ");
    page.lines().any(|line| line.strip_prefix(&prefix).is_some_and(|count| count != "0"))
}

#[tokio::test]
async fn no_secret_in_use_is_logged_when_code_panics() {
    let clock = std::env::temp_dir().join(format!("nas-cron-clock-{:016x}", rand::random::<u64>()));
    std::fs::write(&clock, "+0\n").unwrap();
    let emulator = silent_emulator().await;
    let world = World::with(|settings| {
        verbose(with_qstash(settings, &emulator))
            // Only the relay uses QStash.
            .with("NAS_CRON_BACKEND", "postgres")
            .with("NAS_CRON_LEASE_HORIZON", "30s")
            .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "1s")
            .with("RUST_BACKTRACE", "1")
            .with_clock_of(&clock)
    })
    .await;
    let (mut seen, mut secrets) = (Seen::default(), always_used());
    secrets.extend(signing_keys(&world.url).await);
    secrets.extend(Secret::jwt("access token", &world.token));
    let account = emulator.settings();
    secrets.push(Secret::new("QStash token", &account.token));
    secrets.push(Secret::new("QStash key", &account.current_key));
    secrets.push(Secret::new("next QStash key", &account.next_key));

    // The replica has the one-shot in hand when the clock is set.
    let (at, schedule) = world.arm("job", 6_000).await;
    eventually("it is leased", async || {
        let state = "SELECT state::text FROM one_shots WHERE job_id = 'job'";
        let state: String = sqlx::query_scalar(state).fetch_one(&world.pool).await.unwrap();
        (state == "leased").then_some(())
    })
    .await;
    let wake_up = json!({ "instance_id": "inst-1", "job_id": "job", "schedule_id": schedule, "fire_at": at })
        .to_string();
    let signature = emulator.sign(RELAY_URL, wake_up.as_bytes());
    secrets.extend(Secret::jwt("relay signature", &signature));
    std::fs::write(&clock, BEFORE_1970).unwrap();

    let provision = json!({
        "job_id": "another", "fire_at": fire_at(3_600_000), "agent_callback_url": world.callback(), "dedup_key": "k",
    })
    .to_string();
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let calls = [
        ("GET", "/readyz", bearer(&world.token), ""),
        ("GET", "/api/agent-cron/list", bearer(&world.token), ""),
        ("POST", "/api/agent-cron/provision", bearer(&world.token), provision.as_str()),
        ("POST", "/api/agent-cron/relay", ("upstash-signature", signature), wake_up.as_str()),
        ("GET", "/api/admin/agents", bearer(ADMIN_TOKEN), ""),
    ];
    let http = client_builder().timeout(Duration::from_secs(3)).build().unwrap();
    for (method, path, (header, credential), body) in &calls {
        // Without the caller's request ID, the service makes one, and reads the clock for that. With it, the panic is in the
        // handler, or in what the handler waits for.
        for id in [None, Some("an-id-of-the-caller")] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = http.request(method, format!("{}{path}", world.service.url));
            request = request.header(*header, credential).body((*body).to_owned());
            if let Some(id) = id {
                request = request.header("x-request-id", id);
            }
            // A panic outside of the handlers closes the connection.
            if let Ok(response) = request.send().await {
                seen.add(format!("an answer of {path}"), response.text().await.unwrap_or_default());
            }
        }
    }
    let handler = eventually("a handler panics", async || {
        let request = http.get(format!("{}/readyz", world.service.url)).header("x-request-id", "another-id");
        request.send().await.ok().filter(|response| response.status() == 500)
    })
    .await;
    seen.add("the answer after a panic", handler.text().await.unwrap());
    eventually("the attempt panics", async || {
        world.service.log().contains("delivery attempt panicked").then_some(())
    })
    .await;

    // The clock is set again: everything goes on.
    std::fs::write(&clock, "+0\n").unwrap();
    world.service.ready().await;
    secrets.extend(Secret::jwt("fire token", &world.agents.wait_for("job", 1).await.token));
    world.arm("another", 3_600_000).await;

    let (log, page) = (world.service.log(), world.service.metrics().await);
    for place in ["http", "fire", "background"] {
        assert!(counted(&page, place), "{place}: {page}");
    }
    let panics = log.matches("code panicked").count();
    assert!(panics >= 5 && log.contains("panic.backtrace"), "{panics} panics are logged");
    service(&mut seen, "the service", &world.service).await;
    let leaks = seen.leaks(&secrets);
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    std::fs::remove_file(&clock).unwrap();
}
