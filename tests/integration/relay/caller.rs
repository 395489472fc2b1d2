//! A service with QStash as its backend, and a caller of its relay that signs as a test needs.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::qstash_emulator::faults::DeliveryFault;
use nas_cron_testing::qstash_emulator::{self, Emulator};
use nas_cron_testing::service::{Settings, client};
use nas_cron_testing::time::now;
use nas_cron_testing::world::World;
use reqwest::header::HeaderMap;
use ring::{digest, hmac};
use serde_json::{Value, json};

/// The relay URL in the settings. Nothing listens there: the tests send their requests to the service itself.
pub const RELAY_URL: &str = "https://cron.example.test/api/agent-cron/relay";
/// Time ahead in milliseconds that no test reaches.
pub const FAR: i64 = 3_600_000;
/// Timeout of waits, generous for slow machines.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A caller of the relay, with the service and the emulator.
pub struct Caller {
    pub world: World,
    pub emulator: Emulator,
}

/// A response of the relay.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub took: Duration,
}

impl Answer {
    /// Returns `Retry-After` in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        self.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().expect("whole seconds"))
    }

    /// Returns the HTTP status, and the result of the wake-up.
    pub fn said(&self) -> (u16, &str) {
        (self.status, self.body["status"].as_str().unwrap_or_default())
    }
}

/// Adds the settings for an account of the emulator.
pub fn with_qstash(settings: Settings, emulator: &Emulator) -> Settings {
    let account = emulator.settings();
    settings
        .with("NAS_CRON_BACKEND", "qstash")
        .with("NAS_CRON_RELAY_URL", RELAY_URL)
        .with("NAS_CRON_QSTASH_URL", emulator.url())
        .with("NAS_CRON_QSTASH_TOKEN", &account.token)
        .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", &account.current_key)
        .with("NAS_CRON_QSTASH_NEXT_SIGNING_KEY", &account.next_key)
        // Only the caller sends wake-ups.
        .with("NAS_CRON_WATCHDOG_GRACE", "1h")
}

/// Starts an emulator that accepts everything and delivers nothing.
pub async fn silent_emulator() -> Emulator {
    let emulator = Emulator::start(qstash_emulator::Settings {
        token: "token-of-the-tests-secret".to_owned(),
        current_key: "sig_current_of_the_tests_secret".to_owned(),
        next_key: "sig_next_of_the_tests_secret".to_owned(),
        ..qstash_emulator::Settings::default()
    })
    .await
    .unwrap();
    emulator.misdeliver(DeliveryFault::Never);
    emulator
}

impl Caller {
    pub async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    pub async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let emulator = silent_emulator().await;
        let world = World::with(|settings| change(with_qstash(settings, &emulator))).await;
        Self { world, emulator }
    }

    /// Starts a service that reaches the database through a proxy that can be cut. Needs a multi-threaded runtime.
    pub async fn behind_a_proxy() -> (Self, Proxy) {
        let mut proxy = None;
        let caller = Self::with(|settings| {
            let mut url: url::Url = settings.get("NAS_CRON_DATABASE_URL").parse().unwrap();
            let to = url.socket_addrs(|| None).unwrap()[0];
            let started =
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(Proxy::start(to)));
            url.set_port(Some(started.address().port())).unwrap();
            proxy = Some(started);
            settings.with("NAS_CRON_DATABASE_URL", url)
        })
        .await;
        (caller, proxy.unwrap())
    }

    /// Returns the body of a wake-up.
    pub fn body(job: &str, schedule_id: &str, fire_at: &str) -> Vec<u8> {
        json!({"instance_id": "inst-1", "job_id": job, "schedule_id": schedule_id, "fire_at": fire_at})
            .to_string()
            .into_bytes()
    }

    /// Arms a job that awaits the backend, and makes it due in `seconds`. Returns its wake-up.
    pub async fn due(&self, job: &str, seconds: f64) -> Vec<u8> {
        let (at, schedule_id) = self.world.arm(job, FAR).await;
        self.pull(job, seconds).await;
        Self::body(job, &schedule_id, &at)
    }

    /// Makes a job due in `seconds`.
    pub async fn pull(&self, job: &str, seconds: f64) {
        let done = sqlx::query(
            "UPDATE one_shots SET fire_at = now() + make_interval(secs => $2),
                                  next_attempt_at = now() + make_interval(secs => $2)
             WHERE job_id = $1 AND awaits = 'qstash'",
        )
        .bind(job)
        .bind(seconds)
        .execute(&self.world.pool)
        .await
        .unwrap();
        assert_eq!(done.rows_affected(), 1, "{job} awaits its backend");
    }

    /// Sends a wake-up with a valid signature.
    pub async fn wake(&self, body: &[u8]) -> Answer {
        self.post(body, &self.signed(body)).await
    }

    pub fn signed(&self, body: &[u8]) -> String {
        sign(&self.emulator.settings().current_key, &claims(body))
    }

    pub async fn post(&self, body: &[u8], signature: &str) -> Answer {
        self.send(body, &[("upstash-signature", signature)]).await
    }

    /// Sends this body with these headers, unchanged.
    pub async fn send(&self, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        let url = format!("{}/api/agent-cron/relay", self.world.service.url);
        let mut request = client().post(url).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let asked = Instant::now();
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
        Answer { status, headers, body, took: asked.elapsed() }
    }

    /// Returns a counter, summed over all series with these labels.
    pub async fn counted(&self, name: &str, labels: &[&str]) -> u64 {
        let page = self.world.service.metrics().await;
        let series = page.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
            series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
        });
        series.map(|(_, value)| value.parse::<u64>().expect("a number")).sum()
    }

    /// Returns the log lines of this level.
    pub fn lines(&self, level: &str) -> Vec<Value> {
        let log = self.world.service.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["level"] == level).collect()
    }

    /// Asserts that the log contains no token, key or signature.
    pub fn says_no_secret(&self) {
        let log = self.world.service.log();
        let account = self.emulator.settings();
        for secret in [&account.token, &account.current_key, &account.next_key, "of_the_tests_secret", "eyJ"]
        {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}

/// Returns the claims of a valid signature for this body.
pub fn claims(body: &[u8]) -> Value {
    let now = now().timestamp();
    json!({
        "iss": "Upstash", "sub": RELAY_URL, "iat": now, "nbf": now, "exp": now + 300, "jti": "jwt_1",
        "body": URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, body)),
    })
}

pub fn sign(key: &str, claims: &Value) -> String {
    sign_as(key, &json!({"alg": "HS256", "typ": "JWT"}), claims)
}

pub fn sign_as(key: &str, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}
