//! One connection, from its accept to its close.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::freeze::Freeze;
use super::handle::Handle;
use super::phase::Times;
use super::registry::Registry;
use super::service::Service;
use super::stream::Stream;
use super::tracker::Tracker;
use crate::http::peer::Peer;
use crate::metrics::{Closed, Listener};

/// Maximum length of a request's head, in bytes. Credentials take a few kilobytes.
const HEAD_MAX: usize = 64 * 1024;
/// Timeout for the graceful shutdown of an idle connection (HTTP/2 sends GOAWAY).
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// State that the connections of a listener share.
#[derive(Debug)]
pub(super) struct Server {
    router: Router,
    protocol: Builder<TokioExecutor>,
    name: Listener,
    times: Times,
    pub(super) registry: Arc<Registry>,
    pub(super) freeze: Arc<Freeze>,
    closing: CancellationToken,
}

impl Server {
    pub(super) fn new(
        router: Router,
        name: Listener,
        times: Times,
        registry: Arc<Registry>,
        freeze: Arc<Freeze>,
        closing: CancellationToken,
    ) -> Self {
        let mut protocol = Builder::new(TokioExecutor::new());
        protocol.http1().max_buf_size(HEAD_MAX);
        Self { router, protocol, name, times, registry, freeze, closing }
    }

    pub(super) const fn name(&self) -> Listener {
        self.name
    }

    /// Registers a connection that was just accepted. It counts towards the limit from now on.
    pub(super) fn admit(self: &Arc<Self>, stream: TcpStream, peer: Peer) -> Connection {
        // Responses are small and written at once, so Nagle's algorithm would only delay them.
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        let handle = Arc::new(Handle::new(&stream));
        let registry = Arc::clone(&self.registry);
        let tracker = Arc::new(Tracker::new(handle, registry, Arc::clone(&self.freeze), self.name));
        Connection { server: Arc::clone(self), stream, peer, tracker }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    server: Arc<Server>,
    stream: Arc<TcpStream>,
    peer: Peer,
    tracker: Arc<Tracker>,
}

impl Connection {
    /// Serves the connection until it is closed.
    pub(super) async fn serve(self) {
        let Self { server, stream, peer, tracker } = self;
        let service = Service::new(server.router.clone(), peer, Arc::clone(&tracker));
        let stream = TokioIo::new(Stream::new(stream, Arc::clone(&tracker)));
        let mut connection = pin!(server.protocol.serve_connection(stream, service));
        let mut timer = pin!(sleep(Duration::ZERO));
        let mut is_ending = false;
        let reason = loop {
            tokio::select! {
                // In this order, so that a connection that can make progress is not closed as overdue.
                biased;
                reason = tracker.handle.close_requested() => break reason,
                _ = connection.as_mut() => break Closed::Ended,
                () = server.closing.cancelled(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = tracker.becomes_idle() => {}
                reason = overdue(&tracker, &server.times, timer.as_mut()) => break reason,
            }
        };
        // A connection that reads bytes from before a freeze fails by itself, but has a reason in its handle.
        let reason =
            if tracker.handle.is_closing() { tracker.handle.close_requested().await } else { reason };
        tracker.closes(reason);
        if reason == Closed::Idle {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(SHUTDOWN_TIMEOUT, connection).await;
        }
    }
}

/// Waits until a connection's deadline has passed, and returns the reason to close it. Checks for a changed deadline
/// whenever the connection's task runs.
async fn overdue(tracker: &Tracker, times: &Times, mut alarm: Pin<&mut Sleep>) -> Closed {
    poll_fn(|context| {
        loop {
            let Some((deadline, reason)) = tracker.deadline(times) else { return Poll::Pending };
            if deadline <= Instant::now() && (reason != Closed::Idle || tracker.is_really_idle()) {
                return Poll::Ready(reason);
            }
            if alarm.deadline() != deadline || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(context));
        }
    })
    .await
}
