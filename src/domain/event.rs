//! Events: what has happened, for operators and portals.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{OrgId, words};
use serde_json::Value;
use uuid::Uuid;

words!(
    /// The type of an event. The part before the dot is its topic: facts of one topic become events at the same time.
    #[derive(PartialOrd, Ord, utoipa::ToSchema)]
    pub enum EventType {
        /// One-shots became dead letters: all attempts failed, or their limit has passed.
        DeadLetterCreated = "dead_letter.created",
        /// One-shots became stuck: their key came again after its last second fire.
        OneShotStuck = "one_shot.stuck",
        /// Jobs did not arm their next one-shot when it was expected.
        JobBecameDormant = "job.became_dormant",
        /// Dormant jobs armed a one-shot again.
        JobBecameActive = "job.became_active",
        /// Instances cannot be reached: their one-shots wait for a probe.
        InstanceBecameUnreachable = "instance.became_unreachable",
        /// Unreachable instances responded again.
        InstanceBecameReachable = "instance.became_reachable",
        /// An external backend sent no wake-up in time, so that nas-cron fired the one-shots itself.
        WakeUpMissed = "wake_up.missed",
        /// A replica's clock differs from the database's by more than 5 s.
        ClockDrifted = "clock.drifted",
        /// A replica's clock agrees with the database's again.
        ClockCorrected = "clock.corrected",
        /// A signing key was published. It does not sign yet.
        SigningKeyPublished = "signing_key.published",
        /// A signing key signs from now on.
        SigningKeyActivated = "signing_key.activated",
        /// A signing key has stopped signing. It stays published for a while.
        SigningKeyRetired = "signing_key.retired",
        /// A signing key is no longer published.
        SigningKeyRemoved = "signing_key.removed",
        /// An operator tested a webhook.
        WebhookTested = "webhook.tested",
    }
);

/// An event.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Event {
    /// Its ID, which every delivery carries as `webhook-id`.
    pub event_id: Uuid,
    /// Its type, such as `dead_letter.created`. A later release may add types.
    #[serde(rename = "type")]
    pub kind: String,
    /// The org of the webhooks that it is for; `null`: those of the whole service.
    #[schema(value_type = Option<OrgId>)]
    pub org_id: Option<String>,
    /// Time of the first of the facts that it reports.
    pub occurred_at: DateTime<Utc>,
    /// Number of facts that it reports.
    pub count: i64,
    /// The `data` of its deliveries: the counts and the first facts (`items`).
    #[schema(value_type = Object)]
    pub data: Value,
}

/// Events of a list.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only events of this org.
    pub org_id: Option<String>,
    /// Only events of this type.
    pub kind: Option<EventType>,
    /// The caller's org: only its events exist for the caller.
    pub within: Option<String>,
}

/// An event that a sweep has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its ID.
    pub event_id: Uuid,
    /// Its type.
    pub kind: String,
    /// Its org.
    pub org_id: Option<String>,
    /// Number of its facts.
    pub count: i64,
}
