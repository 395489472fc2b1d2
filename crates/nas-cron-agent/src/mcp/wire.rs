//! JSON-RPC on stdin and stdout, with limits on the message size and on the requests in flight.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::service::RoleServer;
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum message size in bytes, many times the size of a tool call. A longer line is skipped without being buffered. It
/// gets no response, because its id may be anywhere in it.
const MAX_MESSAGE: usize = 1 << 20;
/// Maximum number of requests in flight. At the limit, nothing more is read.
const MAX_IN_FLIGHT: usize = 16;
/// Time that a host which does not read its input may delay the exit.
const CLOSING: Duration = Duration::from_secs(1);

/// A transport with the limits of this module. A request holds a slot from being read until its response is written, so
/// that neither a host that only writes nor one that never reads can exhaust the memory.
pub(super) struct Wire<R: AsyncRead, W: AsyncWrite> {
    inner: AsyncRwTransport<RoleServer, R, W>,
    slots: Arc<Semaphore>,
    taken: HashMap<RequestId, OwnedSemaphorePermit>,
    /// A message that is read and waits for a slot. Kept here because [`Transport::receive`] may be dropped at any time.
    waiting: Option<ClientJsonRpcMessage>,
    /// An error response that is being written.
    rejecting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
}

impl<R, W> Wire<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(super) fn new(input: R, output: W) -> Self {
        Self {
            inner: AsyncRwTransport::new(input, output).with_max_line_length(MAX_MESSAGE),
            slots: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            taken: HashMap::new(),
            waiting: None,
            rejecting: None,
        }
    }
}

impl<R, W> Transport<RoleServer> for Wire<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let slot = match &message {
            JsonRpcMessage::Response(answer) => self.taken.remove(&answer.id),
            JsonRpcMessage::Error(answer) => answer.id.as_ref().and_then(|id| self.taken.remove(id)),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let sending = self.inner.send(message);
        async move {
            let sent = sending.await;
            drop(slot);
            sent
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(rejecting) = &mut self.rejecting {
                let rejected = rejecting.await;
                self.rejecting = None;
                rejected.ok()?;
            }
            if self.waiting.is_none() {
                self.waiting = Some(self.inner.receive().await?);
            }
            match &self.waiting {
                Some(JsonRpcMessage::Request(request)) if self.taken.contains_key(&request.id) => {
                    // Without the id, because an error with it would be the response to the first request.
                    let text = format!("request id {} is in use", request.id);
                    let error = ServerJsonRpcMessage::error(ErrorData::invalid_request(text, None), None);
                    self.waiting = None;
                    self.rejecting = Some(Box::pin(self.inner.send(error)));
                    continue;
                }
                Some(JsonRpcMessage::Request(request)) => {
                    let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
                    self.taken.insert(request.id.clone(), slot);
                }
                Some(JsonRpcMessage::Notification(notification)) => {
                    // A cancelled request gets no response, which would free its slot.
                    if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                        && let Some(id) = &cancelled.params.request_id
                    {
                        self.taken.remove(id);
                    }
                }
                _ => {}
            }
            return self.waiting.take();
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        match tokio::time::timeout(CLOSING, self.inner.close()).await {
            Ok(closed) => closed,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the MCP host does not read its input")),
        }
    }
}
