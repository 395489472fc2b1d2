//! The kinds of abuse. Each runs on a thread of its own, so that it does not delay the measures.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::healthy::Healthy;
use super::{HOSTILE, ORG, Stage};
use crate::portal::{PORTAL_URL, all_claims};
use crate::service::{ADMIN_TOKEN, client};
use crate::time::{PATIENCE, fire_at};

/// Bytes of a header bomb and of a body bomb.
const BOMB: usize = 1 << 20;
/// Jobs of an agent that provisions in a loop.
const LOOPED: usize = 100;
/// Redriven one-shots of the agent that fire per second.
const REDRIVEN_PER_SECOND: u32 = 500;

/// A kind of abuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Tokens with invented key ids.
    UnknownKeys,
    /// Connections that send nothing, or a byte a second.
    SlowConnections,
    /// Requests with a megabyte of headers, or of a body without end.
    Bombs,
    /// An agent that provisions in a loop.
    Loop,
    /// An agent that arms one-shots in the past, all at once.
    PastOneShots,
    /// A redrive of all of an agent's dead letters.
    Redrives,
}

/// The extent of the abuse.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Slow connections.
    pub connections: usize,
    /// Concurrent callers of the other kinds.
    pub callers: usize,
    /// One-shots in the past.
    pub past: usize,
    /// Dead letters.
    pub redrives: usize,
}

/// Answers by status, or by the reason why there was none.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<BTreeMap<String, usize>>>);

impl Answers {
    fn note(&self, answer: &str) {
        *self.0.lock().entry(answer.to_string()).or_default() += 1;
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (answer, count) in self.0.lock().iter() {
            let _ = write!(text, "{}{answer}: {count}", if text.is_empty() { "" } else { ", " });
        }
        text
    }
}

impl Abuse {
    /// All kinds, in their order.
    pub const ALL: [Self; 6] = [
        Self::UnknownKeys,
        Self::SlowConnections,
        Self::Bombs,
        Self::Loop,
        Self::PastOneShots,
        Self::Redrives,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownKeys => "unknown keys",
            Self::SlowConnections => "slow connections",
            Self::Bombs => "header and body bombs",
            Self::Loop => "provisions in a loop",
            Self::PastOneShots => "one-shots in the past",
            Self::Redrives => "redrives",
        }
    }

    /// True if it ends by itself.
    pub(super) const fn ends(self) -> bool {
        matches!(self, Self::PastOneShots | Self::Redrives)
    }

    /// Makes what it needs.
    pub(super) async fn prepare(self, stage: &Stage, healthy: &Healthy, scale: Scale) {
        if self != Self::Redrives {
            return;
        }
        sqlx::query(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    dead_since, attempts, last_outcome, last_status)
             SELECT $1, 'dead-' || n, gen_random_uuid(), 'k', '2026-01-01T00:00:00Z', '2026-01-01',
                    $3, 'dead', now(), 8, 'failed', 503
             FROM generate_series(1, $2::int8) AS n",
        )
        .bind(HOSTILE)
        .bind(i64::try_from(scale.redrives).expect("few"))
        .bind(healthy.callback(HOSTILE))
        .execute(&stage.pool)
        .await
        .expect("dead letters");
    }

    /// Begins it, until `over` or its own end. Returns the service's answers.
    pub(super) fn start(
        self,
        stage: &Stage,
        healthy: &Healthy,
        scale: Scale,
        over: CancellationToken,
    ) -> JoinHandle<String> {
        let caller = Caller {
            http: client(),
            url: stage.service.url.clone(),
            admin_url: stage.service.admin_url.clone(),
            token: stage.portal.client_token(ORG, HOSTILE),
            callback: healthy.callback(HOSTILE),
            answers: Answers::default(),
            over: over.clone(),
        };
        let fires = healthy.hostile_fires();
        tokio::task::spawn_blocking(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let answers = caller.answers.clone();
            runtime.block_on(over.run_until_cancelled(async move {
                match self {
                    Self::UnknownKeys => caller.everywhere(scale.callers, Caller::unknown_key).await,
                    Self::SlowConnections => {
                        caller.everywhere(scale.connections, Caller::slow_connection).await;
                    }
                    Self::Bombs => caller.everywhere(scale.callers, Caller::bomb).await,
                    Self::Loop => caller.everywhere(scale.callers, Caller::looped).await,
                    Self::PastOneShots => caller.past(scale, fires).await,
                    Self::Redrives => caller.redrive().await,
                }
            }));
            answers.text()
        })
    }
}

/// A caller that abuses the service.
#[derive(Clone)]
struct Caller {
    http: reqwest::Client,
    url: String,
    admin_url: String,
    token: String,
    callback: String,
    answers: Answers,
    over: CancellationToken,
}

impl Caller {
    /// Repeats a call from many tasks, until it is over.
    async fn everywhere<F>(self, tasks: usize, call: fn(Self, usize) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = JoinSet::new();
        for number in 0..tasks {
            let caller = self.clone();
            running.spawn(async move {
                let mut turn = number;
                while !caller.over.is_cancelled() {
                    call(caller.clone(), turn).await;
                    turn += tasks;
                }
            });
        }
        running.join_all().await;
    }

    async fn provision(&self, token: &str, job: &str, at: &str) -> Option<u16> {
        let body =
            json!({"job_id": job, "fire_at": at, "agent_callback_url": self.callback, "dedup_key": at});
        let url = format!("{}/api/agent-cron/provision", self.url);
        let response = self.http.post(url).bearer_auth(token).json(&body).send().await.ok()?;
        Some(response.status().as_u16())
    }

    fn answered(&self, status: Option<u16>) {
        self.answers.note(&status.map_or_else(|| "no answer".to_owned(), |status| status.to_string()));
    }

    async fn unknown_key(self, turn: usize) {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encode(&json!({"alg": "ES256", "typ": "JWT", "kid": format!("invented-{turn}")}));
        let claims =
            encode(&all_claims(&json!({"iss": PORTAL_URL, "client_id": "agent:healthy-0", "org_id": ORG})));
        let token = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
        let status = self.provision(&token, "job", &fire_at(60_000)).await;
        self.answered(status);
    }

    async fn looped(self, turn: usize) {
        let status =
            self.provision(&self.token, &format!("looped-{}", turn % LOOPED), &fire_at(3_600_000)).await;
        self.answered(status);
    }

    fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().expect("an address")
    }

    async fn slow_connection(self, turn: usize) {
        // They open one after the other, some thousand a second.
        sleep(Duration::from_micros(turn as u64 % 10_000 * 200)).await;
        let Ok(mut stream) = TcpStream::connect(self.address()).await else {
            self.answers.note("not connected");
            return sleep(Duration::from_secs(1)).await;
        };
        self.answers.note("connected");
        if turn.is_multiple_of(2) {
            let _ = stream.read(&mut [0]).await;
        } else {
            let _ = stream.write_all(b"POST /api/agent-cron/provision HTTP/1.1\r\nX-Slow: ").await;
            while stream.write_all(b"a").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        }
        self.answers.note("closed");
    }

    async fn bomb(self, turn: usize) {
        let Ok(mut stream) = TcpStream::connect(self.address()).await else {
            return self.answers.note("not connected");
        };
        let start = format!(
            "POST /api/agent-cron/provision HTTP/1.1\r\nHost: nas\r\nAuthorization: Bearer {}\r\n",
            self.token
        );
        let (head, filling) = match turn % 3 {
            0 => {
                (start, "X-Bomb: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
            }
            1 => (format!("{start}Content-Length: {}\r\n\r\n", BOMB * 1_024), "aaaaaaaaaaaaaaaa"),
            _ => (format!("{start}Transfer-Encoding: chunked\r\n\r\n"), "a\r\naaaaaaaaaa\r\n"),
        };
        let filling = filling.repeat(4_096 / filling.len());
        let sending = async {
            stream.write_all(head.as_bytes()).await?;
            for _ in 0..BOMB / filling.len() {
                stream.write_all(filling.as_bytes()).await?;
            }
            std::io::Result::Ok(())
        };
        // The service answers before it has read everything, and closes.
        let _ = timeout(Duration::from_secs(10), sending).await;
        let mut response = [0; 12];
        let read = timeout(Duration::from_secs(10), stream.read_exact(&mut response)).await;
        match read {
            Ok(Ok(_)) => self.answers.note(&String::from_utf8_lossy(&response[9..12])),
            Ok(Err(_)) => self.answers.note("closed"),
            Err(_) => self.answers.note("no answer"),
        }
    }

    /// Arms one-shots in the past, and waits for their fires.
    async fn past(self, scale: Scale, fires: impl Fn() -> usize) {
        let (before, armed) = (fires(), Arc::new(AtomicUsize::new(0)));
        let (at, next) = (fire_at(-3_600_000), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        for _ in 0..scale.callers {
            let (caller, at, next, armed) = (self.clone(), at.clone(), Arc::clone(&next), Arc::clone(&armed));
            running.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= scale.past {
                        return;
                    }
                    let status = caller.provision(&caller.token, &format!("past-{number}"), &at).await;
                    armed.fetch_add(usize::from(status == Some(200)), Ordering::Relaxed);
                    caller.answered(status);
                }
            });
        }
        running.join_all().await;
        let firing = async {
            while fires() - before < armed.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let all = timeout(PATIENCE, firing).await.is_ok();
        self.answers.note(if all { "all fired" } else { "not all fired" });
    }

    /// Redrives all dead letters.
    async fn redrive(self) {
        let mut after: Option<String> = None;
        loop {
            let mut url = format!(
                "{}/api/admin/jobs/redrive?instance_id={HOSTILE}&per_second={REDRIVEN_PER_SECOND}",
                self.admin_url
            );
            if let Some(after) = &after {
                let _ = write!(url, "&after={after}");
            }
            let response = self.http.post(url).bearer_auth(ADMIN_TOKEN).send().await;
            let Ok(response) = response else { return self.answers.note("no answer") };
            self.answers.note(response.status().as_str());
            let report: Value = response.json().await.unwrap_or_default();
            match report["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => return,
            }
        }
    }
}
