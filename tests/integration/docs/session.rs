//! Runs a page's blocks in one bash session, in a temporary folder and against a database of its own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nas_cron_testing::database::empty_database;
use nas_cron_testing::ports::free_address;
use nas_cron_testing::service::binary_path;
use rustix::process::{Pid, Signal, kill_process_group};

use super::page::{Mode, Page};

/// Maximum duration of a page.
const PAGE_TIMEOUT: Duration = Duration::from_mins(8);

/// Ports that pages use in their examples. Each becomes a free port of this machine, the same within a page.
const PORTS: [&str; 8] = ["8080", "8081", "8090", "9090", "9119", "9120", "4222", "4318"];

/// Hosts that pages use in their examples, and the example address that takes their place.
const HOSTS: [(&str, &str); 5] = [
    ("https://nas-cron.internal", "http://127.0.0.1:8081"),
    ("https://portal.example", "http://127.0.0.1:8080"),
    ("https://cron.example", "http://127.0.0.1:8080"),
    ("https://agent-1.agents.example", "http://127.0.0.1:9119"),
    ("https://inst-1.agents.example", "http://127.0.0.1:9119"),
];

/// Databases that pages use in their examples: the page's own database takes their place.
const DATABASES: [&str; 2] = ["postgres://nas_cron:password@db.internal/nas_cron", "postgres:///nas_cron"];

/// The start of every script.
///
/// `page_until CONDITION COMMAND` runs a command that does not end by itself until the condition holds. At the end of
/// the page, background jobs get SIGTERM twice: the second one ends a service without its drain delay.
const PROLOGUE: &str = r#"
set -euo pipefail
page_end() {
    local jobs
    set +ex
    jobs=$(jobs -p)
    [ -z "$jobs" ] || { kill $jobs; sleep 0.3; kill $jobs; wait $jobs; } 2>/dev/null
}
trap page_end EXIT
page_until() {
    { set +x; } 2>/dev/null
    eval "exec $2" &
    local job=$! tries=0
    until eval "$1"; do
        kill -0 "$job" 2>/dev/null || { echo "ended before '$1': $2" >&2; return 1; }
        [ $((tries += 1)) -lt 2400 ] || { echo "'$1' did not hold within 4 min: $2" >&2; return 1; }
        sleep 0.1
    done
    kill "$job"; wait "$job" || true
    set -x
}
wait_for() {
    { set +x; } 2>/dev/null
    local tries=0
    until eval "$1"; do
        [ $((tries += 1)) -lt 2400 ] || { echo "'$1' did not hold within 4 min" >&2; return 1; }
        sleep 0.1
    done
    set -x
}
command -v createdb >/dev/null || createdb() { :; }
set -x
"#;

/// Executes the page at `path`, relative to the repository.
pub async fn execute(path: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let page = Page::parse(&text).unwrap_or_else(|problem| panic!("{path}: {problem}"));
    for block in &page.blocks {
        if let Mode::Skip(reason) = &block.mode {
            println!("{path}:{}: not executed: {reason}", block.line);
        }
    }
    let executed = page.executed().count();
    println!("{path}: {executed} of {} blocks executed", page.blocks.len());
    if executed == 0 {
        return;
    }
    assert!(
        page.blocks.iter().any(|block| block.mode == Mode::Hidden),
        "{path}: a hidden block must assert that something happened"
    );
    let database_url = empty_database().await;
    let script = with_test_addresses(&script(path, &page), &database_url);
    let session = tokio::task::spawn_blocking(move || Session::new().run(&script, &database_url));
    if let Err(error) = session.await {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Returns the bash script of a page.
fn script(path: &str, page: &Page) -> String {
    let mut script = PROLOGUE.to_owned();
    if let Some(setup) = &page.setup {
        for name in setup.split(", ") {
            let prelude = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/docs/{name}.sh"));
            let prelude =
                fs::read_to_string(&prelude).unwrap_or_else(|error| panic!("{}: {error}", prelude.display()));
            writeln!(script, ": tests/docs/{name}.sh\n{prelude}").unwrap();
        }
    }
    for block in page.executed() {
        writeln!(script, ": {path}:{}", block.line).unwrap();
        let (last, before) = match &block.mode {
            Mode::Until(condition) => {
                let last = block.commands.iter().rposition(|line| !line.trim().is_empty()).unwrap();
                let command = &block.commands[last];
                (
                    Some(format!("page_until {} {}", quoted(condition), quoted(command))),
                    &block.commands[..last],
                )
            }
            _ => (None, &block.commands[..]),
        };
        for line in before.iter().chain(&last) {
            writeln!(script, "{line}").unwrap();
        }
    }
    script
}

/// Returns the text as one word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Replaces the hosts, ports and databases of examples by those of the test.
fn with_test_addresses(script: &str, database_url: &str) -> String {
    let script =
        HOSTS.iter().fold(script.to_owned(), |script, (host, address)| script.replace(host, address));
    let ports: BTreeMap<_, _> = PORTS.iter().map(|&port| (port, free_address().port().to_string())).collect();
    let mut replaced = String::with_capacity(script.len());
    let mut rest = script.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let end =
            rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| start + length);
        let number = &rest[start..end];
        replaced.push_str(&rest[..start]);
        replaced.push_str(ports.get(number).map_or(number, String::as_str));
        rest = &rest[end..];
    }
    replaced.push_str(rest);
    DATABASES.iter().fold(replaced, |script, example| script.replace(example, database_url))
}

/// A temporary folder and the processes that a page started. Both are removed when this is dropped.
struct Session {
    folder: PathBuf,
    child: Option<Child>,
}

impl Session {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("nas-cron-docs-{:08x}", rand::random::<u32>()));
        fs::create_dir_all(folder.join("page")).unwrap();
        fs::create_dir(folder.join("tmp")).unwrap();
        Self { folder, child: None }
    }

    fn run(mut self, script: &str, database_url: &str) {
        // Pages use /tmp where a reader wants a folder outside of the checkout.
        let script = script.replace("/tmp/", &format!("{}/tmp/", self.folder.display()));
        let script_file = self.folder.join("script.sh");
        fs::write(&script_file, script).unwrap();
        let status = self.bash(&script_file, database_url);
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        match status {
            Some(status) if status.success() => {}
            Some(status) => panic!("the page failed ({status}):\n{log}"),
            None => panic!("the page did not end within {PAGE_TIMEOUT:?}:\n{log}"),
        }
    }

    /// Returns the status of the script, or `None` when it did not end in time.
    fn bash(&mut self, script: &Path, database_url: &str) -> Option<ExitStatus> {
        // A file: a pipe would stay open as long as any background process.
        let log = File::create(self.log()).unwrap();
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars() {
            let is_kept = matches!(name.as_str(), "PATH" | "NAS_CRON_POSTGRES_BIN" | "LANG");
            if !is_kept && !name.starts_with("CARGO") && !name.starts_with("RUSTUP") {
                command.env_remove(name);
            }
        }
        let server = url::Url::parse(database_url).unwrap();
        let binaries = binary_path().parent().unwrap().to_owned();
        let child = command
            .arg(script)
            .current_dir(self.folder.join("page"))
            .env("PATH", format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap()))
            .env("HOME", self.folder.join("page"))
            .env("TMPDIR", self.folder.join("tmp"))
            .env("USER", server.username())
            .env("CHECKOUT", env!("CARGO_MANIFEST_DIR"))
            .env("PAGE_DATABASE_URL", database_url)
            .env("PGUSER", server.username())
            .env("PGHOST", server.host_str().unwrap())
            .env("PGPORT", server.port().unwrap().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("bash is installed");
        let child = self.child.insert(child);
        let deadline = Instant::now() + PAGE_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn example_addresses_become_the_same_free_port_within_a_page() {
    let replaced = with_test_addresses("https://portal.example/x 127.0.0.1:8080 18080 80801 --port 9119", "");
    let words: Vec<_> = replaced.split(' ').collect();
    assert_eq!(words[0], format!("http://{}/x", words[1]));
    assert_eq!(words[2..4], ["18080", "80801"]);
    assert!(!words[1].ends_with(":8080") && words[5] != "9119", "{replaced}");
}
