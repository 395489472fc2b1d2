//! A real nginx in front of replicas. `make test` installs it (`scripts/ensure-nginx`).

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::ports::free_address;
use crate::programs;
use crate::time::PATIENCE;

/// A running nginx. Dropping it kills it.
pub struct Nginx {
    child: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl Nginx {
    /// Starts nginx with `upstream` blocks and the `location` blocks of one server, and waits until it listens. Its access
    /// log has a line per request: the status, and the replicas that were tried.
    pub async fn start(upstream: &str, locations: &str) -> Self {
        let address = free_address();
        let dir = std::env::temp_dir().join(format!("nas-cron-nginx-{:016x}", rand::random::<u64>()));
        fs::create_dir(&dir).expect("a new folder");
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {name};\n"))
            .collect();
        let text = format!(
            "{user}\ndaemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\nevents {{}}\n\
             http {{\nlog_format tried '$status $upstream_addr';\naccess_log access.log tried;\n{temporary}{upstream}\n\
             server {{\nlisten {address};\n{locations}\n}}\n}}\n"
        );
        fs::write(dir.join("nginx.conf"), text).expect("a file");
        let child = Command::new(programs::find("nginx"))
            .args(["-p", dir.to_str().expect("a path in UTF-8"), "-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts: `scripts/ensure-nginx` installs it");
        let mut this = Self { child, dir, address };
        let start = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = this.child.try_wait().expect("a child process").is_some();
            assert!(!ended, "nginx ended at once: {}", this.file("error.log"));
            assert!(start.elapsed() < PATIENCE, "nginx does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        this
    }

    /// Returns its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the lines of the access log.
    pub fn requests(&self) -> String {
        self.file("access.log")
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
