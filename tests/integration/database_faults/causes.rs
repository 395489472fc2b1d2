//! `serve`, `doctor` and every command soon report the cause if the database is unusable.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nas_cron_dev::private_postgres::{Options, PrivatePostgres};
use nas_cron_testing::database::server_options;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::ports::free_address;
use nas_cron_testing::service::Settings;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The promise is 10 s; a machine that is busy with other tests gets 20 s more.
const LIMIT: Duration = Duration::from_secs(30);
const COMMANDS: [&[&str]; 4] = [&["serve"], &["doctor"], &["jobs", "list"], &["migrate"]];

/// Runs a command until its output contains one of these words, and returns the output. `serve` may continue.
pub(super) async fn reports(settings: &Settings, command: &[&str], words: &[&str]) -> String {
    let mut command_line = tokio::process::Command::from(settings.command(command));
    command_line.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command_line.spawn().unwrap();
    let said = Arc::new(Mutex::new(String::new()));
    let readers = [
        tokio::spawn(listen(child.stdout.take().unwrap(), Arc::clone(&said))),
        tokio::spawn(listen(child.stderr.take().unwrap(), Arc::clone(&said))),
    ];
    let begun = Instant::now();
    loop {
        let ended = readers.iter().all(tokio::task::JoinHandle::is_finished);
        let output = said.lock().unwrap().clone();
        let lower = output.to_lowercase();
        if words.iter().any(|word| lower.contains(&word.to_lowercase())) {
            println!("{command:?} after {:?}: {output}", begun.elapsed());
            return output;
        }
        assert!(!ended, "{command:?} ended after {:?} without any of {words:?}: {output}", begun.elapsed());
        assert!(begun.elapsed() < LIMIT, "{command:?} reports none of {words:?}: {output}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn listen(mut from: impl AsyncRead + Unpin, said: Arc<Mutex<String>>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        said.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

async fn every_command_reports(url: &str, words: &[&str]) {
    let portal = Portal::start().await;
    let settings = Settings::new(url, &portal);
    for command in COMMANDS {
        reports(&settings, command, words).await;
    }
}

fn url_at(address: SocketAddr) -> String {
    format!("postgres://postgres:SECRET@{address}/nas_cron")
}

#[tokio::test]
async fn refused_connection_is_reported() {
    every_command_reports(&url_at(free_address()), &["connection refused"]).await;
}

/// The server accepts connections, and never sends a byte.
#[tokio::test]
async fn silent_server_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_at(listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    every_command_reports(&url, &["did not answer", "no answer", "timed out", "no reply"]).await;
    silent.abort();
}

/// The connection is never acknowledged: the listener's queue is full, so the kernel drops every further SYN.
#[tokio::test]
async fn address_that_drops_packets_is_reported() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await
    {
        queued.push(connected.unwrap());
        assert!(queued.len() < 100, "the queue never fills");
    }
    every_command_reports(&url_at(address), &["did not answer", "no answer", "timed out", "no reply"]).await;
    drop((listener, queued));
}

async fn own_server(settings: &[(&str, &str)]) -> PrivatePostgres {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut options = server_options();
    options.settings.extend(settings);
    tokio::task::spawn_blocking(move || start(options)).await.unwrap()
}

fn start(options: Options) -> PrivatePostgres {
    PrivatePostgres::start(options).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_password_is_reported() {
    let server = own_server(&[]).await;
    server.execute("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'right'").unwrap();
    // The first matching rule applies.
    let rules = server.data_dir().join("cluster/pg_hba.conf");
    let others = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all guarded 127.0.0.1/32 scram-sha-256\n{others}")).unwrap();
    server.execute("SELECT pg_reload_conf()").unwrap();
    let url = format!("postgres://guarded:WRONG@127.0.0.1:{}/postgres", server.port());
    every_command_reports(&url, &["password authentication failed"]).await;
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhausted_server_is_reported() {
    let server = own_server(&[("max_connections", "12")]).await;
    let url = server.tcp_url("postgres").unwrap();
    let mut held = Vec::new();
    // On a busy machine an attempt may fail for another reason, and a session that has ended may not have left yet.
    let (begun, mut refusals) = (Instant::now(), 0);
    while refusals < 3 {
        match PgConnection::connect(&url).await {
            Ok(connection) => held.push(connection),
            Err(error) if error.to_string().contains("too many clients") => {
                refusals += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => assert!(begun.elapsed() < LIMIT, "{error}"),
        }
    }
    assert!(held.len() > 5, "{} connections", held.len());
    every_command_reports(&url, &["too many clients", "too many connections", "connection slots"]).await;
    drop(held);
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}
