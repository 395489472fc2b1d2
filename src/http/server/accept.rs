//! The loop that accepts. It never ends by itself, and never spins.

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
use crate::metrics;

/// The pause after a failure that is not the caller's: a connection that was told to close is closed by then.
const PAUSE: Duration = Duration::from_millis(50);
/// How often such failures are told.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Accepts connections, makes room for each, and spawns it into `connections`.
pub(super) async fn accept(listener: &TcpListener, server: &Arc<Server>, connections: &TaskTracker) {
    let mut told: Option<Instant> = None;
    loop {
        match next(listener, server).await {
            Ok(Accepted { stream, cleared }) => {
                server.registry.room().await;
                if server.freeze.is_fresh(cleared) {
                    connections.spawn(server.admit(stream).serve());
                } else {
                    metrics::backlog_closed(server.name(), 1);
                }
            }
            // The caller's own end; the next one may be well.
            Err(error) if is_of_the_caller(&error) => tokio::task::yield_now().await,
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                    told = Some(Instant::now());
                    let listener = server.name().as_str();
                    warn!(listener, %error, "accepting a connection failed; closed the connection that waits longest");
                }
                server.registry.make_room();
                sleep(PAUSE).await;
            }
        }
    }
}

/// A connection, and what had been cleared before it was accepted.
struct Accepted {
    stream: TcpStream,
    cleared: u64,
}

async fn next(listener: &TcpListener, server: &Server) -> Result<Accepted, Error> {
    poll_fn(|context| {
        // In one go with the system call: waiting for a caller may take any time.
        let cleared = server.freeze.cleared();
        let accepted = ready!(listener.poll_accept(context));
        accepted.map(|(stream, _)| Accepted { stream, cleared }).into()
    })
    .await
}

fn is_of_the_caller(error: &Error) -> bool {
    use ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied, TimedOut,
    };
    // Accepting passes on what has already gone wrong with the connection itself (accept(2)).
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
    fn failures_of_a_caller_are_told_from_those_of_the_process() {
        for errno in [Errno::CONNABORTED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::PERM] {
            assert!(is_of_the_caller(&errno.into()), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!is_of_the_caller(&errno.into()), "{errno}");
        }
    }
}
