//! `nas-cron mcp`, driven by the official MCP client from `PyPI` (`make agent-tools` installs it), and byte by byte for
//! messages that the client would not send.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nas_cron_testing::service::{binary, client};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::fixture::Tools;

/// Timeout for steps that are not measured; long enough for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A temporary folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("nas-cron-mcp-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Parses stdout, and requires that every line is a JSON-RPC message.
fn messages(stdout: &str) -> Vec<Value> {
    assert!(stdout.is_empty() || stdout.ends_with('\n'), "{stdout}");
    let message = |line: &str| {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    };
    stdout.lines().map(message).collect()
}

/// The official client with our server. Keeps the server's stdout and stderr.
struct Host {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    folder: Folder,
    /// The server's information from the opening of the session.
    opened: Value,
}

impl Host {
    /// `mode` selects how the client opens the session: `legacy` with the handshake, `auto` in its preferred way.
    async fn start(mode: &str, token: &str, arguments: &[&str]) -> Self {
        let python = root().join("target/agent-tools-venv/bin/python");
        assert!(
            python.exists(),
            "the MCP client is not installed: run `make agent-tools` (`make test` does)"
        );
        let folder = Folder::new();
        let mut child = Command::new(python)
            .arg(root().join("tests/external/agent_tools/mcp_client.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let server = binary();
        let (stdout, program) = (folder.0.join("stdout"), server.get_program().to_str().unwrap());
        let mut command = vec!["-c", r#""$@" | tee "$0""#, stdout.to_str().unwrap(), program, "mcp"];
        command.extend(arguments);
        let start = json!({
            "command": "sh", "args": command, "mode": mode, "stderr": folder.0.join("stderr"),
            "env": {"NAS_CRON_ACCESS_TOKEN": token, "XDG_CONFIG_HOME": folder.0},
        });
        input.write_all(format!("{start}\n").as_bytes()).await.unwrap();
        let opened = said(&mut output).await;
        Self { child, input, output, folder, opened }
    }

    async fn ask(&mut self, command: Value) -> Value {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        said(&mut self.output).await
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask(json!({"call": tool, "arguments": arguments})).await
    }

    /// Returns the structured result of a successful call. Its text must be the same JSON.
    async fn done(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments).await;
        assert_eq!(answer["is_error"], false, "{answer}");
        let text: Value = serde_json::from_str(answer["text"][0].as_str().unwrap()).unwrap();
        assert_eq!(text, answer["structured"]);
        text
    }

    /// Returns the text of a result that is marked as an error.
    async fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments).await;
        assert_eq!(answer["is_error"], true, "{answer}");
        answer["text"][0].as_str().unwrap().to_owned()
    }

    /// Closes the session. Returns the server's messages on stdout, and its stderr.
    async fn end(self) -> (Vec<Value>, String) {
        let Self { mut child, input, folder, .. } = self;
        drop(input);
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("the process ends").unwrap();
        assert!(status.success(), "{status}");
        (messages(&folder.read("stdout")), folder.read("stderr"))
    }
}

async fn said(output: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = tokio::time::timeout(PATIENCE, output.next_line()).await.expect("a response in time");
    serde_json::from_str(&line.unwrap().expect("the client is alive")).unwrap()
}

/// The server without a client, driven byte by byte.
struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    stderr: ChildStderr,
}

impl Server {
    async fn start(server: &str) -> Self {
        Self::with("secret-of-the-test", &["--server", server]).await
    }

    async fn with(token: &str, arguments: &[&str]) -> Self {
        let mut command = Command::from(binary());
        command.arg("mcp").args(arguments).env("NAS_CRON_ACCESS_TOKEN", token);
        Self::launch(command.env("XDG_CONFIG_HOME", "/nowhere")).await
    }

    /// Starts this command and opens the session.
    async fn launch(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        let mut server = Self { child, input, output: BufReader::new(output).lines(), stderr };
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
        });
        server.request(0, "initialize", params).await;
        assert_eq!(server.next().await["id"], 0);
        server.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string()).await;
        server
    }

    async fn write(&mut self, line: &str) {
        self.input.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn request(&mut self, id: i64, method: &str, params: Value) {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.write(&request.to_string()).await;
    }

    async fn call(&mut self, id: i64, tool: &str) {
        self.request(id, "tools/call", json!({"name": tool, "arguments": {}})).await;
    }

    /// Calls `cron_list`. Returns true if the result is an error, and its text.
    async fn list(&mut self) -> (bool, String) {
        self.call(1, "cron_list").await;
        let result = self.next().await["result"].take();
        (result["isError"] == true, result["content"][0]["text"].as_str().unwrap().to_owned())
    }

    /// Closes stdin and waits for the exit. Returns the log.
    async fn close(mut self) -> String {
        drop(self.input.take());
        let (rest, log) = self.ended().await;
        assert!(rest.is_empty(), "{rest:?}");
        log
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await.expect("a response in time");
        messages(&(line.unwrap().expect("the server is running") + "\n")).remove(0)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().expect("the server is running")).unwrap()).unwrap()
    }

    fn high_water_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Waits for an exit with code 0. Returns the remaining messages and the log.
    async fn ended(mut self) -> (Vec<Value>, String) {
        let ending = async {
            let (mut rest, mut log) = (String::new(), String::new());
            while let Some(line) = self.output.next_line().await.unwrap() {
                rest += &(line + "\n");
            }
            self.stderr.read_to_string(&mut log).await.unwrap();
            (self.child.wait().await.unwrap(), rest, log)
        };
        let (status, rest, log) = tokio::time::timeout(PATIENCE, ending).await.expect("the server exits");
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("secret"), "{log}");
        (messages(&rest), log)
    }
}

/// A service that accepts calls but responds only on demand.
struct Silent {
    listener: TcpListener,
    url: String,
}

impl Silent {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// Returns the next call after reading its request.
    async fn taken(&self) -> TcpStream {
        let taking = async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream
        };
        tokio::time::timeout(PATIENCE, taking).await.expect("a call")
    }
}

async fn answer_with_nothing_armed(mut stream: TcpStream) {
    let body = r#"{"armed":[]}"#;
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// All tools, with the handshake of current hosts.
#[tokio::test]
async fn an_mcp_host_provisions_is_fired_lists_updates_and_cancels() {
    let world = World::new().await;
    let callback = world.callback();
    let mut host =
        Host::start("legacy", &world.token, &["--server", &world.service.url, "--callback-url", &callback])
            .await;
    assert_eq!(host.opened["name"], "nas-cron");
    assert_eq!(host.opened["version"], env!("CARGO_PKG_VERSION"));
    assert!(host.opened["instructions"].as_str().unwrap().contains("cron_provision"), "{}", host.opened);
    assert!(host.opened["capabilities"]["tools"].is_object(), "{}", host.opened);

    let armed = host.done("cron_provision", json!({"job_id": "soon", "in": "1s"})).await;
    assert_eq!((&armed["job_id"], &armed["agent_callback_url"]), (&json!("soon"), &json!(callback)));
    let fire = world.agents.wait_for("soon", 1).await;
    assert_eq!(fire.fire_at, armed["fire_at"].as_str().unwrap());
    assert!(fire.arrived >= chrono::DateTime::parse_from_rfc3339(&fire.fire_at).unwrap());

    let at = fire_at(3_600_000);
    let arguments =
        json!({"job_id": "later", "fire_at": at, "agent_callback_url": callback, "dedup_key": "k"});
    let armed = host.done("cron_provision", arguments.clone()).await;
    assert_eq!(host.done("cron_provision", arguments).await, armed, "repeating the call keeps the one-shot");

    let listed = host.done("cron_list", json!({"job_id": "later"})).await;
    assert_eq!(listed["armed"][0]["fire_at"], at, "byte for byte");
    assert_eq!((&listed["armed"][0]["schedule_id"], &listed["dead"]), (&armed["schedule_id"], &json!([])));

    let other = fire_at(7_200_000);
    let arguments = json!({"job_id": "later", "fire_at": other, "agent_callback_url": callback});
    let updated = host.done("cron_update", arguments).await;
    assert_eq!(updated["fire_at"], other);
    assert_ne!(updated["schedule_id"], armed["schedule_id"]);
    assert_eq!(world.listed("later").await.unwrap().1["fire_at"], other);

    let cancelled = host.done("cron_cancel", json!({"job_id": "later"})).await;
    assert_eq!(cancelled, json!({"job_id": "later", "cancelled": true}));
    assert_eq!(
        host.done("cron_cancel", json!({"job_id": "later"})).await,
        cancelled,
        "also for an unknown job"
    );
    assert!(world.listed("later").await.is_none());

    let (messages, log) = host.end().await;
    // One message for the handshake, one for the list of tools (the client checks results against their schemas), and one
    // for each of the seven calls.
    assert_eq!(messages.len(), 9);
    assert!(!log.contains(&world.token), "{log}");
}

#[tokio::test]
async fn a_model_can_ask_what_became_of_a_job() {
    let world = World::new().await;
    let arguments = ["--server", &world.service.url, "--callback-url", &world.callback()];
    let mut host = Host::start("legacy", &world.token, &arguments).await;
    let armed = host.done("cron_provision", json!({"job_id": "a", "in": "1h"})).await;
    let shown = host.done("cron_show", json!({"job_id": "a"})).await;
    assert_eq!((&shown["state"], &shown["attempts"]), (&json!("armed"), &json!([])));
    assert_eq!(shown["one_shot"]["schedule_id"], armed["schedule_id"]);

    host.done("cron_update", json!({"job_id": "a", "in": "0s"})).await;
    world.delivered("a").await;
    let shown = host.done("cron_show", json!({"job_id": "a", "attempts": 1})).await;
    assert_eq!(
        (&shown["state"], &shown["attempts"][0]["outcome"]),
        (&json!("delivered"), &json!("delivered"))
    );
    host.done("cron_cancel", json!({"job_id": "a"})).await;
    let shown = host.done("cron_show", json!({"job_id": "a"})).await;
    assert_eq!((&shown["state"], shown.get("one_shot")), (&json!("cancelled"), None));
    assert!(shown["cancelled_at"].is_string(), "{shown}");

    let text = host.refused("cron_show", json!({"job_id": "never"})).await;
    assert!(text.contains("404 not_found: nothing is stored") && text.contains("cron_list"), "{text}");
    let text = host.refused("cron_show", json!({"job_id": "a", "attempts": 0})).await;
    assert_eq!(text, "attempts: must be a whole number from 1 to 100");
    host.end().await;
}

#[tokio::test]
async fn an_auth_profile_chosen_by_the_model_reaches_the_fire() {
    let world = World::new().await;
    let body = json!({"profiles": ["claude:spare", "claude:work"], "default": "claude:spare"});
    let url = format!("{}/api/agent-cron/auth-profiles", world.service.url);
    let put = client().put(url).bearer_auth(&world.token).json(&body).send().await.unwrap();
    assert_eq!(put.status(), 200);
    let arguments = ["--server", &world.service.url, "--callback-url", &world.callback()];
    let mut host = Host::start("legacy", &world.token, &arguments).await;

    let known = host.done("auth_profiles_list", json!({})).await;
    let names: Vec<_> = known["profiles"].as_array().unwrap().iter().map(|one| &one["auth"]).collect();
    assert_eq!(names, [&json!("claude:spare"), &json!("claude:work")], "{known}");
    assert_eq!(known["defaults"], json!({"instance": "claude:spare"}));

    let armed = host.done("cron_provision", json!({"job_id": "a", "in": "1s", "auth": "claude:work"})).await;
    assert!(armed.get("warnings").is_none(), "{armed}");
    assert_eq!(world.agents.wait_for("a", 1).await.body["auth"], "claude:work");

    let armed = host.done("cron_provision", json!({"job_id": "b", "in": "1h", "auth": "claude:later"})).await;
    assert_eq!(armed["warnings"][0]["code"], "auth_profile_unknown", "{armed}");
    // Job a may be in flight still.
    let listed = host.done("cron_list", json!({"job_id": "b"})).await;
    let listed = &listed["armed"][0];
    assert_eq!(listed["warnings"][0]["code"], "auth_profile_unknown", "{listed}");
    assert_eq!(listed["effective_auth"], json!({"auth": "claude:later", "source": "job"}));

    let updated = host.done("cron_update", json!({"job_id": "b", "auth": null})).await;
    assert_eq!(
        updated,
        json!({"job_id": "b", "effective_auth": {"auth": "claude:spare", "source": "instance"}})
    );
    let updated = host.done("cron_update", json!({"job_id": "b", "auth": "claude:work"})).await;
    assert_eq!(updated["auth"], "claude:work");
    let listed = host.done("cron_list", json!({"job_id": "b"})).await;
    assert_eq!(listed["armed"][0]["schedule_id"], armed["schedule_id"], "the one-shot is the same");

    // A list, and explicitly no profile.
    for form in [json!(["claude:work", "claude:spare"]), json!(false)] {
        let updated = host.done("cron_update", json!({"job_id": "b", "auth": form})).await;
        assert_eq!((&updated["auth"], &updated["effective_auth"]["auth"]), (&form, &form));
        let listed = host.done("cron_list", json!({"job_id": "b"})).await;
        assert_eq!(listed["armed"][0]["auth"], form);
    }
    host.done("cron_update", json!({"job_id": "b", "auth": "claude:work"})).await;

    // A limit, which another change keeps.
    let limit = json!("2099-01-01T00:00:00Z");
    let listed = async |host: &mut Host| {
        host.done("cron_list", json!({"job_id": "b"})).await["armed"][0].get("not_after").cloned()
    };
    host.done("cron_update", json!({"job_id": "b", "not_after": limit})).await;
    assert_eq!(listed(&mut host).await, Some(limit.clone()));
    host.done("cron_update", json!({"job_id": "b", "in": "2h"})).await;
    assert_eq!(listed(&mut host).await, Some(limit));
    host.done("cron_update", json!({"job_id": "b", "not_after": null})).await;
    assert_eq!(listed(&mut host).await, None);

    // The listed callback URL and auth profile are kept.
    let updated = host.done("cron_update", json!({"job_id": "b", "in": "1s"})).await;
    assert_eq!(updated["agent_callback_url"], world.callback());
    assert_eq!(world.agents.wait_for("b", 1).await.body["auth"], "claude:work");

    // Another callback URL for the same instant is another one-shot.
    let armed = host.done("cron_provision", json!({"job_id": "c", "in": "1h"})).await;
    let moved = json!({"job_id": "c", "agent_callback_url": format!("{}/moved", world.callback())});
    let updated = host.done("cron_update", moved.clone()).await;
    assert_eq!(updated["fire_at"], armed["fire_at"]);
    let listed = world.listed("c").await.unwrap().1;
    assert_eq!(
        (&listed["agent_callback_url"], &listed["schedule_id"]),
        (&moved["agent_callback_url"], &updated["schedule_id"])
    );
    let again = host.done("cron_update", moved).await;
    assert_eq!(again["schedule_id"], updated["schedule_id"], "repeating the update changes nothing: {again}");

    let key = "sk-ant-REDACTED";
    for tool in ["cron_provision", "cron_update"] {
        let text =
            host.refused(tool, json!({"job_id": "d", "in": "1h", "auth": format!("claude:{key}")})).await;
        assert!(text.starts_with("auth: looks like a secret") && !text.contains(key), "{text}");
    }
    let unknown = json!({"job_id": "nobody", "auth": "claude:work"});
    assert!(host.refused("cron_update", unknown).await.contains("job not found"));
    let (messages, log) = host.end().await;
    assert!(!format!("{messages:?}{log}").contains(key));
    assert!(!world.service.log().contains(key));
}

/// The newest revision of the protocol, which has no handshake.
#[tokio::test]
async fn the_newest_protocol_version_lists_tools_and_reports_their_errors() {
    let world = World::new().await;
    let mut host = Host::start("auto", &world.token, &["--server", &world.service.url]).await;
    assert_eq!(host.opened["protocol"], "2026-07-28", "{}", host.opened);

    let tools = host.ask(json!({"tools": true})).await;
    let tools = tools.as_array().unwrap();
    let of = |name: &str| tools.iter().find(|tool| tool["name"] == name).expect(name);
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["cron_provision", "cron_update", "cron_list", "cron_show", "cron_cancel", "auth_profiles_list"]
    );
    assert_eq!(of("cron_list")["annotations"]["readOnlyHint"], true);
    assert_eq!(of("cron_show")["annotations"]["readOnlyHint"], true);
    let attempts = &of("cron_show")["inputSchema"]["properties"]["attempts"];
    assert_eq!((&attempts["minimum"], &attempts["maximum"]), (&json!(1), &json!(100)));
    assert_eq!(of("cron_cancel")["annotations"]["destructiveHint"], true);
    assert_eq!(of("cron_cancel")["annotations"]["idempotentHint"], true);
    for tool in ["cron_provision", "cron_update"] {
        let auth = &of(tool)["inputSchema"]["properties"]["auth"];
        assert_eq!(auth["type"], json!(["string", "array", "boolean", "null"]), "{tool}");
        assert_eq!((&auth["maxItems"], &auth["items"]["type"]), (&json!(8), &json!("string")), "{tool}");
        assert!(auth["description"].as_str().unwrap().contains("never a token"), "{tool}");
        let limit = &of(tool)["inputSchema"]["properties"]["not_after"];
        assert_eq!(
            (&limit["type"], &limit["format"]),
            (&json!(["string", "null"]), &json!("date-time")),
            "{tool}"
        );
    }
    assert_eq!(of("cron_provision")["inputSchema"]["required"], json!(["job_id", "agent_callback_url"]));

    let listed = host.done("cron_list", json!({})).await;
    assert_eq!(listed, json!({"armed": [], "dead": []}));
    errors_reach_the_model_and_change_nothing(&world, &mut host).await;
    let (_, log) = host.end().await;
    assert!(!log.contains(&world.token), "{log}");
}

async fn errors_reach_the_model_and_change_nothing(world: &World, host: &mut Host) {
    let callback = world.callback();
    let cases = [
        (json!({"job_id": "j", "in": "1s"}), "agent_callback_url: is missing"),
        (
            json!({"job_id": "j", "in": "1s", "agent_callback_url": "agent"}),
            "agent_callback_url: must be an absolute",
        ),
        (json!({"in": "1s", "agent_callback_url": callback}), "job_id: is missing"),
        (json!({"job_id": "j", "agent_callback_url": callback}), "fire_at: is missing"),
        (
            json!({"job_id": "j", "fire_at": "2026-06-18T12:34:56", "agent_callback_url": callback}),
            "fire_at: has no offset",
        ),
        (json!({"job_id": "j", "at": "1s", "agent_callback_url": callback}), "at: unknown field"),
        (
            json!({"job_id": "j", "in": "1s", "auth": 5, "agent_callback_url": callback}),
            "auth: must be false, a profile or a list of profiles, not a number",
        ),
        (
            json!({"job_id": "j", "in": "1s", "auth": ["p:a", "p:a"], "agent_callback_url": callback}),
            "auth[1]: is in the list twice",
        ),
        (
            json!({"job_id": "j", "in": "1s", "not_after": "2036-06-18T12:34:56", "agent_callback_url": callback}),
            "not_after: has no offset",
        ),
        (
            json!({"job_id": "j", "in": "1s", "not_after": "1970-01-01T00:00:00Z", "agent_callback_url": callback}),
            "not_after: must not be before fire_at",
        ),
    ];
    for (arguments, expected) in cases {
        let text = host.refused("cron_provision", arguments).await;
        assert!(text.contains(expected), "{text}");
    }
    for arguments in
        [json!({"job_id": "nobody", "in": "1h"}), json!({"job_id": "nobody", "auth": "claude:work"})]
    {
        let text = host.refused("cron_update", arguments).await;
        assert!(text.contains("job not found") && text.contains("cron_provision"), "{text}");
    }
    let unknown = host.call("cron_fire", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    assert!(
        unknown["error"]["message"].as_str().unwrap().contains("known tools are cron_provision,"),
        "{unknown}"
    );
    assert_eq!(world.service.list(&world.token).await, json!({"armed": [], "dead": []}));
}

#[tokio::test]
async fn refusals_and_an_unreachable_service_are_tool_errors() {
    let mut world = World::new().await;
    let stranger = world.portal.client_token("org-9", "inst-1");
    let arguments = ["--server", &world.service.url];
    for (token, word) in [("no-token", "invalid_token"), (stranger.as_str(), "temporarily_unavailable")] {
        let mut server = Server::with(token, &arguments).await;
        let (is_error, text) = server.list().await;
        assert!(is_error && text.contains(word), "{text}");
        assert!(!server.close().await.contains(token));
    }
    let mut server = Server::with(&world.token, &arguments).await;
    assert_eq!(server.list().await, (false, r#"{"armed":[],"dead":[]}"#.to_owned()));
    world.service.kill9();
    let (is_error, text) = server.list().await;
    assert!(is_error && text.contains("the request to") && text.contains("unavailable"), "{text}");
    server.close().await;
}

#[tokio::test]
async fn without_a_server_each_call_fails_with_the_fix_until_the_user_logs_in() {
    let world = World::new().await;
    let tools = Tools::without_server();
    let mut command = Command::from(binary());
    let mut server = Server::launch(command.arg("mcp").env("XDG_CONFIG_HOME", tools.path("config"))).await;
    for _ in 0..2 {
        let (is_error, text) = server.list().await;
        assert!(is_error && text.contains("no server given: use --server URL or NAS_CRON_SERVER"), "{text}");
        assert!(
            text.contains("nas-cron cron login --server URL") && text.contains("nothing was sent"),
            "{text}"
        );
    }
    // Arguments are checked first.
    server.call(1, "cron_provision").await;
    let answer = server.next().await;
    assert!(
        answer["result"]["content"][0]["text"].as_str().unwrap().starts_with("job_id: is missing"),
        "{answer}"
    );

    tools.run_with(&format!("login --server {}", world.service.url), &world.token).await.ok();
    assert_eq!(server.list().await, (false, r#"{"armed":[],"dead":[]}"#.to_owned()));
    assert!(server.close().await.contains("no server given"));
}

#[tokio::test]
async fn invalid_environment_is_the_error_of_each_call() {
    for (variable, value, problem) in [
        ("NAS_CRON_SERVER", "nowhere", "NAS_CRON_SERVER: "),
        ("NAS_CRON_USE_AGENT_IDENTITY", "maybe", "must be on or off"),
        ("NAS_CRON_CALLBACK_URL", "ftp://x", "NAS_CRON_CALLBACK_URL: "),
    ] {
        let mut command = Command::from(binary());
        command.arg("mcp").env("XDG_CONFIG_HOME", "/nowhere").env("NAS_CRON_ACCESS_TOKEN", "token");
        command.env("NAS_CRON_SERVER", "http://127.0.0.1:1").env(variable, value);
        let mut server = Server::launch(&mut command).await;
        let (is_error, text) = server.list().await;
        assert!(is_error && text.contains(problem), "{text}");
        server.close().await;
    }
}

#[tokio::test]
async fn only_json_rpc_is_written_to_stdout_whatever_is_read() {
    let mut server = Server::start("http://127.0.0.1:1").await;
    let before = server.high_water_kib();
    server.write("not json").await;
    server.write("").await;
    server.write(r#"{"jsonrpc":"2.0","method":"notifications/of_somebody_else"}"#).await;
    server
        .write(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"cron_list","arguments":[]}}"#,
        )
        .await;
    let malformed = server.next().await;
    assert!(malformed["error"]["code"].is_i64(), "{malformed}");
    server.request(2, "no/such", json!({})).await;
    let unknown = server.next().await;
    assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!(2), &json!(-32601)), "{unknown}");

    // 100 MB without an end of line: skipped, not kept.
    let chunk = vec![b'a'; 1 << 20];
    for _ in 0..100 {
        server.input.as_mut().unwrap().write_all(&chunk).await.unwrap();
    }
    server.write("").await;
    server.request(3, "ping", json!({})).await;
    assert_eq!(server.next().await["id"], 3);
    let grown = server.high_water_kib() - before;
    assert!(grown < 20 << 10, "{grown} KiB more");

    server.call(4, "cron_list").await;
    assert!(server.next().await["result"]["isError"] == true, "the service is unreachable");
    drop(server.input.take());
    let (rest, log) = server.ended().await;
    assert!(rest.is_empty(), "{rest:?}");
    assert!(log.contains("maximum line length"), "{log}");
}

#[tokio::test]
async fn at_most_16_calls_are_in_flight() {
    let silent = Silent::start().await;
    let mut server = Server::start(&silent.url).await;
    for id in 1..=40 {
        server.call(id, "cron_list").await;
    }
    let mut taken = Vec::new();
    for _ in 0..16 {
        taken.push(silent.taken().await);
    }
    // Each response frees a slot for one more call, and every call gets a response.
    for _ in 16..40 {
        let early = tokio::time::timeout(Duration::from_millis(5), silent.listener.accept()).await;
        assert!(early.is_err(), "more than 16 calls in flight");
        answer_with_nothing_armed(taken.remove(0)).await;
        taken.push(silent.taken().await);
    }
    for stream in taken {
        answer_with_nothing_armed(stream).await;
    }
    let mut answered = Vec::new();
    for _ in 1..=40 {
        answered.push(server.next().await["id"].as_i64().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=40).collect::<Vec<_>>());
    drop(server.input.take());
    server.ended().await;
}

#[tokio::test]
async fn a_request_id_in_use_is_refused_and_free_after_a_cancel() {
    let silent = Silent::start().await;
    let mut server = Server::start(&silent.url).await;
    server.call(1, "cron_list").await;
    let first = silent.taken().await;
    server.call(1, "cron_list").await;
    let refused = server.next().await;
    assert!(refused.get("id").is_none(), "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("in use"), "{refused}");
    answer_with_nothing_armed(first).await;
    assert_eq!(server.next().await["result"]["isError"], false);

    let mut taken = Vec::new();
    for id in 2..=40 {
        server.call(id, "cron_list").await;
        taken.push(silent.taken().await);
        let cancelled =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        server.write(&cancelled.to_string()).await;
    }
    server.request(41, "ping", json!({})).await;
    assert_eq!(server.next().await["id"], 41);
    drop(server.input.take());
    let (rest, _) = server.ended().await;
    assert!(rest.is_empty(), "cancelled calls get no response: {rest:?}");
}

#[tokio::test]
async fn server_exits_when_stdin_closes_even_with_a_call_in_flight() {
    let silent = Silent::start().await;
    let mut server = Server::start(&silent.url).await;
    server.call(1, "cron_list").await;
    let answered = silent.taken().await;
    drop(server.input.take());
    answer_with_nothing_armed(answered).await;
    let (rest, _) = server.ended().await;
    assert_eq!(rest.len(), 1, "the call is finished: {rest:?}");

    let mut server = Server::start(&silent.url).await;
    server.call(1, "cron_list").await;
    let _never_answered = silent.taken().await;
    drop(server.input.take());
    let (rest, _) = server.ended().await;
    assert!(rest.is_empty(), "the call is abandoned: {rest:?}");
}

#[tokio::test]
async fn server_exits_on_sigterm_even_if_its_output_is_not_read() {
    let server = Server::start("http://127.0.0.1:1").await;
    kill_process(server.pid(), Signal::TERM).unwrap();
    server.ended().await;

    let silent = Silent::start().await;
    let mut server = Server::start(&silent.url).await;
    server.call(1, "cron_list").await;
    let _never_answered = silent.taken().await;
    kill_process(server.pid(), Signal::TERM).unwrap();
    server.ended().await;

    // Responses fill the pipe, and requests queue behind them: memory does not grow, and the server still exits.
    let mut server = Server::start("http://127.0.0.1:1").await;
    let before = server.high_water_kib();
    let mut id = 0;
    let request = |id| format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"}));
    loop {
        id += 1;
        let line = request(id);
        let writing = server.input.as_mut().unwrap().write_all(line.as_bytes());
        if tokio::time::timeout(Duration::from_secs(1), writing).await.is_err() {
            break;
        }
        assert!(id < 100_000, "the server reads without a limit");
    }
    let grown = server.high_water_kib() - before;
    assert!(grown < 20 << 10, "{grown} KiB more");
    kill_process(server.pid(), Signal::TERM).unwrap();
    let status =
        tokio::time::timeout(PATIENCE, server.child.wait()).await.expect("the process ends").unwrap();
    assert_eq!(status.code(), Some(0));
}

/// If agent identities are off at the server, the log has one warning.
#[tokio::test]
async fn a_refused_identity_is_logged() {
    let world = World::new().await;
    let folder = Folder::new();
    let store = folder.0.join("auth.json");
    let arguments = [
        "--server",
        &world.service.url,
        "--use-agent-identity",
        "on",
        "--auth-store",
        store.to_str().unwrap(),
    ];
    let mut server = Server::with(&world.token, &arguments).await;
    for _ in 0..2 {
        let (is_error, text) = server.list().await;
        assert!(!is_error, "{text}");
    }
    let log = server.close().await;
    assert_eq!(log.matches("warning").count(), 1, "{log}");
    assert!(log.contains("using the access token instead of the agent identity"), "{log}");
}

#[tokio::test]
async fn a_token_renewed_in_its_file_is_used_by_the_next_call() {
    let world = World::new().await;
    let folder = Folder::new();
    let file = folder.0.join("token");
    std::fs::write(&file, "expired").unwrap();
    let arguments = ["--server", &world.service.url, "--access-token-file", file.to_str().unwrap()];
    let mut server = Server::with("", &arguments).await;
    let (is_error, text) = server.list().await;
    assert!(is_error && text.contains("invalid_token") && text.contains("log in again"), "{text}");
    std::fs::write(&file, format!("{}\n", world.token)).unwrap();
    assert!(!server.list().await.0);
    std::fs::remove_file(&file).unwrap();
    let (is_error, text) = server.list().await;
    assert!(
        is_error && text.contains("reading the access token from") && text.contains("nothing was sent"),
        "{text}"
    );
    server.close().await;
}

/// Every configuration in the documentation and in the help starts a server.
#[tokio::test]
async fn the_documented_host_configurations_work() {
    let docs = std::fs::read_to_string(root().join("docs/agent-tools.md")).unwrap();
    let blocks = |language: &str| {
        let blocks = docs.split("\n```").filter_map(|block| block.strip_prefix(language));
        blocks.filter(|block| block.contains("mcp")).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut servers: Vec<Value> = Vec::new();
    for block in blocks("json\n") {
        let config: Value = serde_json::from_str(&block).unwrap_or_else(|error| panic!("{error}: {block}"));
        let key = if config["servers"].is_object() { "servers" } else { "mcpServers" };
        servers.push(config[key]["nas-cron"].clone());
    }
    for block in blocks("toml\n") {
        let config: Value = toml::from_str(&block).unwrap_or_else(|error| panic!("{error}: {block}"));
        servers.push(config["mcp_servers"]["nas-cron"].clone());
    }
    let help = binary().args(["mcp", "--help"]).output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let example = help.lines().find(|line| line.trim().starts_with('{')).expect("an example");
    let example: Value = serde_json::from_str(example.trim()).unwrap();
    servers.push(example["mcpServers"]["nas-cron"].clone());
    assert_eq!(servers.len(), 5);
    for server in servers {
        assert_eq!(server["command"], "nas-cron", "{server}");
        let arguments = server["args"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
        let variables = server["env"].as_object().cloned().unwrap_or_default();
        let output = binary()
            .args(arguments)
            .env("XDG_CONFIG_HOME", "/nowhere")
            .envs(variables.iter().map(|(name, value)| (name, value.as_str().unwrap().replace('…', "token"))))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{server}: {log}");
        assert!(log.contains("https://portal.example"), "{log}");
    }
}

#[tokio::test]
async fn an_invalid_command_line_fails_before_anything_is_served() {
    for (arguments, code) in [
        (&["mcp", "--server", "portal.example"][..], 2),
        (&["mcp", "--server", "https://portal.example", "--callback-url", "agent"], 2),
    ] {
        let output =
            binary().args(arguments).env("XDG_CONFIG_HOME", "/nowhere").stdin(Stdio::null()).output();
        let output = output.unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{arguments:?}: {log}");
        assert!(log.contains("URL") || log.contains("url"), "{log}");
    }
}
