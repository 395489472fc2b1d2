//! Readers that leave before the end: every command ends without a word, and the service does not end.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Command, Stdio};

use nas_cron_testing::time::PATIENCE;
use nas_cron_testing::world::World;

/// Exit code of a command whose reader has left: that of a process ended by SIGPIPE.
const READER_LEFT: i32 = 141;

/// Runs a command without a reader of its output. Returns its exit code and stderr.
async fn unread(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn every_command_whose_reader_has_left_ends_without_a_word() {
    let world = World::new().await;
    world.arm("job", 3_600_000).await;
    world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('other', 'org-1')").await;
    let settings = world.settings.clone();
    let settings = settings.with("NAS_CRON_SERVER", &world.service.url);
    let settings = settings.with("NAS_CRON_ACCESS_TOKEN", &world.token);
    let listen = world.service.url.strip_prefix("http://").unwrap();
    for line in [
        "jobs list",
        "jobs list --json",
        "jobs show inst-1 job",
        "jobs show inst-1 job --json",
        "agents list",
        "agents list --json",
        "agents show inst-1 --json",
        "agents disable other",
        "agents identities inst-1 --json",
        "hold --all --json",
        "hold list",
        "release --all",
        "auth-profiles list --json",
        "keys list --json",
        "backend status",
        "backend status --json",
        "migrate --dry-run",
        "config show",
        "config table",
        "config example",
        "completions bash",
        "doctor",
        "doctor --json",
        &format!("health --listen {listen}"),
        "cron list",
        "cron list --json",
        "cron show job --json",
        "cron cancel job",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let (code, error) = unread(settings.command(&words)).await;
        assert_eq!((code, error.as_str()), (Some(READER_LEFT), ""), "{line}");
    }
    for line in ["--help", "jobs --help", "--version"] {
        let words: Vec<_> = line.split(' ').collect();
        let (_, error) = unread(settings.command(&words)).await;
        assert_eq!(error, "", "{line}");
    }
    // The effect of a command is not undone.
    let disabled = "SELECT count(*) FROM instances WHERE instance_id = 'other' AND NOT enabled";
    let disabled: i64 = sqlx::query_scalar(disabled).fetch_one(&world.pool).await.unwrap();
    assert_eq!(disabled, 1);
}

#[tokio::test]
async fn reader_of_the_first_line_gets_it_and_ends_the_command() {
    let world = World::new().await;
    world
        .sql("INSERT INTO instances (instance_id, org_id) SELECT 'more-' || n, 'org-1' FROM generate_series(1, 900) n")
        .await;
    let mut command = world.settings.command(&["agents", "list", "--limit", "1000", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(16, child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(line, "{\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(READER_LEFT));
}

#[tokio::test]
async fn mcp_server_ends_without_a_word_when_its_host_closes_the_pipe() {
    let mut command = nas_cron_testing::service::binary();
    command.args(["mcp", "--server", "http://127.0.0.1:1", "--auth-store", "/nowhere/auth.json"]);
    command.env("NAS_CRON_ACCESS_TOKEN", "token").env("RUST_BACKTRACE", "0");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    writeln!(input, "{initialize}\n{initialized}").unwrap();
    let mut reader = BufReader::new(output);
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    // Its stdin stays open: only the write of a response shows that the host has left.
    for id in 2..5 {
        if writeln!(input, r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#).is_err() {
            break;
        }
    }
    let ending = tokio::task::spawn_blocking(move || {
        let status = child.wait().unwrap();
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (status, error)
    });
    let (status, error) = tokio::time::timeout(PATIENCE, ending).await.expect("it ends").unwrap();
    drop(input);
    assert_eq!(status.code(), Some(READER_LEFT), "{error}");
    assert!(!error.contains("ERROR") && !error.contains("nas-cron:"), "{error}");
}

#[tokio::test]
async fn service_whose_log_is_no_longer_read_keeps_serving() {
    let world = World::new().await;
    let address = nas_cron_testing::ports::free_address();
    let settings = world
        .settings
        .clone()
        .with("NAS_CRON_LISTEN", address.to_string())
        .with("NAS_CRON_LOG_FILTER", "debug");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = settings.command(&["serve"]);
    let mut child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    drop(command);
    BufReader::with_capacity(16, reader).read_line(&mut String::new()).unwrap();

    // The reader has left, as in `nas-cron serve 2>&1 | head -1`.
    let url = format!("http://{address}");
    let http = nas_cron_testing::service::client();
    let ready = async {
        while !http.get(format!("{url}/readyz")).send().await.is_ok_and(|response| response.status() == 200) {
            assert!(child.try_wait().unwrap().is_none(), "the service ended");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it becomes ready");
    // Every refusal is logged.
    for _ in 0..20 {
        let refused =
            http.get(format!("{url}/api/agent-cron/list")).bearer_auth("x.y.z").send().await.unwrap();
        assert_eq!(refused.status(), 401);
    }
    assert!(child.try_wait().unwrap().is_none(), "the service ended");
    child.kill().unwrap();
    child.wait().unwrap();
}
