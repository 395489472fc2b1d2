//! The example agents of `docs/write-your-own-agent.md`, against the real service. `make own-agent` installs their
//! libraries.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron::domain::sealed::{Sealed, SecretKind};
use nas_cron_testing::database::database;
use nas_cron_testing::in_target;
use nas_cron_testing::portal::{Portal, unsigned};
use nas_cron_testing::ports::free_address;
use nas_cron_testing::service::{KEY_ENCRYPTION_KEY, Service, Settings, client, key_encryption_keys};
use nas_cron_testing::time::{instant, now};
use nas_cron_testing::world::eventually;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

const INSTANCE: &str = "inst-1";
const JOB: &str = "report";
/// Longer than any test: the service fires nothing meanwhile.
const FAR_AHEAD: Duration = Duration::from_hours(1);

/// Returns a file of the repository.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns an installed program.
fn program(path: &str) -> PathBuf {
    let program = in_target(path).canonicalize();
    program.unwrap_or_else(|_| panic!("{path} is not installed: run `make own-agent` (`make test` does)"))
}

/// A command that runs an example agent from a folder of its own.
fn python(folder: &Path) -> Command {
    fs::copy(source("examples/agents/agent.py"), folder.join("agent.py")).unwrap();
    // Not the canonical path: the interpreter finds the environment by the link.
    program("own-agent-venv/bin/python");
    let mut command = Command::new(in_target("own-agent-venv/bin/python"));
    command.arg("agent.py");
    command
}

/// The same in TypeScript.
fn typescript(folder: &Path) -> Command {
    fs::copy(source("examples/agents/agent.ts"), folder.join("agent.ts")).unwrap();
    let modules = folder.join("node_modules");
    if !modules.exists() {
        std::os::unix::fs::symlink(program("own-agent-node/node_modules"), modules).unwrap();
    }
    let mut command = Command::new("node");
    // Node 18, which Debian 12 has, needs the flag for jose 6; later versions ignore it.
    command.env("NODE_OPTIONS", "--experimental-global-webcrypto").args(["--import", "tsx", "agent.ts"]);
    command
}

/// A folder with an agent's state. The agent and the folder are removed on drop.
struct Agent {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Agent {
    fn new(access_token: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("nas-cron-own-agent-{:08x}", rand::random::<u32>()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("access-token"), access_token).unwrap();
        Self { folder, port: free_address().port(), process: None }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn start(&mut self, language: fn(&Path) -> Command, portal_url: &str, period: Duration) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let process = language(&self.folder)
            .current_dir(&self.folder)
            .envs([("PORTAL_URL", portal_url), ("AGENT_ID", INSTANCE), ("CALLBACK_URL", &self.url())])
            .envs([("ACCESS_TOKEN_FILE", "access-token"), ("PORT", &self.port.to_string())])
            .env("PERIOD", period.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("it starts"));
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn runs(&self) -> usize {
        self.log().matches("running report").count()
    }

    /// Presents a fire token, and returns status and body.
    async fn present(&self, token: &str) -> (u16, String) {
        let request = client().post(format!("{}/api/cron/fire", self.url())).bearer_auth(token);
        let response = request.json(&json!({"job_id": JOB, "fire_at": "ignored"})).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the agent's log ---\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The service's signing key, taken from its database.
struct SigningKey {
    kid: String,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    async fn reveal(database_url: &str) -> Self {
        let pool = PgPool::connect(database_url).await.unwrap();
        let (kid, nonce, ciphertext): (String, Vec<u8>, Vec<u8>) =
            sqlx::query_as("SELECT kid, private_nonce, private_key FROM signing_keys WHERE state = 'active'")
                .fetch_one(&pool)
                .await
                .unwrap();
        let kek = key_encryption_keys(KEY_ENCRYPTION_KEY);
        let pkcs8 = kek.open(SecretKind::SigningKey, &kid, &Sealed { nonce, ciphertext }).unwrap();
        let (alg, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pair = EcdsaKeyPair::from_pkcs8(alg, pkcs8.expose_secret(), &random).unwrap();
        Self { kid, pair }
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "JWT", "kid": self.kid})
    }

    fn sign(&self, claims: &Value) -> String {
        let message = unsigned(&self.header(), claims);
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// The claims of a fire token as the service mints it, with `changes` on top. `null` removes a claim.
fn claims(portal_url: &str, job_id: &str, fire_at: &str, changes: &Value) -> Value {
    let now = now().timestamp();
    let mut claims = json!({
        "iss": portal_url, "aud": format!("agent:{INSTANCE}"), "purpose": "cron_fire", "iat": now, "nbf": now,
        "exp": now + 90, "jti": uuid::Uuid::new_v4(), "job_id": job_id, "fire_at": fire_at,
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Waits until the agent's job is armed far ahead, and returns its `fire_at`.
async fn armed_far_ahead(service: &Service, token: &str) -> String {
    eventually("the job is armed far ahead", async || {
        let list = service.list(token).await;
        let fire_at = list["armed"][0]["fire_at"].as_str()?.to_owned();
        (instant(&fire_at) > now() + FAR_AHEAD / 2).then_some(fire_at)
    })
    .await
}

async fn agent_arms_verifies_claims_and_rearms(language: fn(&Path) -> Command) {
    let (_, database_url) = database().await;
    let portal = Portal::start().await;
    let listen = free_address().to_string();
    // The agent API is on the portal's host: `PORTAL_URL` is both the issuer and the base URL.
    let portal_url = format!("http://{listen}");
    let settings = Settings::new(&database_url, &portal)
        .with("NAS_CRON_PORTAL_URL", &portal_url)
        .with("NAS_CRON_LISTEN", &listen);
    let service = Service::start(&settings).await;
    service.register(INSTANCE, "org-1", None).await;
    let access_token =
        portal.sign(json!({"iss": portal_url, "client_id": format!("agent:{INSTANCE}"), "org_id": "org-1"}));
    let mut agent = Agent::new(&access_token);

    // Each run after the first shows that the job was re-armed.
    agent.start(language, &portal_url, Duration::from_secs(1));
    eventually("the job runs three times", async || (agent.runs() >= 3).then_some(())).await;
    agent.kill();
    // Whatever the agent was doing: after a restart the chain of fires goes on.
    agent.start(language, &portal_url, FAR_AHEAD);
    // An attempt that was under way when the agent armed the job anew may still run it.
    let (fire_at, before) = eventually("the agent is idle", async || {
        let seen = async || (armed_far_ahead(&service, &access_token).await, agent.runs());
        let first = seen().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        (seen().await == first).then_some(first)
    })
    .await;

    let key = SigningKey::reveal(&database_url).await;
    let of = |changes: &Value| claims(&portal_url, JOB, &fire_at, changes);
    let signed = |changes: &Value| key.sign(&of(changes));
    let now = now().timestamp();
    let rejected = [
        ("forged", Portal::start().await.sign_as_is(&key.header(), &of(&json!({})))),
        ("of an unknown key", portal.sign_as_is(&portal.header(), &of(&json!({})))),
        ("unsigned", format!("{}.", unsigned(&json!({"alg": "none", "kid": key.kid}), &of(&json!({}))))),
        ("of a symmetric key", {
            let message = unsigned(&json!({"alg": "HS256", "kid": key.kid}), &of(&json!({})));
            let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.kid.as_bytes());
            let tag = ring::hmac::sign(&secret, message.as_bytes());
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
        }),
        ("for another agent", signed(&json!({"aud": "agent:inst-2"}))),
        ("of another issuer", signed(&json!({"iss": format!("{portal_url}/")}))),
        ("expired", signed(&json!({"iat": now - 150, "nbf": now - 150, "exp": now - 60}))),
        ("not valid yet", signed(&json!({"iat": now + 60, "nbf": now + 60, "exp": now + 150}))),
        ("without purpose", signed(&json!({"purpose": null}))),
        ("for another purpose", signed(&json!({"purpose": "cron_fire_2"}))),
        ("without exp", signed(&json!({"exp": null}))),
        ("without jti", signed(&json!({"jti": null}))),
        ("an access token", access_token.clone()),
        ("no JWT", "token".to_owned()),
    ];
    for (what, token) in &rejected {
        assert_eq!(agent.present(token).await.0, 401, "{what}");
    }
    assert_eq!(agent.runs(), before, "a rejected token ran the job");
    let unknown_job = key.sign(&claims(&portal_url, "unknown", &fire_at, &json!({})));
    let (status, body) = agent.present(&unknown_job).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["status"]), (200, &json!("gone")));

    // The clocks may differ by 30 s.
    let genuine = signed(&json!({"iat": now - 100, "nbf": now - 100, "exp": now - 10}));
    let repeats = futures::future::join_all((0..8).map(|_| agent.present(&genuine))).await;
    assert!(repeats.iter().all(|(status, _)| *status == 202), "{repeats:?}");
    let next = eventually("the job is armed again", async || {
        let next = armed_far_ahead(&service, &access_token).await;
        (next != fire_at).then_some(next)
    })
    .await;
    assert_eq!(agent.present(&signed(&json!({}))).await.0, 202, "a late repeat");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(agent.runs(), before + 1, "a repeated fire ran the job again");
    assert_eq!(armed_far_ahead(&service, &access_token).await, next);
}

#[tokio::test]
async fn python_agent_arms_verifies_claims_and_rearms() {
    agent_arms_verifies_claims_and_rearms(python).await;
}

#[tokio::test]
async fn typescript_agent_arms_verifies_claims_and_rearms() {
    agent_arms_verifies_claims_and_rearms(typescript).await;
}

#[tokio::test]
async fn typescript_agent_passes_the_type_checker() {
    let agent = Agent::new("");
    typescript(&agent.folder);
    let output = Command::new("node")
        .current_dir(&agent.folder)
        .arg("node_modules/typescript/bin/tsc")
        .args([
            "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--types", "node",
            "agent.ts",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn documented_agents_are_the_tested_ones_and_short() {
    let page = fs::read_to_string(source("docs/write-your-own-agent.md")).unwrap();
    for (language, path, most) in
        [("python", "examples/agents/agent.py", 40), ("typescript", "examples/agents/agent.ts", 60)]
    {
        let agent = fs::read_to_string(source(path)).unwrap();
        assert!(page.contains(&format!("```{language}\n{agent}```\n")), "the page shows another {path}");
        let is_code =
            |line: &&str| !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with("//");
        let lines = agent.lines().filter(is_code).count();
        assert!(lines <= most, "{path} has {lines} lines of code");
    }
}
