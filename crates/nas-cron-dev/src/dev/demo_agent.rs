//! A demo agent that makes the same HTTP calls as a real hermes-agent (docs/clients.md#hermes-agent): it cancels stale
//! one-shots, arms one, receives the fire, verifies its token, responds before it runs the job, and arms the next one.

mod endpoint;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, DurationRound, FixedOffset, TimeDelta, Utc};
use nas_cron_agent::client::api::{Client, ClientError, ListedJob, ProvisionRequest};
use nas_cron_base::clock::Clock;
use nas_cron_protocol::{Given, isoformat};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::endpoint::Endpoint;
use super::event::{Event, EventKind};
use super::fire_verifier::FireVerifier;

/// Interval between list calls, in provisions.
const LIST_EVERY: u64 = 5;
/// Delay after a failed provision. A real agent would wait until its user changes a job.
const FAILURE_DELAY: Duration = Duration::from_secs(5);
/// Time from the first provision to its fire.
const FIRST: TimeDelta = TimeDelta::milliseconds(500);
/// Timeout of the last cancel.
const LAST_CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Rate of an agent's one-shots, and the format of their `fire_at`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    /// Minimum time from a provision to its fire.
    pub(super) every: TimeDelta,
    /// True for whole seconds, as cron expressions have; false for microseconds, as intervals have.
    pub(super) whole_seconds: bool,
    /// The agent's time zone.
    pub(super) offset: FixedOffset,
}

impl Cadence {
    /// Returns the first instant: soon, because a newcomer waits for the first fire.
    fn first(&self, now: DateTime<Utc>) -> (DateTime<Utc>, String) {
        self.after(now, self.every.min(FIRST))
    }

    /// Returns the next instant, to the microsecond, and its text.
    fn next(&self, now: DateTime<Utc>) -> (DateTime<Utc>, String) {
        self.after(now, self.every)
    }

    fn after(&self, now: DateTime<Utc>, delay: TimeDelta) -> (DateTime<Utc>, String) {
        let unit = if self.whole_seconds { TimeDelta::seconds(1) } else { TimeDelta::microseconds(1) };
        let at = now + delay;
        let at = at.duration_trunc(unit).map_or(at, |cut| if cut < at { cut + unit } else { cut });
        (at, isoformat(at, self.offset))
    }
}

/// One demo agent.
#[derive(Debug)]
pub(super) struct DemoAgent {
    /// Instance id, as registered.
    pub(super) instance_id: String,
    /// Access token for the agent API.
    pub(super) access_token: SecretString,
    /// Base URL of the agent API, and the expected `iss`, byte for byte.
    pub(super) portal_url: String,
    /// JWKS URL for fire tokens.
    pub(super) jwks_url: Url,
    /// Rate of its one-shots.
    pub(super) cadence: Cadence,
    /// Time after its instant at which a fire counts as missing.
    pub(super) patience: Duration,
    /// The agent's clock.
    pub(super) clock: Arc<dyn Clock>,
    /// Receives the agent's events.
    pub(super) events: UnboundedSender<Event>,
}

impl DemoAgent {
    /// Runs until `stop`, then cancels its one-shot.
    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let base: Url = self.portal_url.parse().context("portal_url is not a URL")?;
        let api = Client::with_new_connections(base, self.access_token.clone().into())?;
        let verifier =
            FireVerifier::new(self.jwks_url.clone(), self.portal_url.clone(), Arc::clone(&self.clock))?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the demo agent could not listen")?;
        let callback_url = format!("http://{}", listener.local_addr()?);
        // 12 hex digits, as real agents name their jobs.
        let job_id = format!("{:012x}", rand::random::<u64>() >> 16);
        let endpoint = Arc::new(Endpoint::new(
            self.instance_id.clone(),
            job_id.clone(),
            verifier,
            Arc::clone(&self.clock),
            self.events.clone(),
        ));

        let closing = CancellationToken::new();
        let server = axum::serve(listener, endpoint::router(Arc::clone(&endpoint)))
            .with_graceful_shutdown(closing.clone().cancelled_owned());
        let server = tokio::spawn(server.into_future());
        tokio::select! {
            () = self.live(&api, &endpoint, &job_id, &callback_url) => {}
            () = stop.cancelled() => {}
        }
        // Otherwise the service would fire at a closed port, and the next run would start with the retries.
        let cancelled = tokio::time::timeout(LAST_CANCEL_TIMEOUT, api.cancel(&job_id)).await;
        if let Ok(Err(error)) = cancelled {
            self.report_error(format!("the last cancel failed: {error}"));
        }
        closing.cancel();
        server.await?.context("the demo agent's listener failed")
    }

    async fn live(&self, api: &Client, endpoint: &Endpoint, job_id: &str, callback_url: &str) {
        self.cancel_stale(api, job_id).await;
        for round in 1_u64.. {
            let now = self.clock.now();
            let (due, fire_at) = if round == 1 { self.cadence.first(now) } else { self.cadence.next(now) };
            // Before the provision is sent: the fire may arrive before the response.
            endpoint.expect(due, fire_at.clone());
            if let Err(error) = provision(api, job_id, &fire_at, callback_url).await {
                self.report_error(format!("provision failed: {error}"));
                tokio::time::sleep(FAILURE_DELAY).await;
                continue;
            }
            let deadline = (due - self.clock.now()).to_std().unwrap_or_default() + self.patience;
            let wait = async {
                if round % LIST_EVERY == 0 {
                    self.check_list(api, endpoint, job_id, &fire_at).await;
                }
                endpoint.fired().await;
            };
            if tokio::time::timeout(deadline, wait).await.is_err() {
                self.report(EventKind::Missing { fire_at });
            }
        }
    }

    /// Cancels the one-shots of earlier runs, as real agents do when they reconcile.
    async fn cancel_stale(&self, api: &Client, job_id: &str) {
        match armed(api).await {
            Ok(armed) => {
                for left in armed.iter().filter(|left| left.job_id != job_id) {
                    if let Err(error) = api.cancel(&left.job_id).await {
                        self.report_error(format!("cancel failed: {error}"));
                    }
                }
            }
            Err(error) => self.report_error(format!("list failed: {error}")),
        }
    }

    /// Checks that the list contains the armed one-shot with the same `fire_at`, byte for byte
    /// (docs/clients.md#consequences-for-a-server, 1), unless it has fired meanwhile.
    async fn check_list(&self, api: &Client, endpoint: &Endpoint, job_id: &str, fire_at: &str) {
        let listed = match armed(api).await {
            Ok(listed) => listed,
            Err(error) => return self.report_error(format!("list failed: {error}")),
        };
        let found = listed.iter().find(|one| one.job_id == job_id).map(|one| one.fire_at.as_str());
        if found != Some(fire_at) && endpoint.is_waiting() {
            let found = found.unwrap_or("nothing");
            self.report_error(format!("the list shows {found} where {fire_at} was provisioned"));
        }
    }

    fn report_error(&self, error: String) {
        self.report(EventKind::Failed { error });
    }

    fn report(&self, kind: EventKind) {
        // The receiver is gone if the run is ending.
        let _ = self.events.send(Event { agent: self.instance_id.clone(), at: self.clock.now(), kind });
    }
}

/// Provisions as real agents do: the key is the job and its instant, and the auth profile stays unchanged.
async fn provision(api: &Client, job_id: &str, fire_at: &str, callback_url: &str) -> Result<(), ClientError> {
    let wanted = ProvisionRequest {
        job_id: job_id.to_owned(),
        fire_at: fire_at.to_owned(),
        agent_callback_url: callback_url.to_owned(),
        dedup_key: format!("{job_id}:{fire_at}"),
        auth: Given::Keep,
        not_after: Given::Keep,
    };
    api.provision(&wanted).await.map(drop)
}

async fn armed(api: &Client) -> Result<Vec<ListedJob>, ClientError> {
    api.list().await.map(|listing| listing.armed)
}
