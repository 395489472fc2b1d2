//! `nas-cron dev` and `nas-cron bench`, with the real binary and an empty folder.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use nas_cron_testing::service::client;
use serde_json::Value;
use sqlx::Connection;

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("nas-cron-dev-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).expect("a folder for the test");
        Self(path)
    }

    fn dev_json(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.0.join("dev.json")).expect("dev.json")).expect("JSON")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn nas_cron(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nas-cron"));
    command.args(arguments).arg("--dir").arg(dir).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], dir: &Path) -> Output {
    nas_cron(arguments, dir).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running `nas-cron dev --no-demo`, ready for use; killed with the test.
struct Dev {
    child: Child,
    /// The link that signs in at the operators' page.
    sign_in: String,
    /// Kept open, because the process continues to write.
    _stdout: BufReader<ChildStdout>,
}

impl Dev {
    fn start(dir: &Path) -> Self {
        let mut command = nas_cron(&["dev", "--no-demo", "--listen", "127.0.0.1:0"], dir);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (mut line, mut sign_in) = (String::new(), String::new());
        while !line.starts_with("Press ^C to stop") {
            line.clear();
            assert!(stdout.read_line(&mut line).expect("text") > 0, "it ended before it was ready");
            if let Some(link) = line.trim().strip_prefix("operators ") {
                link.trim().clone_into(&mut sign_in);
            }
        }
        Self { child, sign_in, _stdout: stdout }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the number of agents and one-shots that a bench has left behind.
fn rows_of_the_bench(database_url: &str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(database_url).await.expect("the database answers");
        let count = "SELECT (SELECT count(*) FROM instances WHERE instance_id LIKE 'bench-%') \
                          + (SELECT count(*) FROM one_shots)";
        sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("a count")
    })
}

#[test]
fn dev_sets_up_an_empty_folder_fires_verifiable_tokens_and_restarts() {
    let folder = Folder::new();
    for run_number in 1..=2 {
        let output = run(&["dev", "--listen", "127.0.0.1:0", "--fires", "2"], &folder.0);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "run {run_number}: {out}{err}");
        assert_eq!(out.lines().filter(|line| line.ends_with(", verified")).count(), 2, "{out}");
        assert!(
            out.contains("2 fires verified") && out.contains("early 0   unverified 0   missing 0"),
            "{out}"
        );
        assert!(!out.contains('\x1b'), "no colour outside a terminal");
    }
    for secret in ["dev.json", "portal-key.der", "key-encryption-key"] {
        let mode = std::fs::metadata(folder.0.join(secret)).expect(secret).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}

/// The closed folder of a test. Removes the data that is elsewhere, too.
struct Closed(Folder);

impl Drop for Closed {
    fn drop(&mut self) {
        if let Ok(data) = std::fs::read_link(self.0.0.join("dev/postgres")) {
            let _ = std::fs::remove_dir_all(data.parent().expect("a folder of its own"));
        }
    }
}

#[test]
fn dev_runs_in_a_folder_that_only_its_owner_can_enter() {
    // As of `mktemp -d`, or in root's home. Postgres runs as another user if this test runs as root.
    let closed = Closed(Folder::new());
    std::fs::create_dir_all(&closed.0.0).expect("a folder");
    std::fs::set_permissions(&closed.0.0, std::fs::Permissions::from_mode(0o700)).expect("a mode");
    let dir = closed.0.0.join("dev");
    for run_number in 1..=2 {
        let output = run(&["dev", "--listen", "127.0.0.1:0", "--fires", "1"], &dir);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "run {run_number}: {said}");
        // The second run finds the data of the first.
        let data = std::fs::canonicalize(dir.join("postgres")).expect("the data");
        assert!(said.contains(&format!("a private Postgres in {} ", data.display())), "{said}");
    }
    let mode = std::fs::metadata(&closed.0.0).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the folder stays closed");
}

#[test]
fn dev_whose_reader_has_left_stops_everything_and_ends() {
    let folder = Folder::new();
    let mut command = nas_cron(&["dev", "--listen", "127.0.0.1:0"], &folder.0);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    // As in `nas-cron dev | head -1`.
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(141));
    // Postgres has stopped: the folder is free.
    let output = run(&["dev", "--listen", "127.0.0.1:0", "--fires", "1"], &folder.0);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn link_that_dev_prints_signs_in_once() {
    let folder = Folder::new();
    let dev = Dev::start(&folder.0);
    let (page, link) = dev.sign_in.split_once("?link=").expect("a link that signs in");
    let base = page.strip_suffix("/ops/sign-in").expect("the page of the sign-in");
    assert_eq!(folder.dev_json()["admin_url"], base);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let shown = client().get(&dev.sign_in).send().await.expect("an answer");
        assert!(shown.text().await.expect("a page").contains("This link signs you in, once."));
        let sign_in = async || {
            let form = client().post(page).header("content-type", "application/x-www-form-urlencoded");
            form.body(format!("link={link}")).send().await.expect("an answer")
        };
        let signed_in = sign_in().await;
        assert_eq!(signed_in.status(), 303);
        let cookie =
            signed_in.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie");
        let jobs = client()
            .get(format!("{base}/ops/jobs"))
            .header("cookie", cookie)
            .send()
            .await
            .expect("an answer");
        assert_eq!(jobs.status(), 200);
        assert_eq!(sign_in().await.status(), 401, "it was used");
    });
}

#[test]
fn bench_reports_all_fields_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let mut dev = Dev::start(&folder.0);

    let second = run(&["dev", "--listen", "127.0.0.1:0"], &folder.0);
    let error = text(&second.stderr);
    assert!(!second.status.success() && error.contains("another `nas-cron dev`"), "{error}");

    let dev_json = folder.dev_json();
    let fields = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let mut named = fields(&dev_json);
    named.sort();
    assert_eq!(
        named,
        ["admin_token", "admin_url", "agents", "database_url", "jwks_url", "metrics_url", "portal_url"]
    );
    let token = run(&["dev", "token", "--sid", "dev-session", "--org", "dev-org-a"], &folder.0);
    assert_eq!(text(&token.stdout).trim().split('.').count(), 3);

    for agents in ["1", "3"] {
        let small = ["--jobs", "60", "--over", "1s", "--burst", "100", "--armed", "70", "--json"];
        let output = run(&[&["bench", "--agents", agents], small.as_slice()].concat(), &folder.0);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let mut named = fields(&report);
        named.sort();
        assert_eq!(
            named,
            [
                "agents",
                "armed",
                "burst",
                "burst_lateness_ms",
                "cancels_per_s",
                "duplicates",
                "durable_fires_per_s",
                "early",
                "fires_per_s",
                "jobs",
                "lateness_ms",
                "lost",
                "provision_concurrency",
                "provision_ms",
                "provisions_per_s",
                "rearm_ms",
                "rearms_per_s",
                "slow_agents",
                "slowest_agent"
            ]
        );
        assert_eq!(
            (&report["jobs"], &report["agents"]),
            (&60.into(), &agents.parse::<u64>().unwrap().into())
        );
        assert_eq!(
            (&report["early"], &report["lost"], &report["duplicates"]),
            (&0.into(), &0.into(), &0.into())
        );
        let rates =
            ["fires_per_s", "durable_fires_per_s", "provisions_per_s", "rearms_per_s", "cancels_per_s"];
        for rate in rates {
            assert!(report[rate].as_f64().expect("a number") > 0.0, "{rate}: {report}");
        }
        for times in ["lateness_ms", "burst_lateness_ms", "provision_ms", "rearm_ms"] {
            assert!(report[times]["p50"].as_f64().expect("a number") > 0.0, "{times}: {report}");
        }
        assert!(report["fires_per_s"].as_f64() >= report["durable_fires_per_s"].as_f64(), "{report}");
    }

    assert_eq!(rows_of_the_bench(dev_json["database_url"].as_str().expect("a URL")), 0);
    dev.signal(rustix::process::Signal::TERM);
    assert!(dev.child.wait().expect("it ends").success());
    let contradictory = run(&["bench", "--slow-agents", "3", "--agents", "3"], &folder.0);
    assert!(text(&contradictory.stderr).contains("no healthy agent"), "{}", text(&contradictory.stderr));
    let alone = run(&["bench"], &folder.0);
    assert!(text(&alone.stderr).contains("is unreachable"), "{}", text(&alone.stderr));
}
