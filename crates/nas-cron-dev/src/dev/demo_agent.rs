//! An agent that does over HTTP what a real hermes-agent does (docs/clients.md#hermes-agent): it takes stock, arms a one-shot, is
//! fired, verifies the token, answers before it runs, and arms the next one.

mod door;
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

use self::door::Door;
use super::event::{Event, What};
use super::fire_verifier::FireVerifier;

/// How many arms lie between two looks at the list.
const LIST_EVERY: u64 = 5;
/// After a provision that failed. A real agent would wait for somebody to touch its cron.
const AFTER_TROUBLE: Duration = Duration::from_secs(5);
/// For the last cancel.
const FAREWELL: Duration = Duration::from_secs(2);

/// When an agent wants to be fired, and how it writes that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    /// From one arm to its fire, at least.
    pub(super) every: TimeDelta,
    /// Whether it wants whole seconds, as cron expressions do, or has microseconds, as intervals do.
    pub(super) whole_seconds: bool,
    /// Its time zone.
    pub(super) offset: FixedOffset,
}

impl Cadence {
    /// The next instant, to the microsecond, and its text.
    fn next(&self, now: DateTime<Utc>) -> (DateTime<Utc>, String) {
        let unit = if self.whole_seconds { TimeDelta::seconds(1) } else { TimeDelta::microseconds(1) };
        let at = now + self.every;
        let at = at.duration_trunc(unit).map_or(at, |cut| if cut < at { cut + unit } else { cut });
        (at, isoformat(at, self.offset))
    }
}

/// One demo agent.
#[derive(Debug)]
pub(super) struct DemoAgent {
    /// Its name, as registered.
    pub(super) instance_id: String,
    /// Its token for hop 1.
    pub(super) access_token: SecretString,
    /// Base of hop 1 and expected `iss`, byte for byte.
    pub(super) portal_url: String,
    /// Where it fetches the keys of fire tokens.
    pub(super) jwks_url: Url,
    /// When it wants to be fired.
    pub(super) cadence: Cadence,
    /// How long after its instant a fire is missing.
    pub(super) patience: Duration,
    /// What time it is for it.
    pub(super) clock: Arc<dyn Clock>,
    /// Where it reports.
    pub(super) events: UnboundedSender<Event>,
}

impl DemoAgent {
    /// Lives until `stop`, and then disarms what it has armed.
    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let base: Url = self.portal_url.parse().context("portal_url is no URL")?;
        let hop1 = Client::with_new_connections(base, self.access_token.clone().into())?;
        let verifier =
            FireVerifier::new(self.jwks_url.clone(), self.portal_url.clone(), Arc::clone(&self.clock))?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the demo agent cannot listen")?;
        let callback_url = format!("http://{}", listener.local_addr()?);
        // 12 hex digits, as real agents name their jobs.
        let job_id = format!("{:012x}", rand::random::<u64>() >> 16);
        let door = Arc::new(Door::new(
            self.instance_id.clone(),
            job_id.clone(),
            verifier,
            Arc::clone(&self.clock),
            self.events.clone(),
        ));

        let closing = CancellationToken::new();
        let server = axum::serve(listener, door::router(Arc::clone(&door)))
            .with_graceful_shutdown(closing.clone().cancelled_owned());
        let server = tokio::spawn(server.into_future());
        tokio::select! {
            () = self.live(&hop1, &door, &job_id, &callback_url) => {}
            () = stop.cancelled() => {}
        }
        // Otherwise it would fire into the void, and the next run begin with its retries.
        let farewell = tokio::time::timeout(FAREWELL, hop1.cancel(&job_id)).await;
        if let Ok(Err(error)) = farewell {
            self.trouble(format!("the last cancel failed: {error}"));
        }
        closing.cancel();
        server.await?.context("the demo agent's listener failed")
    }

    async fn live(&self, hop1: &Client, door: &Door, job_id: &str, callback_url: &str) {
        self.take_stock(hop1, job_id).await;
        for round in 1_u64.. {
            let (due, fire_at) = self.cadence.next(self.clock.now());
            // Before it is sent: the fire may overtake the answer.
            door.expect(due, fire_at.clone());
            if let Err(error) = provision(hop1, job_id, &fire_at, callback_url).await {
                self.trouble(format!("provision failed: {error}"));
                tokio::time::sleep(AFTER_TROUBLE).await;
                continue;
            }
            let deadline = (due - self.clock.now()).to_std().unwrap_or_default() + self.patience;
            let wait = async {
                if round % LIST_EVERY == 0 {
                    self.look_at_list(hop1, door, job_id, &fire_at).await;
                }
                door.fired().await;
            };
            if tokio::time::timeout(deadline, wait).await.is_err() {
                self.tell(What::Missing { fire_at });
            }
        }
    }

    /// What is armed and not ours is left from an earlier life: cancelled, as the reconcile of real agents does.
    async fn take_stock(&self, hop1: &Client, job_id: &str) {
        match armed(hop1).await {
            Ok(armed) => {
                for left in armed.iter().filter(|left| left.job_id != job_id) {
                    if let Err(error) = hop1.cancel(&left.job_id).await {
                        self.trouble(format!("cancel failed: {error}"));
                    }
                }
            }
            Err(error) => self.trouble(format!("list failed: {error}")),
        }
    }

    /// What was armed must be listed, `fire_at` byte for byte (docs/clients.md#consequences-for-a-server, 1), unless it has fired meanwhile.
    async fn look_at_list(&self, hop1: &Client, door: &Door, job_id: &str, fire_at: &str) {
        let listed = match armed(hop1).await {
            Ok(listed) => listed,
            Err(error) => return self.trouble(format!("list failed: {error}")),
        };
        let found = listed.iter().find(|one| one.job_id == job_id).map(|one| one.fire_at.as_str());
        if found != Some(fire_at) && door.is_waiting() {
            let found = found.unwrap_or("nothing");
            self.trouble(format!("the list shows {found} where {fire_at} was provisioned"));
        }
    }

    fn trouble(&self, what: String) {
        self.tell(What::Trouble { what });
    }

    fn tell(&self, what: What) {
        // Nobody listens any more: the end is near.
        let _ = self.events.send(Event { agent: self.instance_id.clone(), at: self.clock.now(), what });
    }
}

/// As real agents do: the key is the job and its instant, and nothing is said of its auth profile.
async fn provision(
    hop1: &Client,
    job_id: &str,
    fire_at: &str,
    callback_url: &str,
) -> Result<(), ClientError> {
    let wanted = ProvisionRequest {
        job_id: job_id.to_owned(),
        fire_at: fire_at.to_owned(),
        agent_callback_url: callback_url.to_owned(),
        dedup_key: format!("{job_id}:{fire_at}"),
        auth: Given::Keep,
    };
    hop1.provision(&wanted).await.map(drop)
}

async fn armed(hop1: &Client) -> Result<Vec<ListedJob>, ClientError> {
    hop1.list().await.map(|listing| listing.armed)
}
