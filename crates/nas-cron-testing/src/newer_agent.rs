//! An emulation of the fire endpoint of hermes-agent 0.20 and later, which cannot be installed from a registry. It has the
//! answers and the claims of docs/clients.md#consequences-for-a-server (8); version 0.19.0 runs for real in
//! `tests/external/hermes`.
//!
//! Time passes in [`NewerAgent::pass`], so that no test waits for the end of a claim.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::jwt::try_verify;
use crate::service::{Service, client};
use crate::time::{PATIENCE, now};

/// Time for which a claim refuses further fires, also the claim of a process that died.
pub const CLAIM_LIFETIME: Duration = Duration::from_mins(5);
/// Leeway for `exp`, in seconds.
const LEEWAY: i64 = 30;

/// The condition of the agent and of the gateway behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It takes fires.
    #[default]
    Running,
    /// The gateway was stopped on purpose: it drops fires.
    Stopped,
    /// It is shutting down.
    Draining,
    /// The gateway cannot be reached; the agent waits this long before it reports that.
    Unreachable {
        /// At most 7 s in real agents.
        after: Duration,
    },
    /// An operator has paused it, possibly for days.
    Paused,
    /// It cannot store claims.
    Unwritable,
}

/// An answer to a fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `job_id` of the fire.
    pub job_id: String,
    /// HTTP status.
    pub http_status: u16,
    /// `status` of the body.
    pub status: &'static str,
}

#[derive(Debug, Default)]
struct Job {
    /// The instant that it is to run at next, or runs at.
    fire_at: String,
    /// Runs until [`NewerAgent::finish`]. Other jobs are finished at once.
    is_long: bool,
    is_paused: bool,
    /// Age of the claim of the current run.
    claim_age: Option<Duration>,
    completed: HashSet<String>,
}

#[derive(Debug, Default)]
struct Agent {
    condition: Condition,
    /// The next fire finds a stopped process, which takes this long to boot.
    boot: Duration,
    /// The next response is lost on its way.
    loses_response: bool,
    jobs: BTreeMap<String, Job>,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Shared {
    agent: Mutex<Agent>,
    answered: Notify,
    jwks_url: String,
    issuer: String,
    audience: String,
}

/// A running agent.
#[derive(Clone, Debug)]
pub struct NewerAgent {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl NewerAgent {
    /// Starts an agent that accepts fires for `audience` from the service with this JWKS and issuer.
    pub async fn start(jwks_url: &str, issuer: &str, audience: &str) -> Self {
        let shared = Arc::new(Shared {
            agent: Mutex::default(),
            answered: Notify::new(),
            jwks_url: jwks_url.to_owned(),
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
        });
        let router =
            Router::new().route("/api/cron/fire", axum::routing::post(fire)).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared, address }
    }

    /// Returns the callback URL.
    pub fn callback(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the condition.
    pub fn become_(&self, condition: Condition) {
        self.shared.agent.lock().condition = condition;
    }

    /// Makes the next fire wait until the process has booted.
    pub fn boots_in(&self, time: Duration) {
        self.shared.agent.lock().boot = time;
    }

    /// Makes the agent take the next fire and break the connection before its response.
    pub fn loses_next_response(&self) {
        self.shared.agent.lock().loses_response = true;
    }

    /// Adds a job, or gives it another instant. A long job runs until [`Self::finish`].
    pub fn schedule(&self, job_id: &str, fire_at: &str, is_long: bool) {
        let mut agent = self.shared.agent.lock();
        let job = agent.jobs.entry(job_id.to_owned()).or_default();
        fire_at.clone_into(&mut job.fire_at);
        job.is_long = is_long;
    }

    /// Removes a job.
    pub fn remove(&self, job_id: &str) {
        self.shared.agent.lock().jobs.remove(job_id);
    }

    /// Pauses a job.
    pub fn pause(&self, job_id: &str) {
        self.change(job_id, |job| job.is_paused = true);
    }

    /// Ends the run of a long job.
    pub fn finish(&self, job_id: &str) {
        self.change(job_id, |job| {
            job.claim_age = None;
            job.completed.insert(job.fire_at.clone());
        });
    }

    fn change(&self, job_id: &str, change: impl FnOnce(&mut Job)) {
        change(self.shared.agent.lock().jobs.get_mut(job_id).expect("a job of the agent"));
    }

    /// Lets time pass for the claims.
    pub fn pass(&self, time: Duration) {
        for age in self.shared.agent.lock().jobs.values_mut().filter_map(|job| job.claim_age.as_mut()) {
            *age += time;
        }
    }

    /// Provisions all jobs with their old keys, as the start of a gateway does. Changes no condition: a gateway may be
    /// stopped again before its fires come.
    pub async fn provision_all(&self, service: &Service, token: &str) {
        let jobs: Vec<(String, String)> =
            self.shared.agent.lock().jobs.iter().map(|(id, job)| (id.clone(), job.fire_at.clone())).collect();
        for (job_id, fire_at) in jobs {
            service.provision(token, &job_id, &fire_at, &self.callback()).await;
        }
    }

    /// Returns the answers so far.
    pub fn answers(&self) -> Vec<Answer> {
        self.shared.agent.lock().answers.clone()
    }

    /// Waits until the agent has given `count` answers for the job, and returns them.
    pub async fn wait_for(&self, job_id: &str, count: usize) -> Vec<Answer> {
        let waiting = async {
            loop {
                let answered = self.shared.answered.notified();
                let of_job: Vec<_> = self.answers().into_iter().filter(|one| one.job_id == job_id).collect();
                if of_job.len() >= count {
                    return of_job;
                }
                answered.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("not {count} answers for {job_id}: {:#?}", self.answers()))
    }
}

impl Shared {
    /// Returns the fault of a token. Fetches the JWKS within the request, as real agents do.
    async fn verify(&self, token: &str) -> Result<(), String> {
        let request = client()
            .get(&self.jwks_url)
            .header("user-agent", "HermesAgent/1.0")
            .header("accept", "application/json");
        let response = request.send().await.map_err(|error| error.to_string())?;
        let jwks: Value = response.json().await.map_err(|error| error.to_string())?;
        let (header, claims) = try_verify(token, &jwks)?;
        let expected = [
            ("kid", header["kid"].is_string()),
            ("iss", claims["iss"] == self.issuer),
            ("aud", claims["aud"] == self.audience),
            ("purpose", claims["purpose"] == "cron_fire"),
            ("exp", claims["exp"].as_i64().is_some_and(|exp| now().timestamp() < exp + LEEWAY)),
        ];
        let faults: Vec<_> =
            expected.iter().filter(|(_, is_right)| !is_right).map(|(name, _)| *name).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join(", ")) }
    }
}

impl Agent {
    /// Answers an authentic fire: HTTP status, `status`, and `Retry-After`.
    fn answer(&mut self, job_id: &str, fire_at: &str) -> (u16, &'static str, Option<&'static str>) {
        match self.condition {
            Condition::Running => {}
            Condition::Stopped => return (200, "gateway_stopped", None),
            Condition::Draining => return (503, "draining", Some("5")),
            Condition::Unreachable { .. } => return (503, "gateway_unreachable", Some("60")),
            Condition::Paused => return (503, "paused", Some("60")),
            Condition::Unwritable => return (503, "claim_not_stored", Some("5")),
        }
        let Some(job) = self.jobs.get_mut(job_id) else { return (200, "gone", None) };
        let is_claimed = job.claim_age.is_some_and(|age| age < CLAIM_LIFETIME);
        if is_claimed || job.is_paused || job.completed.contains(fire_at) {
            return (200, "duplicate", None);
        }
        if job.is_long {
            job.claim_age = Some(Duration::ZERO);
        } else {
            job.completed.insert(fire_at.to_owned());
        }
        (202, "accepted", None)
    }
}

async fn fire(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let (boot, condition) = {
        let mut agent = shared.agent.lock();
        (std::mem::take(&mut agent.boot), agent.condition)
    };
    tokio::time::sleep(boot).await;
    if let Condition::Unreachable { after } = condition {
        tokio::time::sleep(after).await;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let verified = shared.verify(bearer.trim_start_matches("Bearer ")).await;
    let (answer, retry_after, is_lost) = {
        let mut agent = shared.agent.lock();
        let job_id = body["job_id"].as_str().unwrap_or_default().to_owned();
        let (http_status, status, retry_after) = match verified {
            Err(_) => (401, "invalid_token", None),
            Ok(()) if job_id.is_empty() => (400, "no_job_id", None),
            Ok(()) => agent.answer(&job_id, body["fire_at"].as_str().unwrap_or_default()),
        };
        let answer = Answer { job_id, http_status, status };
        agent.answers.push(answer.clone());
        (answer, retry_after, std::mem::take(&mut agent.loses_response))
    };
    shared.answered.notify_waiters();
    if is_lost {
        // Ends the connection's task, without the noise of a panic.
        std::panic::resume_unwind(Box::new("the connection breaks"));
    }
    let code = StatusCode::from_u16(answer.http_status).unwrap();
    let mut response = (code, axum::Json(json!({ "status": answer.status }))).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.parse().unwrap());
    }
    response
}
