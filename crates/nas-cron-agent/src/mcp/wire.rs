//! stdin and stdout as JSON-RPC, within bounds: how long a message may be, and how many requests may be under way.

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

/// The longest message in bytes, many times what a tool takes. A longer line is skipped without being kept; it cannot
/// be answered, because its id may be anywhere in it.
const MAX_MESSAGE: usize = 1 << 20;
/// How many requests may be under way. While as many are, nothing more is read.
const MAX_UNDER_WAY: usize = 16;
/// How long a host that does not read may hold up the end.
const CLOSING: Duration = Duration::from_secs(1);

/// See the module. A request holds a slot from when it is read until its answer is written, so that neither a host
/// that only writes nor one that never reads can fill the memory.
pub(super) struct Wire<R: AsyncRead, W: AsyncWrite> {
    inner: AsyncRwTransport<RoleServer, R, W>,
    slots: Arc<Semaphore>,
    taken: HashMap<RequestId, OwnedSemaphorePermit>,
    /// Read, and waiting for a slot. Kept here because [`Transport::receive`] may be dropped at any time.
    held: Option<ClientJsonRpcMessage>,
    /// An answer of our own that is being written.
    refusing: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
}

impl<R, W> Wire<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(super) fn new(input: R, output: W) -> Self {
        Self {
            inner: AsyncRwTransport::new(input, output).with_max_line_length(MAX_MESSAGE),
            slots: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            taken: HashMap::new(),
            held: None,
            refusing: None,
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
            if let Some(refusing) = &mut self.refusing {
                let refused = refusing.await;
                self.refusing = None;
                refused.ok()?;
            }
            if self.held.is_none() {
                self.held = Some(self.inner.receive().await?);
            }
            match &self.held {
                Some(JsonRpcMessage::Request(request)) if self.taken.contains_key(&request.id) => {
                    // Without the id, which would answer the first one.
                    let text = format!("request id {} is in use", request.id);
                    let error = ServerJsonRpcMessage::error(ErrorData::invalid_request(text, None), None);
                    self.held = None;
                    self.refusing = Some(Box::pin(self.inner.send(error)));
                    continue;
                }
                Some(JsonRpcMessage::Request(request)) => {
                    let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
                    self.taken.insert(request.id.clone(), slot);
                }
                Some(JsonRpcMessage::Notification(told)) => {
                    // What is cancelled is never answered.
                    if let ClientNotification::CancelledNotification(cancelled) = &told.notification
                        && let Some(id) = &cancelled.params.request_id
                    {
                        self.taken.remove(id);
                    }
                }
                _ => {}
            }
            return self.held.take();
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        match tokio::time::timeout(CLOSING, self.inner.close()).await {
            Ok(closed) => closed,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the host does not read")),
        }
    }
}
