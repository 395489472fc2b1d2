//! A private Postgres server, for `nas-cron dev` and for tests.
//!
//! It uses an installed Postgres and downloads nothing. One folder contains everything: `cluster/` (the data), `socket/`,
//! `postgres.log`, and `nas-cron.lock`, which is locked while the server is in use. The server listens on a Unix socket
//! that only its own user may open and, if TCP is requested, on loopback. There it trusts the connections of all users
//! of the machine.
//!
//! It never outlives its owner: dropping [`PrivatePostgres`] stops it, and a keeper process stops it if the owner is
//! killed (see `keeper`).
//!
//! All functions block, for about a second at the start and for up to 20 s if the server is slow to stop. In async code,
//! use `spawn_blocking`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod error;
mod folder;
mod identity;
mod install;
mod keeper;
mod programs;
mod standby;
mod wire;

pub use error::PrivatePostgresError;
pub use folder::is_in_use;
use identity::Identity;
pub use identity::can_enter;
use install::Installation;
use keeper::Keeper;

type Result<T> = std::result::Result<T, PrivatePostgresError>;

/// Name of the superuser, and of the database that exists from the start.
const SUPERUSER: &str = "postgres";
/// Maximum time for a start, including crash recovery.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Maximum time for a previous server, whose owner was killed, to shut down and leave the folder.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(12);
/// Maximum time for a fast shutdown, and then for an immediate one, before the next step.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Interval between checks of a server that starts or stops.
const POLL: Duration = Duration::from_millis(10);

/// Options of a private Postgres.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder: a new or empty one, or that of an earlier start, whose data is reused.
    pub data_dir: PathBuf,
    /// True if commits survive a crash of the machine. Otherwise they survive only a crash of the server, and their
    /// latency is not representative.
    pub durable: bool,
    /// TCP listener.
    pub tcp: Tcp,
    /// Folder of `initdb` and `postgres`. `None`: the first installation that is found.
    pub bin_dir: Option<PathBuf>,
    /// Further settings, as in `postgresql.conf`. They override those set here.
    pub settings: Vec<(String, String)>,
    /// True if dropping the server removes the folder.
    pub remove_on_drop: bool,
}

/// The TCP listener of a private Postgres, on 127.0.0.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tcp {
    /// Unix socket only.
    #[default]
    Off,
    /// This port.
    Port(u16),
    /// A free port, which stays the same over restarts.
    AnyPort,
}

impl Options {
    /// A durable server in `data_dir`, on its Unix socket only.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durable: true,
            tcp: Tcp::Off,
            bin_dir: None,
            settings: Vec::new(),
            remove_on_drop: false,
        }
    }

    /// A server that is not durable, in a new temporary folder that is removed with it.
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
    /// User of the server's processes, if it differs from the current one.
    identity: Option<Identity>,
    socket_dir: PathBuf,
    port: u16,
    keeper: Option<Keeper>,
    /// Locked for the lifetime of this value.
    _lock: File,
}

impl PrivatePostgres {
    /// Sets up the folder if necessary, starts the server, and waits until it accepts connections.
    pub fn start(options: Options) -> Result<Self> {
        Self::start_with(options, Self::init)
    }

    /// Like [`Self::start`], with `init` to create the cluster of a new folder.
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

        let installation = Installation::find(options.bin_dir.as_deref(), version.as_deref().map(str::trim))?;
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

    /// Returns the URL of `database` over the Unix socket, for sqlx and libpq. `postgres` exists from the start;
    /// [`Self::create_database`] creates others.
    pub fn url(&self, database: &str) -> String {
        let socket_dir = percent_encoded(&self.socket_dir.to_string_lossy());
        format!("{}?host={socket_dir}", self.url_at("localhost", database))
    }

    /// Returns the URL of `database` over loopback TCP, if it is enabled.
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        (self.options.tcp != Tcp::Off).then(|| self.url_at("127.0.0.1", database))
    }

    fn url_at(&self, host: &str, database: &str) -> String {
        format!("postgres://{SUPERUSER}@{host}:{}/{}", self.port, percent_encoded(database))
    }

    /// Returns the port of [`Self::tcp_url`]. Without TCP it is only part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder of the installed server, which also has programs such as `pgbench`.
    pub fn programs(&self) -> &Path {
        self.installation.bin_dir()
    }

    /// Returns the folder.
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// Creates the database unless it exists. Returns true if it was created.
    pub fn create_database(&self, name: &str) -> Result<bool> {
        wire::create_database(&self.socket(), name)
    }

    /// True if the server process is running.
    pub fn is_running(&mut self) -> bool {
        self.keeper.as_mut().is_some_and(Keeper::is_running)
    }

    /// Starts a stopped server again, with the same folder, socket and port, and waits until it accepts connections. For
    /// tests of faults.
    pub fn start_server(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let patience = Instant::now() + PREDECESSOR_LIMIT;
        loop {
            // A server whose owner was killed, or backends of a killed server, may still be shutting down.
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

    /// Stops the server and keeps the folder, for a later [`Self::start_server`]. Open connections end at once, and
    /// committed data is on disk. Does nothing if the server is not running.
    pub fn stop_server(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        for signal in ["INT", "QUIT", "KILL"] {
            keeper.signal(signal);
            if keeper.wait(STOP_LIMIT) {
                return;
            }
        }
    }

    /// Kills the server with SIGKILL, as the kernel does when memory runs out. The next start runs crash recovery.
    pub fn kill9(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.signal("KILL");
            keeper.wait(STOP_LIMIT);
        }
    }

    /// Stops the server with a fast shutdown (10 s at most), then an immediate one (10 s at most), then SIGKILL.
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
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.stop_server();
        if self.options.remove_on_drop {
            // An error could not be reported here, and a leftover in the temporary folder is harmless.
            let _ = fs::remove_dir_all(&self.options.data_dir);
        }
    }
}

/// Percent-encodes all characters except those that are unreserved in URLs.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests;
