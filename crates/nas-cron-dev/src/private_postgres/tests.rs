//! Tests with real servers. They need an installed Postgres; as root they also cover the change of user.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use sqlx::{Connection, PgConnection, Row};

use super::*;

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(Options::temporary().data_dir)
    }

    fn options(&self) -> Options {
        Options { durable: false, ..Options::new(&self.0) }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the first column of the last statement's first row, as text.
async fn ask(url: &str, statements: &[&'static str]) -> std::result::Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let mut answer = String::new();
    for statement in statements {
        let row = sqlx::query(*statement).fetch_optional(&mut connection).await?;
        answer = row.map(|row| row.get(0)).unwrap_or_default();
    }
    connection.close().await?;
    Ok(answer)
}

#[tokio::test]
async fn data_survives_stops_kills_and_starts() {
    let folder = Folder::new();
    let mut postgres = PrivatePostgres::start(folder.options()).expect("a server");
    let name = "odd \"name\" ü/?";
    assert!(postgres.create_database(name).expect("a database"));
    assert!(!postgres.create_database(name).expect("a database"));
    let url = postgres.url(name);
    assert_eq!(ask(&url, &["SELECT current_database()::text"]).await.expect("an answer"), name);
    ask(&url, &["CREATE TABLE t (x text)", "INSERT INTO t VALUES ('kept')"]).await.expect("a table");

    postgres.stop_server();
    assert!(!postgres.is_running());
    ask(&url, &["SELECT 1::text"]).await.expect_err("no server");
    postgres.start_server().expect("a server");
    postgres.start_server().expect("starting a running server does nothing");
    assert_eq!(ask(&url, &["SELECT x FROM t"]).await.expect("an answer"), "kept");

    for _ in 0..3 {
        ask(&url, &["UPDATE t SET x = x || '!'"]).await.expect("an update");
        postgres.kill9();
        assert!(!postgres.is_running());
        postgres.start_server().expect("a server");
    }
    assert_eq!(ask(&url, &["SELECT x FROM t"]).await.expect("an answer"), "kept!!!");

    // While it runs, no other server can use the folder; afterwards one can, with its data.
    let second = PrivatePostgres::start(folder.options());
    assert!(matches!(second, Err(PrivatePostgresError::InUse { .. })), "{second:?}");
    assert_eq!(ask(&url, &["SELECT x FROM t"]).await.expect("an answer"), "kept!!!");
    postgres.stop();
    let postgres = PrivatePostgres::start(folder.options()).expect("a server");
    assert_eq!(postgres.url(name), url);
    assert_eq!(ask(&url, &["SELECT x FROM t"]).await.expect("an answer"), "kept!!!");
}

#[tokio::test]
async fn start_after_a_kill_waits_for_busy_backends() {
    let mut postgres = PrivatePostgres::start(Options::temporary()).expect("a server");
    let url = postgres.url("postgres");
    // A busy backend does not notice the end of its postmaster.
    let busy = {
        let url = url.clone();
        let long = "SELECT count(*)::text FROM generate_series(1, 3000) a, generate_series(1, 3000) b";
        tokio::spawn(async move { ask(&url, &[long]).await })
    };
    let others = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%3000%' AND query NOT LIKE '%LIKE%' \
                  AND state = 'active'";
    while ask(&url, &[others]).await.expect("an answer") != "1" {
        assert!(!busy.is_finished(), "the statement ended too soon");
    }
    postgres.kill9();
    postgres.start_server().expect("a server");
    assert_eq!(ask(&url, &["SELECT 'yes'"]).await.expect("an answer"), "yes");
}

#[tokio::test]
async fn settings_are_applied() {
    for durable in [true, false] {
        let settings = vec![("max_connections".to_owned(), "17".to_owned())];
        let options = Options { durable, tcp: Tcp::AnyPort, settings, ..Options::temporary() };
        let postgres = PrivatePostgres::start(options).expect("a server");
        let tcp_url = postgres.tcp_url("postgres").expect("a URL");
        for url in [postgres.url("postgres"), tcp_url] {
            for (setting, value) in [
                ("SHOW fsync", if durable { "on" } else { "off" }),
                ("SHOW full_page_writes", if durable { "on" } else { "off" }),
                ("SHOW synchronous_commit", "on"),
                ("SHOW max_connections", "17"),
                ("SHOW listen_addresses", "127.0.0.1"),
                ("SHOW server_encoding", "UTF8"),
                ("SHOW lc_collate", "C"),
                ("SHOW timezone", "UTC"),
            ] {
                // Postgres 16 and later have no lc_collate.
                match ask(&url, &[setting]).await {
                    Ok(answer) => assert_eq!(answer, value, "{setting}"),
                    Err(error) => assert!(setting == "SHOW lc_collate", "{setting}: {error}"),
                }
            }
        }
    }
}

#[test]
fn temporary_server_leaves_nothing_behind() {
    let postgres = PrivatePostgres::start(Options::temporary()).expect("a server");
    let data_dir = postgres.data_dir().to_owned();
    let mode = |path: &Path| fs::metadata(path).expect("a folder").mode() & 0o777;
    assert_eq!(mode(&data_dir.join("cluster")), 0o700);
    assert_eq!(mode(&data_dir.join("socket")), 0o700);
    assert_eq!(mode(&postgres.log_path()), 0o600);
    assert_eq!(postgres.tcp_url("postgres"), None);
    drop(postgres);
    assert!(!data_dir.exists());
}

#[test]
fn server_runs_in_a_separate_process_group() {
    let postgres = PrivatePostgres::start(Options::temporary()).expect("a server");
    let pid_file = fs::read_to_string(postgres.cluster().join("postmaster.pid")).expect("a running server");
    let pid =
        pid_file.lines().next().and_then(|line| line.parse().ok()).and_then(rustix::process::Pid::from_raw);
    let group = rustix::process::getpgid(pid).expect("a group");
    assert_ne!(group, rustix::process::getpgrp());
}

#[tokio::test]
async fn long_path_gets_a_short_socket_folder_that_is_removed_with_the_server() {
    let folder = Folder::new();
    let data_dir = folder.0.join("x".repeat(60)).join("y z".repeat(20));
    let options = Options { data_dir, ..folder.options() };
    let mut postgres = PrivatePostgres::start(options).expect("a server");
    let socket_dir = postgres.socket_dir.clone();
    assert!(postgres.socket().as_os_str().len() <= 107 && !socket_dir.starts_with(&folder.0));
    let url = postgres.url("postgres");
    assert_eq!(ask(&url, &["SELECT 'yes'"]).await.expect("an answer"), "yes");
    for kill in [false, true] {
        if kill {
            postgres.kill9();
        } else {
            postgres.stop_server();
        }
        assert!(!socket_dir.exists());
        postgres.start_server().expect("a server");
        assert_eq!(ask(&url, &["SELECT 'yes'"]).await.expect("an answer"), "yes");
    }
    drop(postgres);
    assert!(!socket_dir.exists());
}

#[test]
fn folder_with_other_files_is_left_alone() {
    let folder = Folder::new();
    fs::create_dir(&folder.0).expect("a folder");
    fs::write(folder.0.join("thesis.txt"), "all of it").expect("a file");
    let mode = fs::metadata(&folder.0).expect("a folder").mode();
    let result = PrivatePostgres::start(folder.options());
    assert!(matches!(result, Err(PrivatePostgresError::NotOurs { .. })), "{result:?}");
    assert_eq!(fs::read_dir(&folder.0).expect("a folder").count(), 1);
    assert_eq!(fs::metadata(&folder.0).expect("a folder").mode(), mode);
}

#[test]
fn error_names_the_folder_that_the_servers_user_cannot_enter() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let closed = folder.0.join("closed");
    fs::create_dir_all(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("a mode");
    let options = Options { data_dir: closed.join("deep/data"), ..folder.options() };
    match PrivatePostgres::start(options) {
        Err(PrivatePostgresError::NotTraversable { folder, .. }) => assert_eq!(folder, closed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn failed_start_reports_the_log() {
    let folder = Folder::new();
    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    match PrivatePostgres::start(Options { settings, ..folder.options() }) {
        Err(PrivatePostgresError::Exited { log }) => assert!(log.contains("no_such_setting"), "{log}"),
        other => panic!("{other:?}"),
    }
    // The folder remains usable.
    PrivatePostgres::start(folder.options()).expect("a server");
}

#[test]
fn interrupted_setup_is_repeated() {
    let folder = Folder::new();
    drop(PrivatePostgres::start(folder.options()).expect("a server"));
    fs::rename(folder.0.join("cluster"), folder.0.join("cluster.new")).expect("a partial cluster");
    fs::remove_file(folder.0.join("cluster.new/global/pg_control")).expect("a partial cluster");
    PrivatePostgres::start(folder.options()).expect("a server");
}

#[test]
fn stale_pid_file_does_not_prevent_a_start() {
    let folder = Folder::new();
    let mut postgres = PrivatePostgres::start(folder.options()).expect("a server");
    postgres.stop_server();
    // Its process id now belongs to another program of the same user; `cat` waits for its input.
    let mut command = postgres.command("/bin/cat");
    let mut other = command.current_dir("/").stdin(Stdio::piped()).spawn().expect("another program");
    let pid_file = postgres.cluster().join("postmaster.pid");
    fs::write(&pid_file, format!("{}\n{}\n", other.id(), postgres.cluster().display())).expect("a file");
    postgres.start_server().expect("a server");
    drop(other.stdin.take());
    other.wait().expect("the other program ends");

    // The same for a process that has ended.
    postgres.stop_server();
    fs::write(&pid_file, format!("{}\n", other.id())).expect("a file");
    postgres.start_server().expect("a server");
}

const OWNER_FOLDER: &str = "NAS_CRON_TEST_OWNED_FOLDER";

/// Not a test: the process that the next test kills.
#[test]
#[ignore = "started by server_stops_when_its_owner_is_killed"]
fn owner_of_a_server() {
    let Some(data_dir) = std::env::var_os(OWNER_FOLDER) else { return };
    let postgres = PrivatePostgres::start(Options::new(data_dir)).expect("a server");
    let mut out = nas_cron_base::output::stdout();
    writeln!(out, "\nsocket {}", postgres.socket().display()).expect("a pipe");
    out.flush().expect("a pipe");
    // Blocks until the process is killed.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn server_stops_when_its_owner_is_killed() {
    let folder = Folder::new();
    let (_, module) = module_path!().split_once("::").expect("a crate");
    let mut owner = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--nocapture", "--exact", &format!("{module}::owner_of_a_server")])
        .env(OWNER_FOLDER, &folder.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("an owner");
    let mut lines = BufReader::new(owner.stdout.take().expect("a pipe")).lines().map_while(io::Result::ok);
    let socket = lines.find_map(|line| Some(line.strip_prefix("socket ")?.to_owned())).expect("a socket");

    // This connection ends with the server.
    let mut session = wire::Session::open(Path::new(&socket), START_LIMIT).expect("a connection");
    owner.kill().expect("SIGKILL");
    owner.wait().expect("an end");
    let end = session.until_ready().expect_err("the connection ended").to_string();
    assert!(end.contains("57P01"), "a fast shutdown, not a crash: {end}");

    // The folder is free again as soon as the server has left it.
    let postgres = PrivatePostgres::start(folder.options()).expect("a server");
    let log = fs::read_to_string(postgres.log_path()).expect("a log");
    assert!(log.contains("database system is shut down") && !log.contains("not properly shut down"), "{log}");
}
