//! A private Postgres: for `nas-cron dev`, and for tests, which run on the real engine.
//!
//! It is found among the installed ones, never downloaded. Everything lives in one folder:
//! `cluster/` (its data), `socket/`, `postgres.log`, and `nas-cron.lock`, which is held while it is in use.
//! The server speaks to its own user alone: over a Unix socket that nobody else may open, and, where TCP is
//! asked for, over loopback (there, to every user of the machine: connections are trusted).
//!
//! It never outlives its owner: dropping [`PrivatePostgres`] stops it, and a keeper process stops it when the
//! owner dies without a word (see `keeper`).
//!
//! All of it blocks, for a second at the start and for up to 20 s at a troubled stop: in async code, use
//! `spawn_blocking`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

mod error;
mod folder;
mod identity;
mod install;
mod keeper;
mod standby;
mod wire;

pub use error::PrivatePostgresError;
use identity::Identity;
use install::Installation;
use keeper::Keeper;
use wire::Probe;

type Result<T> = std::result::Result<T, PrivatePostgresError>;

/// The superuser, and the database that is there from the start.
const SUPERUSER: &str = "postgres";
/// How long a start may take, crash recovery included.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a previous server may take to leave the folder: its owner was killed, and it shuts down.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(12);
/// How long a fast shutdown may take before it becomes an immediate one, and that before it becomes a kill.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at a server that starts or stops.
const POLL: Duration = Duration::from_millis(10);

/// How a private Postgres is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder: a new or empty one, or one made by an earlier start, whose data is used again.
    pub data_dir: PathBuf,
    /// Whether a commit survives a crash of the machine. Without it, commits still survive a crash of the
    /// server, but measure nothing.
    pub durable: bool,
    /// Whether it can also be reached over TCP.
    pub tcp: Tcp,
    /// Further settings, as in `postgresql.conf`. They win over ours.
    pub settings: Vec<(String, String)>,
    /// Whether the folder goes when the server goes.
    pub remove_on_drop: bool,
}

/// Whether a private Postgres listens on 127.0.0.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tcp {
    /// Unix socket only.
    #[default]
    Off,
    /// On this port.
    Port(u16),
    /// On a free port, which stays the same over restarts.
    AnyPort,
}

impl Options {
    /// Durable, Unix socket only, in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durable: true,
            tcp: Tcp::Off,
            settings: Vec::new(),
            remove_on_drop: false,
        }
    }

    /// Not durable, in a new folder below the system's temporary one, which is removed in the end.
    pub fn temporary() -> Self {
        let data_dir =
            std::env::temp_dir().join(format!("{}{:016x}", folder::TEMPORARY, rand::random::<u64>()));
        Self { durable: false, remove_on_drop: true, ..Self::new(data_dir) }
    }
}

/// A running private Postgres. Dropping it stops it.
#[derive(Debug)]
pub struct PrivatePostgres {
    options: Options,
    installation: Installation,
    /// Whose processes they are, where they cannot be ours.
    identity: Option<Identity>,
    socket_dir: PathBuf,
    port: u16,
    keeper: Option<Keeper>,
    /// Held, not read.
    _lock: File,
}

impl PrivatePostgres {
    /// Sets up the folder, where that is still to be done, starts the server, and waits until it answers.
    pub fn start(options: Options) -> Result<Self> {
        Self::start_with(options, Self::init)
    }

    /// The same, where `init` makes the cluster of a new folder.
    fn start_with(options: Options, init: impl FnOnce(&Self, &Path) -> Result<()>) -> Result<Self> {
        let data_dir = std::path::absolute(&options.data_dir)
            .map_err(PrivatePostgresError::io("resolve", &options.data_dir))?;
        let options = Options { data_dir, ..options };
        let lock = folder::claim(&options.data_dir)?;
        if options.remove_on_drop
            && let Some(parent) = options.data_dir.parent()
        {
            folder::remove_abandoned(parent);
        }
        let cluster = options.data_dir.join("cluster");
        let version = fs::read_to_string(cluster.join("PG_VERSION")).ok();

        let installation = Installation::find(version.as_deref().map(str::trim))?;
        let identity = Identity::of_server(&cluster)?;
        folder::open_for(identity.as_ref(), &options.data_dir)?;
        if let Some(identity) = &identity {
            identity.check_can_enter(&options.data_dir)?;
            identity.check_can_enter(installation.bin_dir())?;
        }

        let port = match options.tcp {
            Tcp::Off => 5432,
            Tcp::Port(port) => port,
            Tcp::AnyPort => folder::free_port()?,
        };
        let socket_dir = folder::socket_dir(&options.data_dir, port);
        let mut this = Self { options, installation, identity, socket_dir, port, keeper: None, _lock: lock };
        if version.is_none() {
            init(&this, &cluster)?;
        }
        this.start_server()?;
        Ok(this)
    }

    /// A URL of `database` over the Unix socket, for sqlx and libpq alike. `postgres` exists from the start;
    /// others are made by [`Self::create_database`].
    pub fn url(&self, database: &str) -> String {
        let socket_dir = percent_encoded(&self.socket_dir.to_string_lossy());
        format!("{}?host={socket_dir}", self.url_at("localhost", database))
    }

    /// A URL of `database` over loopback TCP, if that is switched on.
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        (self.options.tcp != Tcp::Off).then(|| self.url_at("127.0.0.1", database))
    }

    fn url_at(&self, host: &str, database: &str) -> String {
        format!("postgres://{SUPERUSER}@{host}:{}/{}", self.port, percent_encoded(database))
    }

    /// The port of [`Self::tcp_url`]. Without TCP it only names the socket file.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that holds everything.
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// Makes the database if it is not there. Answers whether it was made.
    pub fn create_database(&self, name: &str) -> Result<bool> {
        wire::create_database(&self.socket(), name)
    }

    /// Whether the server process is there.
    pub fn is_running(&mut self) -> bool {
        self.keeper.as_mut().is_some_and(Keeper::is_running)
    }

    /// Starts the server if it does not run, on the same folder, socket and port as before, and waits until it
    /// answers. For tests of faults: [`Self::start`] has done it already.
    pub fn start_server(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let patience = Instant::now() + PREDECESSOR_LIMIT;
        loop {
            // A server whose owner was killed, or backends of a killed server, are about to go.
            if !folder::is_served(&self.cluster()) {
                match self.launch() {
                    Err(PrivatePostgresError::Exited { log }) if folder::is_predecessor_in_the_way(&log) => {
                        if folder::remove_stale_pid_file(&self.cluster()) {
                            continue;
                        }
                    }
                    result => return result,
                }
            }
            if Instant::now() > patience {
                return Err(PrivatePostgresError::InUse { folder: self.options.data_dir.clone() });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Stops the server and keeps all else, for a later [`Self::start_server`]. Open connections end at once;
    /// what was committed is on disk. Nothing happens if it does not run.
    pub fn stop_server(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        for signal in ["INT", "QUIT", "KILL"] {
            keeper.signal(signal);
            if keeper.wait(STOP_LIMIT) {
                return;
            }
        }
    }

    /// Kills the server with SIGKILL, as the kernel does when memory runs out. The next start recovers.
    pub fn kill9(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.signal("KILL");
            keeper.wait(STOP_LIMIT);
        }
    }

    /// Stops the server: fast (10 s at most), then immediately (10 s at most), then by force.
    pub fn stop(self) {
        drop(self);
    }

    fn cluster(&self) -> PathBuf {
        self.options.data_dir.join("cluster")
    }

    fn socket(&self) -> PathBuf {
        self.socket_dir.join(folder::socket_name(self.port))
    }

    fn log_path(&self) -> PathBuf {
        self.options.data_dir.join("postgres.log")
    }

    /// A program of the installation, run as the server's user and untouched by the caller's settings.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        // The C locale keeps the messages that are searched below in English.
        command.env("LC_ALL", "C").current_dir(&self.options.data_dir);
        if let Some(identity) = &self.identity {
            identity.assume(&mut command);
        }
        command
    }

    /// `initdb`.
    fn init(&self, cluster: &Path) -> Result<()> {
        self.make_cluster(cluster, |unfinished| {
            let mut initdb = self.command(self.installation.initdb());
            initdb.arg("-D").arg(unfinished);
            initdb.args(["-U", SUPERUSER, "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8"]);
            initdb
        })
    }

    /// Runs a command that makes a cluster, beside its final place, so that an interrupted one leaves nothing that
    /// looks finished.
    fn make_cluster(&self, cluster: &Path, command: impl FnOnce(&Path) -> Command) -> Result<()> {
        let unfinished = self.options.data_dir.join("cluster.new");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PrivatePostgresError::io("remove", &unfinished)(error));
            }
            _ => {}
        }
        self.make_dir(&unfinished)?;
        let mut command = command(&unfinished);
        let program = PathBuf::from(command.get_program());
        let output = command.output().map_err(PrivatePostgresError::io("run", &program))?;
        if !output.status.success() {
            let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = [output.stdout, output.stderr].concat();
            return Err(PrivatePostgresError::Init { program, output: error::tail(&text) });
        }
        fs::rename(&unfinished, cluster).map_err(PrivatePostgresError::io("rename", &unfinished))
    }

    /// A folder that the server's user owns and nobody else sees.
    fn make_dir(&self, dir: &Path) -> Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !dir.is_symlink() => {}
            result => result.map_err(PrivatePostgresError::io("create", dir))?,
        }
        if let Some(identity) = &self.identity {
            identity.take_over(dir)?;
        }
        Ok(())
    }

    /// One try to start the server.
    fn launch(&mut self) -> Result<()> {
        self.make_dir(&self.socket_dir)?;
        let log_path = self.log_path();
        let log = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log_path)
            .map_err(PrivatePostgresError::io("open", &log_path))?;
        let old_log_bytes = log.metadata().map_or(0, |metadata| metadata.len());
        let log_since = || error::log_tail(&log_path, old_log_bytes);

        let mut command = self.command("/bin/sh");
        // Outside of the data folder, nobody else removes it.
        let own_dir = self.socket_dir.starts_with(&self.options.data_dir);
        let litter = if own_dir { Path::new("") } else { &self.socket_dir };
        Keeper::prepare(&mut command, litter, &self.installation.postgres());
        command.arg("-D").arg(self.cluster()).arg("-k").arg(&self.socket_dir);
        command.args(["-p", &self.port.to_string()]);
        for (name, value) in self.settings() {
            command.args(["-c", &format!("{name}={value}")]);
        }
        let socket = self.socket();
        let keeper = self.keeper.insert(Keeper::spawn(command, log)?);

        let deadline = Instant::now() + START_LIMIT;
        loop {
            // Whether it is gone is asked first: an answer could come from a server that is in its way.
            let gone = !keeper.is_running();
            if gone {
                self.keeper = None;
                return Err(PrivatePostgresError::Exited { log: log_since() });
            }
            match wire::probe(&socket) {
                Probe::Ready => return Ok(()),
                Probe::NotYet if Instant::now() < deadline => std::thread::sleep(POLL),
                Probe::NotYet => {
                    self.stop_server();
                    return Err(PrivatePostgresError::NotReady { limit: START_LIMIT, log: log_since() });
                }
            }
        }
    }

    /// In the order of their weight: later ones win.
    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let listen = if self.options.tcp == Tcp::Off { "" } else { "127.0.0.1" };
        let switch = if self.options.durable { "on" } else { "off" };
        [
            ("listen_addresses", listen),
            ("unix_socket_permissions", "0700"),
            ("fsync", switch),
            ("full_page_writes", switch),
            ("cluster_name", "nas-cron"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("log_destination", "stderr"),
            ("logging_collector", "off"),
        ]
        .into_iter()
        .chain(self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.stop_server();
        if self.options.remove_on_drop {
            // Nobody is left to tell, and a leftover in the temporary folder does no harm.
            let _ = fs::remove_dir_all(&self.options.data_dir);
        }
    }
}

/// All but the letters, digits and marks that mean nothing in any part of a URL.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests;
