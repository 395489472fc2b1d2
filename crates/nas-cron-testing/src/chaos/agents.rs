//! The fire endpoint of all agents: it records each fire, checks its token, and responds after a short delay.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::DateTime;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;

use super::ledger::{Finding, Ledger, OneShot, now};
use super::verifier::{Rejection, Verifier};

/// Clock leeway of the agents, in seconds.
const LEEWAY: i64 = 30;

struct Agents {
    ledger: Arc<Ledger>,
    verifier: Verifier,
    seed: u64,
    refused_percent: u64,
    accepted: UnboundedSender<OneShot>,
}

/// Starts the endpoint and returns its base URL. Sends one-shots that it accepts for the first time to `accepted`.
pub(super) async fn start(
    ledger: Arc<Ledger>,
    verifier: Verifier,
    seed: u64,
    refused_percent: u64,
    accepted: UnboundedSender<OneShot>,
) -> String {
    let agents = Arc::new(Agents { ledger, verifier, seed, refused_percent, accepted });
    let router = Router::new().route("/{agent}/api/cron/fire", axum::routing::post(fire)).with_state(agents);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn fire(State(agents): State<Arc<Agents>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(one_shot) = one_shot(&body) else { return StatusCode::BAD_REQUEST };
    let arrival = agents.ledger.arrived(one_shot);
    let mut open = Open { ledger: &agents.ledger, one_shot, accepted: false };
    let claims = match agents.verifier.verify(&headers).await {
        Ok(claims) => claims,
        Err(Rejection::UnknownKey(kid)) => {
            agents.ledger.found(now(), Finding::UnknownKey, format!("unknown key {kid}"));
            return StatusCode::UNAUTHORIZED;
        }
        Err(Rejection::Invalid(wrong)) => {
            agents.ledger.found(now(), Finding::BadToken, wrong);
            return StatusCode::UNAUTHORIZED;
        }
    };
    if let Some(wrong) = wrong_times(&claims) {
        agents.ledger.found(now(), Finding::BadToken, wrong);
        return StatusCode::UNAUTHORIZED;
    }
    let dice = dice(agents.seed, one_shot);
    // Long enough to detect an overlapping attempt.
    tokio::time::sleep(Duration::from_millis(20 + dice / 100 % 100)).await;
    if arrival.is_first && dice % 100 < agents.refused_percent {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    open.accepted = true;
    if !arrival.is_repeated {
        // The receiver is gone if the load has stopped.
        let _ = agents.accepted.send(one_shot);
    }
    StatusCode::ACCEPTED
}

/// An attempt in flight. It ends when this is dropped, also if the service breaks the connection.
struct Open<'a> {
    ledger: &'a Ledger,
    one_shot: OneShot,
    accepted: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.ledger.ended(self.one_shot, self.accepted);
    }
}

fn one_shot(body: &[u8]) -> Option<OneShot> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let job = body["job_id"].as_str()?.strip_prefix("job-")?.parse().ok()?;
    let due = DateTime::parse_from_rfc3339(body["fire_at"].as_str()?).ok()?.timestamp_micros();
    Some(OneShot { job, due })
}

/// Returns an error if the times of the token are invalid.
fn wrong_times(claims: &Value) -> Option<String> {
    let time = |name: &str| claims[name].as_i64().unwrap_or_default();
    let seconds = now() / 1_000_000;
    let good = time("nbf").max(time("iat")) <= seconds + LEEWAY && time("exp") > seconds - LEEWAY;
    (!good).then(|| format!("iat is {} s off, exp {} s", time("iat") - seconds, time("exp") - seconds))
}

/// Returns the same number for the same one-shot in every run with this seed, as far as instants repeat.
fn dice(seed: u64, one_shot: OneShot) -> u64 {
    let mixed =
        seed ^ u64::from(one_shot.job).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ one_shot.due.unsigned_abs();
    mixed.wrapping_mul(0xd134_2543_de82_ef95) >> 20
}
