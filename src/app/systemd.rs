//! Reports of the service's state to systemd (`Type=notify`), by the protocol of `sd_notify(3)`.
//!
//! Without `NOTIFY_SOCKET` in the environment, nothing is sent. A report that fails is logged once: systemd then acts as
//! if it had not been made.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::http::health::{Probe, readiness};
use crate::shutdown::Shutdown;

/// Interval at which readiness is checked during the start.
const READY_EVERY: Duration = Duration::from_millis(100);

/// The connection to systemd.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Interval of the reports that the process is alive, if systemd expects them.
    watchdog: Option<Duration>,
}

impl Manager {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. Returns `None` if systemd did not start this process.
    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let path = variable("NOTIFY_SOCKET")?;
        let address = match path.as_bytes().strip_prefix(b"@") {
            #[cfg(target_os = "linux")]
            Some(name) => {
                <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name).ok()?
            }
            _ => SocketAddr::from_pathname(path).ok()?,
        };
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|limit| is_meant && *limit > 0);
        // Half of the limit, as sd_watchdog_enabled(3) recommends.
        let watchdog = limit.map(|limit| Duration::from_micros(limit) / 2);
        Some(Self { socket: UnixDatagram::unbound().ok()?, address, watchdog })
    }

    fn report(&self, state: &str) -> std::io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.address).map(drop)
    }

    fn report_phase(&self, state: &str) {
        if let Err(error) = self.report(state) {
            warn!(%error, "reporting the state to systemd failed");
        }
    }

    /// Reports that the service is ready as soon as `/readyz` returns 200, and later that it stops.
    async fn report_phases(&self, probe: &dyn Probe, shutdown: &Shutdown) {
        let ready = async {
            while !readiness(probe).is_ok() {
                tokio::time::sleep(READY_EVERY).await;
            }
        };
        tokio::select! {
            () = shutdown.draining() => {}
            () = ready => {
                self.report_phase("READY=1\nSTATUS=ready");
                info!("start reported to systemd");
                shutdown.draining().await;
            }
        }
        self.report_phase("STOPPING=1\nSTATUS=draining");
    }

    /// Reports that the process is alive while no background loop has stopped. A runtime that hangs reports nothing either.
    async fn report_life(&self, probe: &dyn Probe) {
        let Some(interval) = self.watchdog else { return };
        let mut ticks = tokio::time::interval(interval);
        let mut failing = false;
        loop {
            ticks.tick().await;
            if !probe.stopped_loops().is_empty() {
                continue;
            }
            match self.report("WATCHDOG=1") {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    warn!(%error, "reporting to systemd's watchdog failed");
                }
                Err(_) => {}
            }
        }
    }
}

/// Reports to systemd until aborted. Returns at once if systemd did not start this process.
pub(super) async fn report(probe: Arc<dyn Probe>, shutdown: Shutdown) {
    if let Some(manager) = Manager::of(|name| std::env::var_os(name)) {
        tokio::join!(manager.report_phases(probe.as_ref(), &shutdown), manager.report_life(probe.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::http::health::Finding;

    /// A service whose state a test changes.
    #[derive(Default)]
    struct Fixed {
        stopped: Mutex<Vec<&'static str>>,
        starting: Mutex<bool>,
    }

    impl Probe for Fixed {
        fn database_silent_for(&self) -> Duration {
            Duration::ZERO
        }

        fn schema(&self) -> Finding {
            if *self.starting.lock() { Err("behind") } else { Ok(()) }
        }

        fn signing_key(&self) -> Finding {
            Ok(())
        }

        fn clock(&self) -> Finding {
            Ok(())
        }

        fn overdue_look(&self) -> Duration {
            Duration::ZERO
        }

        fn stopped_loops(&self) -> Vec<&'static str> {
            self.stopped.lock().clone()
        }

        fn is_draining(&self) -> bool {
            false
        }
    }

    /// The socket on which systemd listens. Dropping it removes it.
    struct Socket(UnixDatagram, std::path::PathBuf);

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.1);
        }
    }

    /// Returns the socket of a manager that expects a report every 30 s, and the connection to it.
    fn manager() -> (Socket, Manager) {
        let path = std::env::temp_dir().join(format!("nas-cron-notify-{:016x}", rand::random::<u64>()));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let manager = Manager::of(|variable| match variable {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            "WATCHDOG_USEC" => Some("30000000".into()),
            "WATCHDOG_PID" => Some(std::process::id().to_string().into()),
            _ => None,
        });
        (Socket(socket, path), manager.expect("systemd started this"))
    }

    fn reports(Socket(socket, _): &Socket) -> Vec<String> {
        let mut buffer = [0; 256];
        std::iter::from_fn(|| {
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
        .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn stopped_loop_ends_the_reports_to_the_watchdog() {
        let (socket, manager) = manager();
        let probe = Fixed::default();
        let _ = tokio::time::timeout(Duration::from_secs(46), manager.report_life(&probe)).await;
        assert_eq!(reports(&socket).len(), 4, "at once, and every 15 s");
        probe.stopped.lock().push("claims");
        let _ = tokio::time::timeout(Duration::from_secs(46), manager.report_life(&probe)).await;
        assert_eq!(reports(&socket), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn start_is_reported_when_the_service_is_ready() {
        let (socket, manager) = manager();
        let (probe, shutdown) = (Fixed { starting: Mutex::new(true), ..Fixed::default() }, Shutdown::new());
        let _ = tokio::time::timeout(Duration::from_secs(5), manager.report_phases(&probe, &shutdown)).await;
        assert_eq!(reports(&socket), [""; 0]);
        *probe.starting.lock() = false;
        let _ = tokio::time::timeout(Duration::from_secs(5), manager.report_phases(&probe, &shutdown)).await;
        assert_eq!(reports(&socket), ["READY=1\nSTATUS=ready"]);
        shutdown.drain();
        manager.report_phases(&probe, &shutdown).await;
        assert_eq!(reports(&socket).pop().as_deref(), Some("STOPPING=1\nSTATUS=draining"));
    }

    #[test]
    fn nothing_is_reported_without_a_socket() {
        assert!(Manager::of(|_| None).is_none());
        let other = Manager::of(|variable| match variable {
            "NOTIFY_SOCKET" => Some("/run/systemd/notify".into()),
            "WATCHDOG_PID" => Some("1".into()),
            _ => Some("1000".into()),
        });
        assert_eq!(other.expect("a path").watchdog, None, "the watchdog is of another process");
    }
}
