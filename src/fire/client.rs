//! The only outgoing client to agents.
//!
//! What it promises:
//! - **It connects only where it may** ([`AddressPolicy`]): literal hosts are checked in the URL, names in the
//!   resolver. No proxies from the environment, no redirects, no token in the clear outside the allow-list.
//! - **A shortage of our own is no answer** ([`Shortage`]): an agent that could not be dialled for want of a descriptor
//!   was not refused by anybody.
//! - **One deadline** over name, connection, request, status and body.
//! - **It knows what it does not know**: [`Answer::Refused`] only if the agent cannot have got the fire. The
//!   proof is the request body: until HTTP asks for it, nothing that an agent could act on has left.
//! - **It never sends twice what may have been processed.** `reqwest`'s own retries are off, and its connection
//!   pool takes a request back only if nothing of it was written (a kept connection that the agent had closed).
//!   On top of that, one more try is made where the protocol says that nothing was processed: a connection that
//!   ended before the body was asked for, HTTP/2 `REFUSED_STREAM` (RFC 9113, section 8.7), and a graceful
//!   `GOAWAY` that does not cover the request (section 6.8). A kept connection that breaks later is ambiguous.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use nas_cron_base::clock::Clock;
use nas_cron_base::http_client::retry_after;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use url::{Host, Url};

use super::address_policy::AddressPolicy;
use super::answer::{Ambiguous, Answer, Refused};
use super::redact::redact;
use super::resolver::{GuardedResolver, Names, Scope};
use super::shortage::{self, Recent, Shortage};
use crate::domain::Deferral;

mod classify;

/// How much of an answer's body is read, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
/// A connection that was given up this much later than it should have been was given up by a process that stood still.
const STANDSTILL: Duration = Duration::from_secs(2);

/// What can be set about the connections. The defaults are meant for production.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Upper bound for name, TCP and TLS together. Default 10 s: what takes longer is an outage.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Default 4 s, below the 5 s after which common agent servers
    /// (uvicorn, Node) close it: a request that crosses such a close is lost without anybody knowing.
    pub pool_idle_timeout: Duration,
    /// How many unused connections are kept per agent. Default 256.
    pub pool_max_idle_per_host: usize,
    /// How long the body may take once the status is there, within the deadline. Default 5 s: the status has
    /// decided, and the outcome should be recorded soon.
    pub body_timeout: Duration,
    /// Certificates of authorities that are trusted beside the system's.
    pub extra_roots: Vec<reqwest::Certificate>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            pool_idle_timeout: Duration::from_secs(4),
            pool_max_idle_per_host: 256,
            body_timeout: Duration::from_secs(5),
            extra_roots: Vec::new(),
        }
    }
}

/// No client could be made: the system has no trusted certificates, or an extra one is unreadable.
#[derive(Debug, thiserror::Error)]
#[error("the client for agents could not be set up (are the system's CA certificates installed?): {cause}")]
pub struct ClientError {
    /// The innermost reason.
    cause: String,
}

/// Posts fires to agents. Keeps connections; share one per process.
#[derive(Clone, Debug)]
pub struct AgentClient {
    policy: AddressPolicy,
    https: reqwest::Client,
    /// A client of its own, because a resolver does not see the scheme: this one's knows the allow-list only.
    http: reqwest::Client,
    resolver: GuardedResolver,
    shortages: Recent,
    connect_timeout: Duration,
    body_timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl AgentClient {
    /// Sets up the client, and `ring` as the process's TLS provider unless one is installed already.
    /// `clock` is for a `Retry-After` that is a date.
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
        // An error means that the process has a provider, which is all that is needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shortages = Recent::default();
        let resolver = |scope| GuardedResolver::new(policy.clone(), scope, names.clone(), shortages.clone());
        let builder = |scope| {
            reqwest::Client::builder()
                .dns_resolver(resolver(scope))
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(config.connect_timeout)
                .pool_idle_timeout(config.pool_idle_timeout)
                .pool_max_idle_per_host(config.pool_max_idle_per_host)
        };
        let https =
            builder(Scope::Permitted).https_only(true).tls_certs_merge(config.extra_roots.iter().cloned());
        // It never speaks TLS: spare it the system's certificates.
        let http = builder(Scope::AllowListed).tls_certs_only([]);
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| ClientError { cause: classify::innermost(&error) })
        };
        Ok(Self {
            https: build(https)?,
            http: build(http)?,
            resolver: resolver(Scope::Permitted),
            policy,
            shortages,
            connect_timeout: config.connect_timeout,
            body_timeout: config.body_timeout,
            clock,
        })
    }

    /// POSTs `body` (JSON) to the fire endpoint below `callback_url`, with `token` as the bearer, and waits for
    /// the answer for `deadline` at most. Everything is an answer, except what kept us from dialling at all.
    ///
    /// Nothing is written once the deadline is over by the monotonic clock, also when this process was stopped in
    /// between: its timers would learn of it only after the socket.
    pub async fn post_fire(
        &self,
        callback_url: &Url,
        token: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Answer, Shortage> {
        let not_after = Instant::now() + deadline;
        self.post_until(callback_url, token, body, not_after, tokio::time::sleep(deadline)).await
    }

    /// Like [`Self::post_fire`]; time is up when `deadline` is ready.
    async fn post_until(
        &self,
        callback_url: &Url,
        token: &str,
        body: Bytes,
        not_after: Instant,
        deadline: impl Future<Output = ()>,
    ) -> Result<Answer, Shortage> {
        let url = fire_url(callback_url);
        if let Err(error) = self.policy.check_url(&url) {
            return Ok(Answer::Refused(Refused::Address(error)));
        }
        let headers = match headers(token) {
            Ok(headers) => headers,
            Err(error) => return Ok(Answer::Refused(error)),
        };
        let mut attempt =
            Attempt { body, not_after, taken: Arc::default(), sent: Instant::now(), received: None };
        let failure = tokio::select! {
            // What has arrived counts, also when time is up at the same moment.
            biased;
            result = self.exchange(&url, headers, &mut attempt) => result.err(),
            () = deadline => None,
        };
        let may_have_arrived = attempt.body_taken()
            && !failure.as_ref().is_some_and(|error| classify::is_unprocessed(error, true));
        // A limit that was passed by much was passed by a process that stood still.
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
            (None, None) if may_have_arrived => return Ok(Answer::Ambiguous(Ambiguous::Timeout)),
            (None, Some(error)) => {
                if let Some(shortage) = self.shortage(&url, &error).await {
                    return Err(shortage);
                }
                (classify::refused(&error), attempt.sent + self.connect_timeout)
            }
            (None, None) => (Refused::Timeout, not_after),
        };
        if refused == Refused::Timeout && Instant::now() > limit + STANDSTILL {
            return Err(Shortage { reason: Deferral::Stalled, cause: refused.to_string() });
        }
        Ok(Answer::Refused(refused))
    }

    /// Returns the shortage of our own behind a request that was not sent.
    async fn shortage(&self, url: &Url, error: &reqwest::Error) -> Option<Shortage> {
        let shortage = classify::shortage(error)?;
        if shortage.reason == Deferral::Ports && !self.dials_from_here(url).await {
            return None;
        }
        self.shortages.note(shortage.reason);
        Some(shortage)
    }

    /// Returns whether this machine has an own address for every address of `url`.
    async fn dials_from_here(&self, url: &Url) -> bool {
        let ips = match url.host() {
            Some(Host::Ipv4(ip)) => vec![ip.into()],
            Some(Host::Ipv6(ip)) => vec![ip.into()],
            Some(Host::Domain(name)) => match self.resolver.permitted(name).await {
                Ok(addresses) => addresses.iter().map(std::net::SocketAddr::ip).collect(),
                Err(_) => return true,
            },
            None => return false,
        };
        ips.into_iter().all(shortage::has_source_address)
    }

    /// Sends the request and reads the answer into `attempt`, which outlives a deadline.
    async fn exchange(
        &self,
        url: &Url,
        headers: HeaderMap,
        attempt: &mut Attempt,
    ) -> Result<(), reqwest::Error> {
        let client = if url.scheme() == "https" { &self.https } else { &self.http };
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
        // From here on the status stands, whatever becomes of the body. Dropping the response early closes the
        // connection (HTTP/1) or resets the stream (HTTP/2), so that the agent does not send in vain.
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

/// `{base}/api/cron/fire`, whether or not the base ends in a slash or has a path (docs/contract.md#fire).
pub fn fire_url(base: &Url) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/api/cron/fire", base.path().trim_end_matches('/')));
    url.set_fragment(None);
    url
}

fn headers(token: &str) -> Result<HeaderMap, Refused> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Refused::Request("the token does not fit into a header".to_owned()))?;
    // Keeps it out of debug output, and out of the HTTP/2 compression table.
    bearer.set_sensitive(true);
    let json = HeaderValue::from_static("application/json");
    Ok(HeaderMap::from_iter([(AUTHORIZATION, bearer), (CONTENT_TYPE, json.clone()), (ACCEPT, json)]))
}

/// One attempt's memory: what of it must be known after it was cut off.
struct Attempt {
    body: Bytes,
    not_after: Instant,
    taken: Arc<AtomicBool>,
    /// When it was last handed to the HTTP client.
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
            not_after: self.not_after,
            taken: Arc::clone(&self.taken),
        })
    }

    /// Whether HTTP has asked for the body: from then on it may be on the wire, whole.
    fn body_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }
}

/// The request was to be written after its deadline.
#[derive(Debug, thiserror::Error)]
#[error("too late to be sent")]
struct TooLate;

/// A request body that notes when it is taken. It cannot be cloned, so nobody below can send it again.
struct FireBody {
    bytes: Option<Bytes>,
    not_after: Instant,
    taken: Arc<AtomicBool>,
}

impl Body for FireBody {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.bytes.is_some() && Instant::now() > self.not_after {
            return Poll::Ready(Some(Err(TooLate)));
        }
        self.taken.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    /// Always `false` before the body was polled: an empty one must be noted like any other.
    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests;
