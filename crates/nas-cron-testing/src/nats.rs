//! Real NATS servers: one, or a cluster of three, on free ports. They are removed when the test process ends.
//!
//! `make nats` installs the binary. A shell starts each server and kills it when this process ends, also if it is killed:
//! the shell waits for the end of a pipe that this process holds.

mod credentials;
mod network;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::{ServerAddr, jetstream};
use nas_cron::backends::nats::NatsOptions;
use serde_json::{Value, json};

use crate::ports::free_address;
use crate::time::PATIENCE;

use self::credentials::{write_certificates, write_credentials};
use self::network::Network;

/// The shell script. `"$@"` is the server's command line. Descriptor 3 is the pipe; its end kills the server.
const KEEPER: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{ while read -r signal; do kill -s "$signal" "$server"; done; kill -s KILL "$server"; } <&3 3<&- 2>/dev/null &
reader=$!
exec 3<&-
wait "$server"
kill "$reader" 2>/dev/null
"#;

/// Authentication of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// None.
    Open,
    /// The token [`TOKEN`].
    Token,
    /// [`USER`] with [`PASSWORD`], which may only publish to [`MAY_PUBLISH`].
    User,
    /// The credentials in [`NatsServers::credentials_file`].
    Credentials,
}

/// Setup of the servers.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Authentication of clients.
    pub login: Login,
    /// True for mutual TLS, with certificates of a private authority ([`NatsServers::ca_file`]).
    pub tls: bool,
    /// Number of servers: 1, or 3 as a cluster.
    pub servers: usize,
    /// True for the last version without scheduled messages.
    pub old: bool,
}

impl Setup {
    /// One server without authentication.
    pub const OPEN: Self = Self { login: Login::Open, tls: false, servers: 1, old: false };
    /// A cluster of three servers without authentication.
    pub const CLUSTER: Self = Self { login: Login::Open, tls: false, servers: 3, old: false };
}

/// The token of [`Login::Token`].
pub const TOKEN: &str = "a-token-of-the-tests";
/// The user of [`Login::User`].
pub const USER: &str = "nas-cron";
/// The password of [`Login::User`].
pub const PASSWORD: &str = "a-password-of-the-tests";

/// The subjects that nas-cron publishes to with the default names. It subscribes to `_INBOX.>`.
pub const MAY_PUBLISH: &[&str] = &[
    "nas-cron.schedule.*",
    "$JS.API.STREAM.INFO.NAS_CRON",
    "$JS.API.STREAM.CREATE.NAS_CRON",
    "$JS.API.STREAM.PURGE.NAS_CRON",
    "$JS.API.CONSUMER.INFO.NAS_CRON.nas-cron",
    "$JS.API.CONSUMER.CREATE.NAS_CRON.nas-cron.nas-cron.wake",
    "$JS.API.CONSUMER.MSG.NEXT.NAS_CRON.nas-cron",
    "$JS.ACK.NAS_CRON.nas-cron.>",
];

/// Running servers. Dropping this kills them and removes their data.
pub struct NatsServers {
    setup: Setup,
    dir: PathBuf,
    nodes: Vec<Node>,
    /// The hosts of the servers, or the reason why they run on this one.
    network: Result<Network, &'static str>,
}

struct Node {
    client: SocketAddr,
    monitor: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    running: Option<Keeper>,
}

/// A shell and the server that it has started.
struct Keeper {
    shell: Child,
    pipe: ChildStdin,
}

impl NatsServers {
    /// Starts one server without authentication.
    pub async fn one() -> Self {
        Self::start(Setup::OPEN).await
    }

    /// Starts a cluster of three servers without authentication, and waits until `JetStream` has a leader.
    pub async fn cluster() -> Self {
        Self::start(Setup::CLUSTER).await
    }

    /// Starts servers and waits until their `JetStream` is ready.
    pub async fn start(setup: Setup) -> Self {
        let mut servers = Self::prepare(setup);
        servers.start_all().await;
        servers
    }

    /// Like [`Self::cluster`], with a network namespace for each server where that is possible
    /// ([`Self::why_no_partition`]), so that a server can lose its network.
    pub async fn cluster_of_hosts() -> Self {
        let network = Network::new(Setup::CLUSTER.servers);
        let mut servers = Self::prepare_in(Setup::CLUSTER, network);
        servers.start_all().await;
        servers
    }

    async fn start_all(&mut self) {
        for i in 0..self.nodes.len() {
            self.launch(i);
        }
        for i in 0..self.nodes.len() {
            self.recovered(i).await;
        }
    }

    /// Chooses ports and writes the configuration of the servers without starting them: [`Self::restart`] does.
    pub fn prepare(setup: Setup) -> Self {
        Self::prepare_in(setup, Err("the servers run on this host"))
    }

    fn prepare_in(setup: Setup, network: Result<Network, &'static str>) -> Self {
        let address = |i, port| match &network {
            Ok(network) => SocketAddr::new(network.address(i), port),
            Err(_) => free_address(),
        };
        let dir = std::env::temp_dir().join(format!("nas-cron-nats-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&dir).unwrap();
        let routes: Vec<SocketAddr> = (0..setup.servers).map(|i| address(i, 6222)).collect();
        if setup.tls {
            write_certificates(&dir);
        }
        let login = match setup.login {
            Login::Open => String::new(),
            Login::Token => format!("authorization {{ token: \"{TOKEN}\" }}\n"),
            Login::User => {
                let may = json!({ "publish": MAY_PUBLISH, "subscribe": ["_INBOX.>"] });
                let user = json!({ "user": USER, "password": PASSWORD, "permissions": may });
                format!("authorization {{ users: [{user}] }}\n")
            }
            Login::Credentials => write_credentials(&dir),
        };
        let nodes = (0..setup.servers)
            .map(|i| {
                let (client, monitor) = (address(i, 4222), address(i, 8222));
                let store = dir.join(format!("store-{i}"));
                let mut config = format!(
                    "server_name: n{i}\nlisten: \"{client}\"\nhttp: \"{monitor}\"\n\
                     jetstream {{ store_dir: \"{}\" }}\n{login}",
                    store.display()
                );
                if setup.tls {
                    let _ = writeln!(
                        config,
                        "tls {{ cert_file: \"{0}/server.pem\", key_file: \"{0}/server.key\", \
                         ca_file: \"{0}/ca.pem\", verify: true }}",
                        dir.display()
                    );
                }
                if setup.servers > 1 {
                    let routes_of_all: Vec<String> =
                        routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
                    let _ = writeln!(
                        config,
                        "cluster {{ name: tests, listen: \"{}\", routes: [{}] }}",
                        routes[i],
                        routes_of_all.join(", ")
                    );
                }
                let path = dir.join(format!("n{i}.conf"));
                std::fs::write(&path, config).unwrap();
                Node { client, monitor, config: path, log: dir.join(format!("n{i}.log")), running: None }
            })
            .collect();
        Self { setup, dir, nodes, network }
    }

    /// Returns the client URLs of all servers.
    pub fn urls(&self) -> Vec<String> {
        let scheme = if self.setup.tls { "tls" } else { "nats" };
        self.nodes.iter().map(|node| format!("{scheme}://{}", node.client)).collect()
    }

    /// Returns the client address of a server.
    pub fn address(&self, i: usize) -> SocketAddr {
        self.nodes[i].client
    }

    /// Returns valid options for these servers: URLs, login, certificates, and a replica on every server.
    pub fn options(&self) -> NatsOptions {
        let mut options = NatsOptions { replicas: self.nodes.len(), ..NatsOptions::new(self.urls()) };
        match self.setup.login {
            Login::Open => {}
            Login::Token => options.token = Some(TOKEN.into()),
            Login::User => {
                options.user = Some(USER.to_owned());
                options.password = Some(PASSWORD.into());
            }
            Login::Credentials => options.credentials_file = Some(self.credentials_file()),
        }
        if self.setup.tls {
            options.tls_ca_file = Some(self.ca_file());
            options.tls_cert_file = Some(self.dir.join("client.pem"));
            options.tls_key_file = Some(self.dir.join("client.key"));
        }
        options
    }

    /// Returns the credentials file of a user of the servers' account, for [`Login::Credentials`].
    pub fn credentials_file(&self) -> PathBuf {
        self.dir.join("user.creds")
    }

    /// Returns a valid credentials file of a user that the servers do not know, for [`Login::Credentials`].
    pub fn foreign_credentials_file(&self) -> PathBuf {
        self.dir.join("foreign.creds")
    }

    /// Returns the certificate of the authority that signed the servers' certificates, for TLS.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Returns the certificate of another authority, for TLS.
    pub fn foreign_ca_file(&self) -> PathBuf {
        self.dir.join("foreign-ca.pem")
    }

    /// Connects a separate client, to servers without authentication.
    pub async fn client(&self) -> async_nats::Client {
        let addresses: Vec<ServerAddr> = self.urls().iter().map(|url| url.parse().unwrap()).collect();
        async_nats::connect(addresses).await.unwrap()
    }

    /// Returns `JetStream` through a separate client.
    pub async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client().await)
    }

    /// Returns the number of messages in a stream: schedules, and wake-ups that are not acknowledged. 0 without the stream.
    pub async fn messages(&self, stream: &str) -> usize {
        match self.jetstream().await.get_stream(stream).await {
            Ok(stream) => usize::try_from(stream.cached_info().state.messages).unwrap(),
            Err(_) => 0,
        }
    }

    /// Kills a server with SIGKILL, as a power failure would.
    pub async fn kill(&mut self, i: usize) {
        let keeper = self.nodes[i].running.take().expect("it runs");
        tokio::task::spawn_blocking(move || keeper.kill()).await.unwrap();
    }

    /// Stops a server with SIGSTOP: until [`Self::resume`] it keeps its connections but does not respond.
    pub fn pause(&mut self, i: usize) {
        self.nodes[i].running.as_mut().expect("it runs").signal("STOP");
    }

    /// Resumes a server with SIGCONT.
    pub fn resume(&mut self, i: usize) {
        self.nodes[i].running.as_mut().expect("it runs").signal("CONT");
    }

    /// Restarts a server at its address and with its data, and waits until it has caught up.
    pub async fn restart(&mut self, i: usize) {
        self.launch(i);
        self.recovered(i).await;
    }

    /// Returns the reason why no server can be partitioned, if so.
    pub fn why_no_partition(&self) -> Option<&'static str> {
        self.network.as_ref().err().copied()
    }

    /// Takes the network from a server: no data reaches it or comes from it, and no connection closes. The servers must be
    /// [`Self::cluster_of_hosts`].
    pub fn partition(&mut self, i: usize) {
        self.network.as_ref().expect("the servers have hosts").cut(i);
    }

    /// Gives the network back.
    pub fn reunite(&mut self, i: usize) {
        self.network.as_ref().expect("the servers have hosts").restore(i);
    }

    /// Returns the server that leads a stream, after an election if one is under way.
    pub async fn leader(&self, stream: &str) -> usize {
        let jetstream = self.jetstream().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = match jetstream.get_stream(stream).await {
                Ok(stream) => {
                    stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone())
                }
                Err(_) => None,
            };
            if let Some(leader) = leader {
                let number = leader.strip_prefix('n').and_then(|i| i.parse().ok());
                return number.expect("the name of one of these servers");
            }
            assert!(Instant::now() < deadline, "{stream} has no leader");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn launch(&mut self, i: usize) {
        let old = self.setup.old;
        let node = &mut self.nodes[i];
        assert!(node.running.is_none(), "it runs already");
        let binary =
            crate::in_target(if old { "nats-venv/old/bin/nats-server" } else { "nats-venv/bin/nats-server" });
        assert!(binary.exists(), "{} is missing: run `make nats`", binary.display());
        let log = std::fs::File::options().create(true).append(true).open(&node.log).unwrap();
        let mut shell = match &self.network {
            Ok(network) => network.command(i, "/bin/sh"),
            Err(_) => Command::new("/bin/sh"),
        };
        let mut shell = shell
            .args(["-c", KEEPER, "nas-cron-nats"])
            .arg(binary)
            .arg("-c")
            .arg(&node.config)
            // A separate process group: a ^C must only stop this process, which then stops the server.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pipe = shell.stdin.take().unwrap();
        node.running = Some(Keeper { shell, pipe });
    }

    /// Waits until `JetStream` has a leader and this server has caught up.
    pub async fn recovered(&mut self, i: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let node = &mut self.nodes[i];
            let gone = node.running.as_mut().is_none_or(|keeper| keeper.shell.try_wait().unwrap().is_some());
            let (client, monitor, alone) = (node.client, node.monitor, self.setup.servers == 1);
            // A server reports healthy before it listens for clients.
            let ready = move || is_ready(monitor, alone) && greets(client);
            let ready = tokio::task::spawn_blocking(ready).await.unwrap();
            if ready && !gone {
                return;
            }
            assert!(
                !gone && Instant::now() < deadline,
                "server {i} is not ready (gone: {gone}):\n{}",
                std::fs::read_to_string(&self.nodes[i].log).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for NatsServers {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(keeper) = node.running.take() {
                keeper.kill();
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Keeper {
    /// Sends a signal to the server. The pipe is closed if the server has ended.
    fn signal(&mut self, name: &str) {
        let _ = writeln!(self.pipe, "{name}");
    }

    /// Kills the server and waits for its end.
    fn kill(mut self) {
        self.signal("KILL");
        let _ = self.shell.wait();
    }
}

/// True if the server is healthy and, unless it is alone, in a complete cluster with a leader.
fn is_ready(monitor: SocketAddr, alone: bool) -> bool {
    let healthy = get(monitor, "/healthz").is_some_and(|health| health["status"] == "ok");
    healthy
        && (alone
            || get(monitor, "/jsz").is_some_and(|js| {
                let cluster = &js["meta_cluster"];
                cluster["leader"].as_str().is_some_and(|leader| !leader.is_empty())
                    && cluster["cluster_size"] == 3
            }))
}

/// True if the server greets clients.
fn greets(client: SocketAddr) -> bool {
    let Ok(mut connection) = TcpStream::connect_timeout(&client, Duration::from_secs(1)) else {
        return false;
    };
    let mut greeting = [0; 4];
    connection.set_read_timeout(Some(Duration::from_secs(10))).is_ok()
        && connection.read_exact(&mut greeting).is_ok()
        && &greeting == b"INFO"
}

/// Gets JSON from the server's monitoring endpoint.
fn get(monitor: SocketAddr, path: &str) -> Option<Value> {
    let mut connection = TcpStream::connect_timeout(&monitor, Duration::from_secs(1)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(connection, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
