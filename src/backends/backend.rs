//! The interface of a scheduler backend: one trait, and the types of its arguments and results.
//!
//! docs/backends.md#adding-a-backend lists the files that a new backend touches.

use std::time::Duration;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use nas_cron_protocol::relay::WakeBody;
use nas_cron_protocol::{AuthChoice, BackendName, CallbackUrl, FireAt, InstanceId, JobId, ScheduleId};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::wakes::Wakes;
use crate::db::Db;

/// The sender of a one-shot's first wake-up. A backend sends the *first* wake-up and nothing else. On every backend,
/// the built-in loop decides whether the one-shot is still current, when exactly it fires, and how retries, floors
/// and holds apply.
///
/// No call may hang: each has its own deadline, and returns a [`BackendError`] after it.
pub trait SchedulerBackend: Send + Sync {
    /// Returns the backend's name.
    fn name(&self) -> BackendName;

    /// Returns the backend's limits.
    fn limits(&self) -> Limits;

    /// Arms these wake-ups. Returns one result per wake-up, in order: the backend's message id (where a cancel needs
    /// it), or an error. Repeating the call with the same `schedule_id` and `generation` is harmless.
    fn arm(
        &self,
        wake_ups: &[WakeUp],
    ) -> impl Future<Output = Vec<Result<Option<String>, BackendError>>> + Send;

    /// Cancels wake-ups. Returns one result per wake-up, in order. A wake-up that no longer exists counts as cancelled.
    fn cancel(&self, wake_ups: &[Unwanted]) -> impl Future<Output = Vec<Result<(), BackendError>>> + Send;

    /// Verifies that the backend itself signed this request, over the exact bytes of its body
    /// (docs/contract.md#relay).
    fn verify(&self, request: &RelayRequest<'_>) -> Result<(), Refusal>;

    /// Checks that the backend is reachable and accepts our credentials.
    fn health(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Receives the wake-ups that do not arrive over HTTP, until `stop`. Reconnects by itself.
    fn listen(&self, wakes: Wakes, stop: CancellationToken) -> impl Future<Output = ()> + Send;

    /// Records the results of the calls that the backend makes to agents itself, until `stop`. Does nothing for
    /// backends that make no such calls.
    fn record_results(&self, _db: &Db, _stop: CancellationToken) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// The limits of a backend. The outbox respects `furthest` and `largest_payload`; the backend itself allows for
/// `granularity` and `lead`. Serialized in seconds and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Limits {
    /// Resolution of the backend's timestamps. The lead is at least as long.
    #[serde(with = "seconds")]
    #[schema(value_type = f64)]
    pub granularity: Duration,
    /// Time from the wake-up to the one-shot's instant. The built-in loop's timer covers it to the millisecond.
    #[serde(with = "seconds")]
    #[schema(value_type = f64)]
    pub lead: Duration,
    /// Maximum time ahead at which the backend accepts a wake-up; later ones are armed when they are near enough.
    /// `null`: no limit.
    #[serde(with = "seconds::optional")]
    #[schema(value_type = Option<f64>, required)]
    pub furthest: Option<Duration>,
    /// Maximum length of a body, in bytes. `null`: no limit.
    #[serde(with = "bytes")]
    #[schema(value_type = Option<usize>, required)]
    pub largest_payload: usize,
}

/// A number of bytes in JSON; `null` for no limit, because not every reader of JSON knows integers beyond 2^53.
mod bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(bytes: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        Some(*bytes).filter(|bytes| *bytes != usize::MAX).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(usize::MAX))
    }
}

/// Durations as JSON numbers of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }

    pub(super) mod optional {
        use super::{Deserialize, Deserializer, Duration, Serializer};

        #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
        pub(in super::super) fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            let seconds = Option::<f64>::deserialize(deserializer)?;
            seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
        }
    }
}

impl Limits {
    /// Checks that the wake-up's body is not longer than `largest_payload`.
    pub fn check(&self, wake_up: &WakeUp) -> Result<(), BackendError> {
        let length = serde_json::to_vec(&WakeBody::from(wake_up)).map_or(usize::MAX, |body| body.len());
        if length <= self.largest_payload {
            return Ok(());
        }
        Err(BackendError::Refused(format!(
            "the wake-up is {length} bytes long, the maximum is {}",
            self.largest_payload
        )))
    }
}

/// A wake-up for a backend to send.
#[derive(Clone, Debug)]
pub struct WakeUp {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The arm of the job. With `generation`, it identifies the wake-up.
    pub schedule_id: ScheduleId,
    /// Number of the switch between backends that created the wake-up. It keeps a backend from deduplicating the
    /// wake-up of a one-shot that returns to it.
    pub generation: i32,
    /// The one-shot's instant, and its text.
    pub fire_at: FireAt,
    /// Earliest start of the first attempt: `fire_at`, or later for a floor or a skew guard. The backend sends the
    /// wake-up [`Limits::lead`] earlier.
    pub due_at: DateTime<Utc>,
    /// The URL that the fire goes to.
    pub callback_url: CallbackUrl,
    /// The auth at the time of the arm. Only direct mode needs it this early.
    pub auth: Option<AuthChoice>,
    /// Direct mode: the call that the backend makes to the agent, not before `due_at`.
    pub direct: Option<DirectCall>,
}

/// A call that a backend makes to an agent in place of the service.
#[derive(Clone, Debug)]
pub struct DirectCall {
    /// The agent's fire endpoint.
    pub url: String,
    /// Value of the `Authorization` header.
    pub authorization: SecretString,
    /// The body of the fire.
    pub body: String,
}

/// A wake-up to cancel.
#[derive(Clone, Debug)]
pub struct Unwanted {
    /// The arm of the job.
    pub schedule_id: ScheduleId,
    /// The generation of the wake-up.
    pub generation: i32,
    /// The backend's message id, where it returned one.
    pub message_id: Option<String>,
    /// True if the answer to an arm may have been lost: the backend may have a wake-up whose id is unknown.
    pub unconfirmed: bool,
}

impl From<&WakeUp> for WakeBody {
    fn from(wake_up: &WakeUp) -> Self {
        Self {
            instance_id: wake_up.instance_id.to_string(),
            job_id: wake_up.job_id.to_string(),
            schedule_id: wake_up.schedule_id.to_string(),
            fire_at: wake_up.fire_at.as_str().to_owned(),
        }
    }
}

/// A request to the relay that is not verified yet.
#[derive(Clone, Copy, Debug)]
pub struct RelayRequest<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, byte for byte.
    pub body: &'a [u8],
    /// The wall clock.
    pub now: DateTime<Utc>,
}

/// The reason why a request to the relay is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No signature, or no configured backend that signs its requests.
    Unsigned,
    /// The signature is not a JWT in the backend's format.
    Malformed,
    /// Unexpected signing algorithm.
    Algorithm,
    /// Signed with an unknown key.
    Key,
    /// The signature has expired.
    Expired,
    /// The signature is not valid yet.
    NotYet,
    /// Unexpected issuer.
    Issuer,
    /// Signed for another URL.
    Url,
    /// Signed for another body.
    Body,
}

impl Refusal {
    /// All reasons.
    pub const ALL: &'static [Self] = &[
        Self::Unsigned,
        Self::Malformed,
        Self::Algorithm,
        Self::Key,
        Self::Expired,
        Self::NotYet,
        Self::Issuer,
        Self::Url,
        Self::Body,
    ];

    /// Returns the name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Issuer => "issuer",
            Self::Url => "url",
            Self::Body => "body",
        }
    }
}

/// A failed call to a backend. The texts are for the operator and contain no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The connection failed or broke, or the backend is unavailable.
    #[error("could not be reached: {0}")]
    Unreachable(String),
    /// No response within the call's deadline.
    #[error("did not answer in time")]
    TimedOut,
    /// Too many calls.
    #[error("rejected the call: rate limit exceeded (429)")]
    RateLimited {
        /// Time until the next call is allowed, where the backend named one.
        retry_after: Option<Duration>,
    },
    /// The backend, or a check of this service, rejected the request.
    #[error("refused the request: {0}")]
    Refused(String),
    /// The response is invalid.
    #[error("returned an invalid response: {0}")]
    Garbage(String),
}

impl BackendError {
    /// Returns the name in metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut => "timed_out",
            Self::RateLimited { .. } => "rate_limited",
            Self::Refused(_) => "refused",
            Self::Garbage(_) => "garbage",
        }
    }

    /// Returns the time that the backend asked to wait before the next call.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_enforced_and_serialized_in_seconds_and_bytes() {
        let limits = Limits {
            granularity: Duration::from_secs(1),
            lead: Duration::from_millis(1_500),
            furthest: None,
            largest_payload: 200,
        };
        let shown =
            serde_json::json!({"granularity": 1.0, "lead": 1.5, "furthest": null, "largest_payload": 200});
        assert_eq!(serde_json::to_value(limits).unwrap(), shown);
        for limits in [
            limits,
            Limits { largest_payload: usize::MAX, furthest: Some(Duration::from_hours(1)), ..limits },
        ] {
            let json = serde_json::to_value(limits).unwrap();
            assert_eq!(serde_json::from_value::<Limits>(json).unwrap(), limits);
        }
        let fire_at = FireAt::parse("2026-06-18T12:34:56Z").unwrap();
        let wake_up = |job: &str| WakeUp {
            instance_id: InstanceId::new("i").unwrap(),
            job_id: JobId::new(job).unwrap(),
            schedule_id: ScheduleId::fresh(),
            generation: 1,
            due_at: fire_at.instant(),
            fire_at: fire_at.clone(),
            callback_url: CallbackUrl::parse("https://agent.example").unwrap(),
            auth: None,
            direct: None,
        };
        let body = |job: &str| serde_json::to_vec(&WakeBody::from(&wake_up(job))).unwrap().len();
        let longest = "j".repeat(200 - body("j") + 1);
        assert_eq!(body(&longest), 200);
        assert_eq!(limits.check(&wake_up(&longest)), Ok(()));
        assert_eq!(
            limits.check(&wake_up(&format!("{longest}j"))),
            Err(BackendError::Refused("the wake-up is 201 bytes long, the maximum is 200".to_owned()))
        );
    }
}
