//! The sink that receives the fires of the bench: a lean HTTP server, because it shares the machine with the service.
//!
//! One listener serves all agents; `/a/<n>` is the callback of agent `n`. The wall clock is read as soon as a request's
//! head has arrived. Only every hundredth token is verified.

use std::borrow::Cow;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nas_cron_base::clock::Clock;
use nas_cron_protocol::AuthChoice;
use nas_cron_protocol::fire::FireBody;
use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::stage::Stage;

/// Backlog of the listener. A burst opens hundreds of connections at once, and a full backlog would delay them by a SYN
/// retry.
const BACKLOG: u32 = 4096;
const MAX_BODY: usize = 16 * 1024;
/// One of this many fires is verified.
const SAMPLE_EVERY: usize = 100;
/// Maximum samples that wait for verification; further ones are dropped.
const SAMPLES_WAITING: usize = 1024;

/// A fire that was sampled for verification.
#[derive(Debug)]
pub(super) struct Sample {
    /// Index of the agent whose callback was called.
    pub(super) agent: usize,
    /// The bearer token, if any.
    pub(super) token: Option<String>,
    /// From the body.
    pub(super) job_id: String,
    /// From the body.
    pub(super) fire_at: String,
    /// From the body. The measured service may have default auth profiles.
    pub(super) auth: Option<AuthChoice>,
    /// The provisioned `fire_at`.
    pub(super) expected_fire_at: String,
}

/// The running server; dropping it closes the listener.
#[derive(Debug)]
pub(super) struct Sink {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    /// Oldest first.
    stages: RwLock<Vec<Arc<Stage>>>,
    slow: OnceLock<Slow>,
    count: AtomicUsize,
    samples: mpsc::Sender<Sample>,
    strays: AtomicUsize,
}

/// The slow agents: they hold a fire for a while, and then close its connection without a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slow {
    /// Index of the first one. All agents behind it are slow, too.
    pub(super) from: usize,
    /// Time until the connection is closed.
    pub(super) hang: Duration,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sink {
    /// Listens on a free port of 127.0.0.1. Also returns the receiver of samples.
    pub(super) fn start(clock: Arc<dyn Clock>) -> io::Result<(Self, mpsc::Receiver<Sample>)> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let (samples, received) = mpsc::channel(SAMPLES_WAITING);
        let shared = Arc::new(Shared {
            clock,
            stages: RwLock::default(),
            slow: OnceLock::new(),
            count: AtomicUsize::new(0),
            samples,
            strays: AtomicUsize::new(0),
        });
        let server = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok((Self { shared, address, server }, received))
    }

    /// Returns the base URL of all agents.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the callback URL of an agent.
    pub(super) fn callback_url(&self, agent: usize) -> String {
        format!("{}/a/{agent}", self.base_url())
    }

    /// Accepts fires of this stage from now on.
    pub(super) fn expect(&self, stage: Arc<Stage>) {
        self.shared.stages.write().push(stage);
    }

    /// Makes agents slow. Later calls have no effect.
    pub(super) fn slow_down(&self, slow: Slow) {
        let _ = self.shared.slow.set(slow);
    }

    /// Returns all stages of the run.
    pub(super) fn stages(&self) -> Vec<Arc<Stage>> {
        self.shared.stages.read().clone()
    }

    /// Returns the number of requests that were sent to the wrong agent's endpoint or were not fires.
    pub(super) fn strays(&self) -> usize {
        self.shared.strays.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // The connection is gone, or no descriptor is left: the service retries.
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let mut connection = http1::Builder::new();
                    connection.header_read_timeout(None);
                    // Errors of a connection are the service's to handle.
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let arrived = shared.clock.now();
    let (head, body) = request.into_parts();
    let status = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => shared.take(&head, &body.to_bytes(), arrived),
        Err(_) => StatusCode::BAD_REQUEST,
    };
    if let Some(slow) = shared.slow.get()
        && agent_of(head.uri.path()).is_some_and(|agent| agent >= slow.from)
    {
        tokio::time::sleep(slow.hang).await;
        return Err(io::Error::other("a slow agent does not respond"));
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}

impl Shared {
    fn take(
        &self,
        head: &hyper::http::request::Parts,
        body: &[u8],
        arrived: chrono::DateTime<chrono::Utc>,
    ) -> StatusCode {
        let agent = agent_of(head.uri.path());
        let fire = nas_cron_protocol::json::from_slice::<FireBody<'_>>(body).ok();
        let found = agent.zip(fire).and_then(|(agent, fire)| {
            let (stage, index) = self.find(&fire)?;
            (stage.agent(index) == agent).then_some((agent, fire, stage, index))
        });
        let Some((agent, fire, stage, index)) = found else {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return StatusCode::NOT_FOUND;
        };
        stage.arrived(index, arrived);
        if self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE_EVERY) {
            let bearer = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
            let sample = Sample {
                agent,
                token,
                job_id: fire.job_id.into_owned(),
                fire_at: fire.fire_at.into_owned(),
                auth: fire.auth.map(Cow::into_owned),
                expected_fire_at: stage.fire_at(index),
            };
            // Verification is slower than the sink: samples beyond the limit are dropped.
            let _ = self.samples.try_send(sample);
        }
        StatusCode::ACCEPTED
    }
}

impl Shared {
    /// Returns the latest stage of the job, or the one before if that has this `fire_at`.
    fn find(&self, fire: &FireBody<'_>) -> Option<(Arc<Stage>, usize)> {
        let stages = self.stages.read();
        let mut of_job = stages.iter().rev().filter_map(|stage| Some((stage, stage.index(&fire.job_id)?)));
        let (mut stage, index) = of_job.next()?;
        if let Some((before, _)) = of_job.next()
            && before.fire_at(index) == fire.fire_at
        {
            stage = before;
        }
        Some((Arc::clone(stage), index))
    }
}

/// `/a/<n>/api/cron/fire`
fn agent_of(path: &str) -> Option<usize> {
    path.strip_prefix("/a/")?.strip_suffix("/api/cron/fire")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use nas_cron_base::clock::ManualClock;
    use nas_cron_base::http_client;
    use serde_json::json;

    use super::super::stage::spread;
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[tokio::test]
    async fn fires_are_counted_by_job_and_endpoint() {
        let clock = ManualClock::at(now());
        let (sink, mut samples) = Sink::start(Arc::new(clock)).unwrap();
        let stage = Arc::new(Stage::new("r1s".into(), 2, spread(now(), 3, Duration::ZERO)));
        sink.expect(Arc::clone(&stage));
        let base = sink.callback_url(0).parse().unwrap();
        let http = http_client::builder(&base).build().unwrap();
        let fire = async |agent: usize, body: serde_json::Value| {
            let url = format!("{}/api/cron/fire", sink.callback_url(agent));
            http.post(url).bearer_auth("t").json(&body).send().await.unwrap().status().as_u16()
        };
        assert_eq!(fire(0, json!({"job_id": "r1s0", "fire_at": "x", "auth": "claude:work"})).await, 202);
        assert_eq!(fire(1, json!({"job_id": "r1s1", "fire_at": "y"})).await, 202);
        assert_eq!(fire(1, json!({"job_id": "r1s1", "fire_at": "y"})).await, 202);
        assert_eq!(fire(1, json!({"job_id": "r1s0", "fire_at": "x"})).await, 404, "another agent's endpoint");
        assert_eq!(fire(0, json!({"job_id": "r2s0", "fire_at": "x"})).await, 404, "another run's job");
        assert_eq!(fire(0, json!({})).await, 404);
        assert_eq!(sink.strays(), 3);
        let outcome = stage.outcome();
        assert_eq!((outcome.arrived, outcome.early, outcome.duplicates), (2, 0, 1));
        let sample = samples.try_recv().unwrap();
        assert_eq!((sample.agent, sample.token.as_deref(), sample.job_id.as_str()), (0, Some("t"), "r1s0"));
        assert_eq!(
            (sample.fire_at.as_str(), sample.expected_fire_at.as_str()),
            ("x", "2027-01-15T08:00:00+00:00")
        );
        assert_eq!(json!(sample.auth), json!("claude:work"));
        assert!(samples.try_recv().is_err(), "one of a hundred");
    }

    #[tokio::test]
    async fn slow_agent_takes_a_fire_and_does_not_respond() {
        let (sink, _samples) = Sink::start(Arc::new(ManualClock::at(now()))).unwrap();
        sink.slow_down(Slow { from: 1, hang: Duration::from_millis(20) });
        let stage = Arc::new(Stage::new("r1s".into(), 2, vec![now(); 2]).with_slow(1));
        sink.expect(Arc::clone(&stage));
        let http = http_client::builder(&sink.callback_url(0).parse().unwrap()).build().unwrap();
        let fire = async |agent: usize| {
            let url = format!("{}/api/cron/fire", sink.callback_url(agent));
            let body = json!({"job_id": stage.job_id(agent), "fire_at": stage.fire_at(agent)});
            http.post(url).json(&body).send().await.map(|response| response.status().as_u16()).ok()
        };
        assert_eq!((fire(0).await, fire(1).await), (Some(202), None));
        assert_eq!((stage.left(), stage.pending(), sink.strays()), (0, vec![1], 0));
    }

    #[tokio::test]
    async fn fires_of_a_job_that_is_armed_again_are_counted_by_their_fire_at() {
        let (sink, _samples) = Sink::start(Arc::new(ManualClock::at(now()))).unwrap();
        let first = Arc::new(Stage::new("r1s".into(), 1, vec![now()]));
        let again = Arc::new(first.again(vec![now() + chrono::TimeDelta::days(1)]));
        sink.expect(Arc::clone(&first));
        sink.expect(Arc::clone(&again));
        let http = http_client::builder(&sink.callback_url(0).parse().unwrap()).build().unwrap();
        for fire_at in [first.fire_at(0), first.fire_at(0), again.fire_at(0)] {
            let body = json!({"job_id": "r1s0", "fire_at": fire_at});
            http.post(format!("{}/api/cron/fire", sink.callback_url(0))).json(&body).send().await.unwrap();
        }
        assert_eq!((first.outcome().duplicates, again.outcome().arrived), (1, 1));
    }

    #[test]
    fn endpoints_have_numbers() {
        assert_eq!(agent_of("/a/17/api/cron/fire"), Some(17));
        for path in ["/a/17/api/cron/fire/", "/api/cron/fire", "/a/x/api/cron/fire", "/a/17"] {
            assert_eq!(agent_of(path), None, "{path}");
        }
    }
}
