//! The HTTP client for agents.
//!
//! Its guarantees:
//! - **It connects only to permitted addresses** ([`Connections`]). It uses no proxies from the environment, follows no
//!   redirects, and sends no token over plain http outside the allow-list.
//! - **A shortage of this process is not the agent's failure** ([`Shortage`]): without a free descriptor, for example, no
//!   agent was dialled.
//! - **One timeout** covers name resolution, connection, request, status and body.
//! - **It reports [`Answer::Refused`] only if the agent cannot have received the fire.** The request body decides: before
//!   HTTP asks for it, nothing was sent that an agent could act on.
//! - **It never sends a request again that may have been processed.** `reqwest`'s retries are off, and its connection pool
//!   reuses a request only if nothing of it was written (an idle connection that the agent had closed). Beyond that, the
//!   client sends a request once more if the protocol guarantees that it was not processed: the connection ended before the
//!   body was requested, HTTP/2 `REFUSED_STREAM` (RFC 9113, section 8.7), or a graceful `GOAWAY` that does not cover the
//!   request (section 6.8). A reused connection that breaks later is ambiguous.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use nas_cron_base::clock::Clock;
use nas_cron_base::http_client::retry_after;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::{Host, Url};
use uuid::Uuid;

use super::UNREGISTERED;
use super::address_policy::{AddressError, AddressPolicy};
use super::answer::{Ambiguous, Answer, Refused};
use super::classify;
use super::connections::Connections;
pub use super::connections::{ClientConfig, ClientError};
use super::redact::redact;
use super::resolver::Names;
use super::shortage::{self, Shortage};
use crate::domain::Deferral;
use crate::domain::trace_context::TraceContext;
use crate::membership::Membership;

/// Maximum number of bytes that are read of a response body.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
/// Delay of a timeout after which this process counts as stalled: it was stopped, or had no CPU, while it connected.
const STALLED_AFTER: Duration = Duration::from_secs(2);

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A fire as it is sent. It has no `Debug`, because of its token.
pub struct Fire<'a> {
    /// The bearer token.
    pub token: &'a str,
    /// The body, in JSON.
    pub body: Bytes,
    /// The attempt's id, sent as `X-Request-Id`.
    pub attempt_id: Uuid,
    /// The span of the request, sent as `traceparent`.
    pub trace: TraceContext,
}

/// Posts fires to agents and keeps connections. Share one per process.
#[derive(Clone, Debug)]
pub struct AgentClient {
    connections: Connections,
    connect_timeout: Duration,
    body_timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl AgentClient {
    /// Returns a client. Installs `ring` as the process's TLS provider unless one is installed already. `clock` converts a
    /// `Retry-After` that is a date.
    pub fn new(
        policy: AddressPolicy,
        config: &ClientConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        Self::with_names(policy, config, clock, &Names::System)
    }

    fn with_names(
        policy: AddressPolicy,
        config: &ClientConfig,
        clock: Arc<dyn Clock>,
        names: &Names,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            connections: Connections::with_names(policy, config, names)?,
            connect_timeout: config.connect_timeout,
            body_timeout: config.body_timeout,
            clock,
        })
    }

    /// POSTs a fire to the endpoint below `callback_url`, and waits for the response for `deadline` at most. Fails only with
    /// a shortage, which prevented the connection.
    ///
    /// Nothing is written after the deadline by the monotonic clock, or without a valid `membership`. Timers alone do not
    /// guarantee that: after a pause of the process, the socket may become ready before the timer fires.
    pub async fn post_fire(
        &self,
        callback_url: &Url,
        fire: Fire<'_>,
        deadline: Duration,
        membership: &Membership,
    ) -> Result<Answer, Shortage> {
        let permit = Permit { not_after: Instant::now() + deadline, membership: membership.clone() };
        self.post_until(callback_url, fire, permit, tokio::time::sleep(deadline)).await
    }

    /// Checks a callback as every fire does, without a look-up of its host.
    pub fn check(&self, callback_url: &Url) -> Result<(), AddressError> {
        self.connections.check(callback_url)
    }

    /// Like [`Self::post_fire`], with a future that is ready at the deadline.
    async fn post_until(
        &self,
        callback_url: &Url,
        fire: Fire<'_>,
        permit: Permit,
        deadline: impl Future<Output = ()>,
    ) -> Result<Answer, Shortage> {
        let url = fire_url(callback_url);
        if let Err(error) = self.connections.check(&url) {
            return Ok(Answer::Refused(Refused::Address(error)));
        }
        let headers = match headers(&fire) {
            Ok(headers) => headers,
            Err(error) => return Ok(Answer::Refused(error)),
        };
        let Fire { token, body, .. } = fire;
        let Permit { not_after, membership } = permit.clone();
        let mut attempt =
            Attempt { body, permit, taken: Arc::default(), sent: Instant::now(), received: None };
        let mut lapsed = false;
        let failure = tokio::select! {
            // A response that arrives at the same time as the deadline counts.
            biased;
            result = self.exchange(&url, headers, &mut attempt) => result.err(),
            () = deadline => None,
            () = membership.lapsed() => {
                lapsed = true;
                None
            }
        };
        let may_have_arrived = attempt.body_taken()
            && !failure.as_ref().is_some_and(|error| classify::is_unprocessed(error, true));
        // `limit` is the time at which the failure should have been noticed; much later means that the process stalled.
        let (refused, limit) = match (attempt.received, failure) {
            (Some(received), _) => {
                return Ok(Answer::Response {
                    status: received.status,
                    retry_after: received.retry_after,
                    body: redact(String::from_utf8_lossy(&received.body).into_owned(), token, &attempt.body),
                });
            }
            (None, Some(error)) if may_have_arrived => {
                return Ok(Answer::Ambiguous(classify::ambiguous(&error)));
            }
            (None, None) if may_have_arrived => {
                return Ok(Answer::Ambiguous(if lapsed { Ambiguous::Aborted } else { Ambiguous::Timeout }));
            }
            (None, _) if lapsed || !membership.is_valid() => {
                return Err(Shortage { reason: Deferral::Database, cause: UNREGISTERED.to_owned() });
            }
            (None, Some(error)) => {
                if let Some(shortage) = self.shortage(&url, &error).await {
                    return Err(shortage);
                }
                (classify::refused(&error), attempt.sent + self.connect_timeout)
            }
            (None, None) => (Refused::Timeout, not_after),
        };
        if refused == Refused::Timeout && Instant::now() > limit + STALLED_AFTER {
            return Err(Shortage { reason: Deferral::Stalled, cause: refused.to_string() });
        }
        Ok(Answer::Refused(refused))
    }

    /// Returns the shortage that prevented a request, if any.
    async fn shortage(&self, url: &Url, error: &reqwest::Error) -> Option<Shortage> {
        let shortage = classify::shortage(error)?;
        if shortage.reason == Deferral::Ports && !self.has_source_addresses(url).await {
            return None;
        }
        self.connections.shortages.note(shortage.reason);
        Some(shortage)
    }

    /// Returns true if this machine has a source address for every address of `url`.
    async fn has_source_addresses(&self, url: &Url) -> bool {
        let ips = match url.host() {
            Some(Host::Ipv4(ip)) => vec![ip.into()],
            Some(Host::Ipv6(ip)) => vec![ip.into()],
            Some(Host::Domain(name)) => match self.connections.resolver.permitted(name).await {
                Ok(addresses) => addresses.iter().map(std::net::SocketAddr::ip).collect(),
                Err(_) => return true,
            },
            None => return false,
        };
        ips.into_iter().all(shortage::has_source_address)
    }

    /// Sends the request and reads the response into `attempt`, which is kept when the deadline cancels this future.
    async fn exchange(
        &self,
        url: &Url,
        headers: HeaderMap,
        attempt: &mut Attempt,
    ) -> Result<(), reqwest::Error> {
        let client = self.connections.client(url);
        let send = |attempt: &Attempt| {
            client.post(url.clone()).headers(headers.clone()).body(attempt.request_body()).send()
        };
        let mut response = match send(attempt).await {
            Err(error) if classify::is_unprocessed(&error, attempt.body_taken()) => {
                attempt.taken = Arc::default();
                attempt.sent = Instant::now();
                send(attempt).await?
            }
            result => result?,
        };
        let received = attempt.received.insert(Received {
            status: response.status().as_u16(),
            retry_after: retry_after(response.headers(), self.clock.now()),
            body: Vec::new(),
        });
        // The status has decided; errors of the body are ignored. Dropping the response early closes the connection
        // (HTTP/1) or resets the stream (HTTP/2), so that the agent stops sending.
        let _ = tokio::time::timeout(self.body_timeout, async {
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = MAX_BODY_BYTES - received.body.len();
                received.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() >= room {
                    break;
                }
            }
        })
        .await;
        Ok(())
    }
}

/// Returns `{base}/api/cron/fire` for a base with or without a path and a trailing slash (docs/contract.md#fire).
pub fn fire_url(base: &Url) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/api/cron/fire", base.path().trim_end_matches('/')));
    url.set_fragment(None);
    url
}

fn headers(fire: &Fire<'_>) -> Result<HeaderMap, Refused> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", fire.token))
        .map_err(|_| Refused::Request("the token is not a valid header value".to_owned()))?;
    // Keeps the token out of debug output and out of the HTTP/2 compression table.
    bearer.set_sensitive(true);
    let json = HeaderValue::from_static("application/json");
    let id = |text: String| HeaderValue::try_from(text).expect("ids are visible ASCII");
    Ok(HeaderMap::from_iter([
        (AUTHORIZATION, bearer),
        (CONTENT_TYPE, json.clone()),
        (ACCEPT, json),
        (REQUEST_ID, id(fire.attempt_id.to_string())),
        (TRACEPARENT, id(fire.trace.to_string())),
    ]))
}

/// The state of one attempt that is needed after its cancellation.
struct Attempt {
    body: Bytes,
    permit: Permit,
    taken: Arc<AtomicBool>,
    /// Time at which the request was last passed to the HTTP client.
    sent: Instant,
    received: Option<Received>,
}

struct Received {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Attempt {
    fn request_body(&self) -> reqwest::Body {
        reqwest::Body::wrap(FireBody {
            bytes: Some(self.body.clone()),
            permit: self.permit.clone(),
            taken: Arc::clone(&self.taken),
        })
    }

    /// Returns true if HTTP has asked for the body: from then on the whole request may be on the wire.
    fn body_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }
}

/// The condition for writing a request.
#[derive(Clone, Debug)]
struct Permit {
    /// The attempt's deadline.
    not_after: Instant,
    membership: Membership,
}

impl Permit {
    fn is_valid(&self) -> bool {
        Instant::now() <= self.not_after && self.membership.is_valid()
    }
}

/// The request was not written while it was permitted.
#[derive(Debug, thiserror::Error)]
#[error("the deadline passed before the request was sent")]
struct TooLate;

/// A request body that records when HTTP asks for it. It cannot be cloned, so the layers below cannot send it again.
struct FireBody {
    bytes: Option<Bytes>,
    permit: Permit,
    taken: Arc<AtomicBool>,
}

impl Body for FireBody {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.bytes.is_some() && !self.permit.is_valid() {
            return Poll::Ready(Some(Err(TooLate)));
        }
        self.taken.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    /// Returns `false` before the first poll, so that an empty body is recorded, too.
    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests;
