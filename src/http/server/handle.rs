//! A connection as others see it: whether it has unread bytes, and how it is told to close.

use std::sync::{Arc, OnceLock, Weak};

use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::metrics::Closed;

/// See the module.
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

    /// Whether bytes wait in its socket. Asks the system: what the runtime knows of it may be older than a freeze.
    pub(super) fn has_unread_bytes(&self) -> bool {
        self.stream.upgrade().is_some_and(|stream| {
            let mut byte = [0];
            let peeked = recv(&*stream, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            peeked.is_ok_and(|(_, count)| count > 0)
        })
    }

    /// Tells it to close. From then on nothing that it reads is used.
    pub(super) fn close(&self, reason: Closed) {
        let _ = self.reason.set(reason);
        self.closing.cancel();
    }

    /// Whether it was told to close.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits until it is told to close, and returns why. Cancel-safe.
    pub(super) async fn told_to_close(&self) -> Closed {
        self.closing.cancelled().await;
        self.reason.get().copied().unwrap_or(Closed::Ended)
    }
}
