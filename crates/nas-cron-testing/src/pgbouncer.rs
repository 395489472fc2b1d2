//! A real `PgBouncer` in front of a test's server. `make test` installs it (`scripts/ensure-pgbouncer`).

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::ports::free_address;
use crate::programs;
use crate::time::PATIENCE;

/// Pool mode: the time for which a client keeps its server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// One transaction.
    Transaction,
    /// Until it disconnects.
    Session,
}

/// A running pooler. Dropping it kills it.
pub struct PgBouncer {
    child: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl PgBouncer {
    /// Starts a pooler in front of the server of `url`, and waits until it listens.
    pub async fn start(mode: PoolMode, url: &str) -> Self {
        let server: url::Url = url.parse().expect("a URL");
        let address = free_address();
        let dir = std::env::temp_dir().join(format!("nas-cron-pgbouncer-{:016x}", rand::random::<u64>()));
        fs::create_dir(&dir).expect("a new folder");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("this process owns the folder");
        let users = dir.join("users.txt");
        fs::write(&users, "\"postgres\" \"\"\n").expect("a file");
        let ini = dir.join("pgbouncer.ini");
        let mode = match mode {
            PoolMode::Transaction => "transaction",
            PoolMode::Session => "session",
        };
        let text = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {mode}\nmax_client_conn = 200\ndefault_pool_size = 60\n\
             ignore_startup_parameters = extra_float_digits\n",
            server.host_str().expect("a host"),
            server.port().expect("a port"),
            address.ip(),
            address.port(),
            users.display(),
        );
        fs::write(&ini, text).expect("a file");
        let mut command = Command::new(programs::find("pgbouncer"));
        command.arg(&ini).current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            // PgBouncer refuses to run as root.
            let (uid, gid) = unprivileged_user();
            chown(&dir, Some(uid), Some(gid)).expect("root may");
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().expect("pgbouncer starts: `scripts/ensure-pgbouncer` installs it");
        let mut this = Self { child, dir, address };
        let start = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(this.child.try_wait().expect("a child process").is_none(), "pgbouncer ended at once");
            assert!(start.elapsed() < PATIENCE, "pgbouncer does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        this
    }

    /// Returns the URL of the same database through the pooler.
    pub fn url(&self, url: &str) -> String {
        let mut url: url::Url = url.parse().expect("a URL");
        url.set_port(Some(self.address.port())).expect("it has a port");
        url.into()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Returns the user and group id of `nobody`.
fn unprivileged_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("a list of users");
    let user = users.lines().find(|line| line.starts_with("nobody:")).expect("the user exists");
    let mut fields = user.split(':').skip(2).map(|field| field.parse().expect("a number"));
    (fields.next().expect("a user"), fields.next().expect("a group"))
}
