//! Refusals and reports of `nas-cron backend`, and `serve` with the stored active backend.

use std::process::Stdio;
use std::time::Duration;

use nas_cron_testing::agent::Agents;
use nas_cron_testing::database::database;
use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::time::fire_at;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

/// Timeout for a process to end by itself.
const PATIENCE: Duration = Duration::from_mins(1);

async fn settings() -> (Portal, Settings, String) {
    let (_, url) = database().await;
    let portal = Portal::start().await;
    let settings = Settings::new(&url, &portal).with("NAS_CRON_ENGINE_TIMEOUT", "2s");
    (portal, settings, url)
}

async fn sql(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
}

async fn active(url: &str) -> (String, i32) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_as("SELECT backend::text, generation FROM active_backend")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn fails(settings: &Settings, arguments: &[&str]) -> (Option<i32>, String) {
    let (status, out, error) = settings.run(arguments).await;
    assert!(!status.success(), "{out}");
    (status.code(), error)
}

async fn json_of(settings: &Settings, arguments: &[&str]) -> Value {
    let (status, out, error) = settings.run(&[arguments, &["--json"]].concat()).await;
    assert!(status.success(), "{out}{error}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn serve_refuses_an_active_backend_that_is_not_configured() {
    let (_portal, settings, url) = settings().await;
    sql(&url, "INSERT INTO active_backend (backend) VALUES ('nats')").await;
    let mut serve =
        settings.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while serve.try_wait().unwrap().is_none() {
        if tokio::time::Instant::now() > deadline {
            serve.kill().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = serve.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    let wanted = "the active scheduler backend is nats, but it is not configured here: configure it (see \
                  docs/backends.md), or activate another one with `nas-cron backend switch`";
    assert!(error.contains(wanted), "{error}");
}

#[tokio::test]
async fn the_backend_setting_counts_at_the_first_start_and_the_stored_row_afterwards() {
    let servers = NatsServers::one().await;
    let (portal, settings, url) = settings().await;
    let settings = settings.with("NAS_CRON_NATS_URLS", servers.urls().join(","));
    let agents = Agents::start().await;

    let (code, error) = fails(&settings, &["backend", "status"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("no backend is active yet"), "{error}");

    let service = Service::start(&settings.clone().with("NAS_CRON_BACKEND", "nats")).await;
    assert_eq!(active(&url).await, ("nats".to_owned(), 1));
    assert!(service.stop().await.success());

    let service = Service::start(&settings.clone().with("NAS_CRON_BACKEND", "postgres")).await;
    assert_eq!(active(&url).await, ("nats".to_owned(), 1));
    service.register("inst-1", "org-1", Some("sid-1")).await;
    let token = portal.session_token("org-1", "sid-1");
    service.provision(&token, "job", &fire_at(3_600_000), &agents.callback("inst-1")).await;
    let jobs = json_of(&settings, &["jobs", "list"]).await;
    assert_eq!(jobs["jobs"][0]["awaits"], "nats", "{jobs}");
    let (_, out, _) = settings.run(&["jobs", "list"]).await;
    assert!(out.contains("armed, awaits nats"), "{out}");

    // The wake-up is armed after the response; then the status shows it.
    let status = tokio::time::timeout(PATIENCE, async {
        loop {
            let status = json_of(&settings, &["backend", "status"]).await;
            if status["backends"][3]["armed"]["count"] == 1 {
                return status;
            }
        }
    });
    let status = status.await.expect("the wake-up is armed");
    assert_eq!((&status["active"], &status["unfinished"]), (&json!("nats"), &json!(false)), "{status}");
    let nats = &status["backends"][3];
    assert_eq!(
        (&nats["backend"], &nats["configured"], &nats["answers"]),
        (&json!("nats"), &json!(true), &json!(true))
    );
    assert_eq!(
        (&nats["one_shots"], &nats["wanted"], &nats["unwanted"]),
        (&json!({"count": 1}), &json!({"count": 0}), &json!({"count": 0}))
    );
    let qstash = &status["backends"][1];
    assert_eq!((&qstash["configured"], &qstash["answers"]), (&json!(false), &Value::Null), "{status}");
    let (done, out, _) = settings.run(&["backend", "status"]).await;
    assert!(done.success() && out.starts_with("Active backend: nats (activated "), "{out}");

    let moved = json_of(&settings, &["backend", "switch", "postgres"]).await;
    assert_eq!((&moved["moved"], &moved["finished"]), (&json!(1), &json!(true)), "{moved}");
    let again = json_of(&settings, &["backend", "switch", "postgres"]).await;
    assert_eq!((&again["switched"], &again["moved"]), (&json!(false), &json!(0)), "{again}");
    assert_eq!(active(&url).await, ("postgres".to_owned(), 2));
    assert!(service.stop().await.success());
}

#[tokio::test]
async fn a_switch_to_an_unusable_backend_is_refused() {
    let (_portal, settings, url) = settings().await;
    // No setting of the portal is needed.
    let settings = settings.without("NAS_CRON_PORTAL_URL").without("NAS_CRON_PORTAL_JWKS_URL");
    sql(&url, "INSERT INTO active_backend (backend) VALUES ('postgres')").await;
    let (code, error) = fails(&settings, &["backend", "switch", "redis"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("one of postgres, qstash, qstash_direct, nats"), "{error}");
    let (code, error) = fails(&settings, &["backend", "switch", "nats"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("nats is not configured here: set NAS_CRON_NATS_URLS"), "{error}");
    let (_, error) = fails(&settings, &["backend", "switch", "qstash"]).await;
    assert!(error.contains("NAS_CRON_QSTASH_TOKEN and NAS_CRON_QSTASH_CURRENT_SIGNING_KEY"), "{error}");

    let qstash = settings
        .clone()
        .with("NAS_CRON_QSTASH_TOKEN", "token")
        .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", "sig_current");
    let (code, error) = fails(&qstash, &["backend", "status"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("QStash needs a URL to call"), "{error}");
    let qstash = qstash.with("NAS_CRON_RELAY_URL", "https://cron.example/api/agent-cron/relay");
    let (_, error) = fails(&qstash, &["backend", "switch", "qstash_direct"]).await;
    assert!(error.contains("with all settings of the service"), "{error}");

    // The server is not running.
    let mut servers = NatsServers::prepare(nas_cron_testing::nats::Setup::OPEN);
    let nats = settings.with("NAS_CRON_NATS_URLS", servers.urls().join(","));
    let (code, error) = fails(&nats, &["backend", "switch", "nats"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("Nothing was changed") && error.contains("--force"), "{error}");
    assert_eq!(active(&url).await, ("postgres".to_owned(), 1));
    let status = json_of(&nats, &["backend", "status"]).await;
    assert_eq!(status["backends"][3]["answers"], false, "{status}");
    assert!(status["backends"][3]["error"].is_string(), "{status}");
    let forced = json_of(&nats, &["backend", "switch", "nats", "--force"]).await;
    assert_eq!((&forced["active"], &forced["finished"]), (&json!("nats"), &json!(true)), "{forced}");
    assert_eq!(active(&url).await, ("nats".to_owned(), 2));
    servers.restart(0).await;
    let (done, out, error) = nats.run(&["backend", "switch", "nats"]).await;
    assert!(done.success() && out.starts_with("nats was already active: 0 one-shots moved"), "{out}{error}");
}

#[tokio::test]
async fn an_interrupted_switch_reports_that_replicas_continue_and_the_next_command_finishes_it() {
    let (_portal, settings, url) = settings().await;
    let mut servers = NatsServers::prepare(nas_cron_testing::nats::Setup::OPEN);
    let settings = settings.with("NAS_CRON_NATS_URLS", servers.urls().join(","));
    sql(&url, "INSERT INTO active_backend (backend) VALUES ('postgres')").await;
    sql(&url, "INSERT INTO instances (instance_id, org_id) VALUES ('inst-1', 'org-1')").await;
    sql(
        &url,
        "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                next_attempt_at)
         SELECT 'inst-1', n, gen_random_uuid(), n, '2099-01-01T00:00:00Z', '2099-01-01T00:00:00Z', 'https://a.example',
                'armed', '2099-01-01T00:00:00Z'
         FROM generate_series(1, 1200) AS n",
    )
    .await;
    // NATS is unavailable, so the switch cannot finish before it is interrupted.
    let mut switch = settings
        .command(&["backend", "switch", "nats", "--force"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let moved = async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let query = "SELECT count(*) FROM one_shots WHERE awaits = 'nats'";
        while sqlx::query_scalar::<_, i64>(query).fetch_one(&mut connection).await.unwrap() < 1_200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.expect("the rows move without the backend");
    let pid = rustix::process::Pid::from_child(&switch);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while switch.try_wait().unwrap().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "the command ignores the signal");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = switch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("1200 wake-ups to arm"), "{error}");
    assert!(
        error.contains("the running replicas complete the switch, and so does the same command again"),
        "{error}"
    );
    let (_, out, _) = settings.run(&["backend", "status"]).await;
    assert!(out.contains("The switch is unfinished: 1200 wake-ups to arm."), "{out}");

    servers.restart(0).await;
    // Failed orders are repeated after their back-off; orders in flight, after their lease.
    let report = json_of(&settings, &["backend", "switch", "nats"]).await;
    assert_eq!((&report["told"], &report["finished"]), (&json!(1_200), &json!(true)), "{report}");
}
