//! The loop that accepts connections. It never ends by itself, and never spins.

use std::future::poll_fn;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::connection::Server;
use crate::http::peer::Peer;
use crate::metrics;

/// Pause after a failure of the process itself. By its end, the connection that was closed to make room is gone.
const PAUSE: Duration = Duration::from_millis(50);
/// Minimum interval between two log lines about such failures.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Accepts connections, makes room for each, and spawns it into `connections`.
pub(super) async fn accept(listener: &TcpListener, server: &Arc<Server>, connections: &TaskTracker) {
    let mut logged: Option<Instant> = None;
    loop {
        match next(listener, server).await {
            Ok(Accepted { stream, peer, cleared }) => {
                server.registry.room().await;
                if server.freeze.is_fresh(cleared) {
                    connections.spawn(server.admit(stream, peer).serve());
                } else {
                    metrics::backlog_closed(server.name(), 1);
                }
            }
            // Only this connection failed.
            Err(error) if is_of_the_caller(&error) => tokio::task::yield_now().await,
            Err(error) => {
                if logged.is_none_or(|logged| logged.elapsed() > LOG_INTERVAL) {
                    logged = Some(Instant::now());
                    let listener = server.name().as_str();
                    warn!(listener, %error, "accepting a connection failed; the longest-waiting connection was closed to make room");
                }
                server.registry.make_room();
                sleep(PAUSE).await;
            }
        }
    }
}

/// An accepted connection, its other end, and the number of freezes that had been cleared before the accept.
struct Accepted {
    stream: TcpStream,
    peer: Peer,
    cleared: u64,
}

async fn next(listener: &TcpListener, server: &Server) -> Result<Accepted, Error> {
    poll_fn(|context| {
        // Read directly before the system call, because waiting for a caller may take any time.
        let cleared = server.freeze.cleared();
        let accepted = ready!(listener.poll_accept(context));
        accepted.map(|(stream, address)| Accepted { stream, peer: Peer(address.ip()), cleared }).into()
    })
    .await
}

fn is_of_the_caller(error: &Error) -> bool {
    use ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied, TimedOut,
    };
    // accept(2) also returns errors of the new connection itself.
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn failures_of_a_connection_are_distinguished_from_those_of_the_process() {
        for errno in [Errno::CONNABORTED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::PERM] {
            assert!(is_of_the_caller(&errno.into()), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!is_of_the_caller(&errno.into()), "{errno}");
        }
    }
}
