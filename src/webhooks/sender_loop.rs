//! The loop that makes events of facts and sends them. Every replica runs it: one sweep at a time in the whole service, and
//! one attempt at a time for each webhook.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Webhooks;
use super::sender::TIMEOUT;
use super::verdict::{Before, judge};
use crate::db::webhooks::deliveries;
use crate::db::{DbResult, events};
use crate::domain::webhook::{DeliveryState, Due, Outcome, Sent, WebhookEnd};
use crate::heartbeat;
use crate::metrics::{self, PanicPlace};

/// Maximum number of attempts in flight per replica.
const SLOTS: usize = 8;
/// Lease of a webhook: longer than an attempt and its record, also if the database is slow.
const LEASE: Duration = Duration::from_secs(TIMEOUT.as_secs() + 45);
/// Maximum and minimum time between two looks.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(5), Duration::from_millis(200)];
/// Factor of that time while there are no webhooks.
const IDLE: u32 = 12;
/// Delay of an attempt whose secret could not be decrypted.
const UNSIGNED: Duration = Duration::from_mins(1);

/// Grouping of facts to events.
#[derive(Clone, Copy, Debug)]
pub struct Grouping {
    /// Time from the first fact of a quiet topic to its event.
    pub wait: Duration,
    /// Minimum time between two events of a topic.
    pub pause: Duration,
}

impl Grouping {
    /// Returns the time between two looks: no more often than the grouping needs.
    fn look_every(&self) -> Duration {
        self.wait.clamp(LOOK_EVERY[1], LOOK_EVERY[0])
    }
}

/// Runs until `stop`, and finishes the attempts in flight.
pub async fn run(webhooks: Webhooks, grouping: Grouping, stop: CancellationToken) {
    let (mut sending, mut faults) = (JoinSet::new(), 0_u32);
    loop {
        let pause = match round(&webhooks, grouping, &mut sending).await {
            Ok(pause) => {
                faults = 0;
                pause
            }
            Err(error) => {
                faults += 1;
                // Logged once at the start of an outage, and then about every minute.
                if faults == 1 || faults.is_multiple_of(12) {
                    warn!(%error, faults, "reading events failed; retrying");
                }
                grouping.look_every()
            }
        };
        let pause = pause.mul_f64(rand::random_range(0.9..1.1));
        let goes_on = heartbeat::rest(async {
            tokio::select! {
                () = stop.cancelled() => return false,
                Some(ended) = sending.join_next() => report(ended),
                () = tokio::time::sleep(pause) => {}
            }
            true
        });
        if !goes_on.await {
            break;
        }
    }
    heartbeat::rest(async {
        while let Some(ended) = sending.join_next().await {
            report(ended);
        }
    })
    .await;
}

fn report(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        metrics::panicked(PanicPlace::Background);
        error!("delivery of an event panicked; it is repeated when its lease ends");
    }
}

/// Makes events of the ripe facts, and starts attempts while slots are free. Returns the time until the next look.
async fn round(webhooks: &Webhooks, grouping: Grouping, sending: &mut JoinSet<()>) -> DbResult<Duration> {
    let db = webhooks.db();
    let look = events::look(db, grouping.wait, grouping.pause).await?;
    metrics::set_webhooks(look.pending, look.failed);
    if look.ripe {
        for made in events::sweep(&db.patient(), grouping.wait, grouping.pause).await? {
            metrics::event_made(&made.kind);
            info!(
                event.id = %made.event_id,
                event.r#type = made.kind,
                org.id = made.org_id,
                count = made.count,
                "event created"
            );
        }
    }
    let free = SLOTS - sending.len();
    if free > 0 && (look.pending > 0 || look.ripe) {
        for due in deliveries::claim(db, i64::try_from(free).unwrap_or_default(), LEASE).await? {
            sending.spawn(deliver(webhooks.clone(), due));
        }
    }
    Ok(grouping.look_every() * if look.webhooks { 1 } else { IDLE })
}

/// Makes one attempt, and records it.
async fn deliver(webhooks: Webhooks, due: Due) {
    let recorded = match webhooks.open(due.webhook_id, &due.secrets) {
        Ok(secrets) => {
            let sent = webhooks.sender().send(&due.url, &due.event, &secrets).await;
            let before =
                Before { failures: due.failures, failing_for: due.failing_for, tried_for: due.tried_for };
            let outcome = judge(&sent, before, rand::random());
            log(&due, &sent, &outcome);
            deliveries::record(webhooks.db(), &due, &sent, &outcome).await
        }
        Err(error) => {
            error!(webhook.id = %due.webhook_id, %error, "signing an event failed; retrying");
            let (id, token) = (due.webhook_id, due.lease_token);
            deliveries::give_back(webhooks.db(), id, token, UNSIGNED).await.map(|()| true)
        }
    };
    match recorded {
        Ok(true) => {}
        Ok(false) => {
            info!(webhook.id = %due.webhook_id, "webhook deleted, or its lease ended, during an attempt");
        }
        Err(error) => {
            warn!(webhook.id = %due.webhook_id, %error, "recording a delivery failed; it is repeated when its lease ends");
        }
    }
}

/// Logs and counts an attempt.
fn log(due: &Due, sent: &Sent, outcome: &Outcome) {
    let (webhook, event, kind) = (due.webhook_id, due.event.event_id, &due.event.kind);
    let result = match (outcome.ends, outcome.state) {
        (Some(WebhookEnd::Gone), _) => "gone",
        (_, DeliveryState::Delivered) => "delivered",
        (_, DeliveryState::Refused) => "refused",
        (_, DeliveryState::Pending) => "failed",
    };
    metrics::webhook_attempted(result);
    let error = sent.error.as_deref();
    let retry_in_s = outcome.next_in.as_secs();
    match (outcome.ends, outcome.state) {
        (Some(WebhookEnd::Gone), _) => {
            warn!(webhook.id = %webhook, "webhook disabled: its receiver answered 410 Gone");
        }
        (Some(_), _) => {
            error!(webhook.id = %webhook, error, "webhook failed: it accepted nothing for three days; fix its receiver and enable it");
        }
        (None, DeliveryState::Delivered) => {
            info!(webhook.id = %webhook, event.id = %event, event.r#type = kind, status = sent.status, "event delivered");
        }
        (None, DeliveryState::Refused) => {
            warn!(webhook.id = %webhook, event.id = %event, event.r#type = kind, error, "event refused by its receiver");
        }
        (None, DeliveryState::Pending) => {
            warn!(webhook.id = %webhook, event.id = %event, event.r#type = kind, error, retry_in_s, "event delivery failed");
        }
    }
}
