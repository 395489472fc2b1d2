//! A handle to a connection for other tasks: checks for unread bytes, and requests its close.

use std::sync::{Arc, OnceLock, Weak};

use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::metrics::Closed;

/// A handle to a connection.
#[derive(Debug)]
pub(super) struct Handle {
    stream: Weak<TcpStream>,
    reason: OnceLock<Closed>,
    closing: CancellationToken,
}

impl Handle {
    pub(super) fn new(stream: &Arc<TcpStream>) -> Self {
        let stream = Arc::downgrade(stream);
        Self { stream, reason: OnceLock::new(), closing: CancellationToken::new() }
    }

    /// True if the socket has unread bytes. Asks the kernel, because the runtime's state may be older than a freeze.
    pub(super) fn has_unread_bytes(&self) -> bool {
        self.stream.upgrade().is_some_and(|stream| {
            let mut byte = [0];
            let peeked = recv(&*stream, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            peeked.is_ok_and(|(_, count)| count > 0)
        })
    }

    /// Requests the close of the connection. Bytes that it reads afterwards are not used.
    pub(super) fn close(&self, reason: Closed) {
        let _ = self.reason.set(reason);
        self.closing.cancel();
    }

    /// True if the close was requested.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits until the close is requested, and returns the reason. Cancel-safe.
    pub(super) async fn close_requested(&self) -> Closed {
        self.closing.cancelled().await;
        self.reason.get().copied().unwrap_or(Closed::Ended)
    }
}
