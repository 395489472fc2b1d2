//! What a scheduler backend is: one trait, and the words that it is told and answers in.
//!
//! The files that a new backend touches are listed in docs/backends.md#adding-a-backend.

use std::time::Duration;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use nas_cron_protocol::relay::WakeBody;
use nas_cron_protocol::{AuthProfile, BackendName, CallbackUrl, FireAt, InstanceId, JobId, ScheduleId};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::wakes::Wakes;
use crate::db::Db;

/// What sends a one-shot's first wake-up. A backend brings the *first* wake-up and nothing else: whether the
/// one-shot still stands, the exact millisecond, retries, floors and holds are our own loop's, on every backend.
///
/// Nothing here may hang: every call has its own deadline, and ends with a [`BackendError`] after it.
pub trait SchedulerBackend: Send + Sync {
    /// Which one it is.
    fn name(&self) -> BackendName;

    /// What it can do.
    fn limits(&self) -> Limits;

    /// Asks for these wake-ups. One answer per wake-up, in order: what the backend calls it (where a cancel needs
    /// that), or why not. Asking again for the same `schedule_id` and `generation` is harmless.
    fn arm(
        &self,
        wake_ups: &[WakeUp],
    ) -> impl Future<Output = Vec<Result<Option<String>, BackendError>>> + Send;

    /// Takes wake-ups back. One answer per wake-up, in order; what is not there any more counts as taken back.
    fn cancel(&self, wake_ups: &[Unwanted]) -> impl Future<Output = Vec<Result<(), BackendError>>> + Send;

    /// Whether the backend itself made this request, over the exact bytes of its body (docs/contract.md#relay).
    fn verify(&self, request: &RelayRequest<'_>) -> Result<(), Refusal>;

    /// Whether it would answer now.
    fn health(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Brings in the wake-ups that do not come over HTTP, until `stop`. Reconnects by itself.
    fn listen(&self, wakes: Wakes, stop: CancellationToken) -> impl Future<Output = ()> + Send;

    /// Where the backend calls agents itself: records how those calls ended, until `stop`. Others have nothing to do.
    fn record_results(&self, _db: &Db, _stop: CancellationToken) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What a backend can do. What is too far ahead or too long is not handed over; grain and lead the backend itself
/// allows for. As JSON in seconds and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// The grain of its instants; the lead is at least as long.
    #[serde(serialize_with = "seconds")]
    pub granularity: Duration,
    /// How much before its instant we are woken: our own timer does the rest, to the millisecond.
    #[serde(serialize_with = "seconds")]
    pub lead: Duration,
    /// How far ahead it takes a wake-up; what is due later is handed over when it is near enough. `None`: any.
    #[serde(serialize_with = "maybe_seconds")]
    pub furthest: Option<Duration>,
    /// The longest body it takes, in bytes.
    pub largest_payload: usize,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "what serde calls it with")]
fn maybe_seconds<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

impl Limits {
    /// Whether the backend takes this body.
    pub fn check(&self, wake_up: &WakeUp) -> Result<(), BackendError> {
        let length = serde_json::to_vec(&WakeBody::from(wake_up)).map_or(usize::MAX, |body| body.len());
        if length <= self.largest_payload {
            return Ok(());
        }
        Err(BackendError::Refused(format!(
            "the wake-up is {length} bytes long, and it takes {}",
            self.largest_payload
        )))
    }
}

/// A wake-up that a backend is to bring.
#[derive(Clone, Debug)]
pub struct WakeUp {
    /// Whose job.
    pub instance_id: InstanceId,
    /// Which job.
    pub job_id: JobId,
    /// Which arm of it: with `generation` the wake-up's name.
    pub schedule_id: ScheduleId,
    /// Counts the moves between backends, so that a return to one is not deduplicated away.
    pub generation: i32,
    /// The one-shot's instant, and its text.
    pub fire_at: FireAt,
    /// When its first attempt may start: `fire_at`, or later for a floor or a skew guard. The backend is to wake
    /// us its [`Limits::lead`] before.
    pub due_at: DateTime<Utc>,
    /// Where the fire goes.
    pub callback_url: CallbackUrl,
    /// With which profile, as it was set when this was made: only direct mode needs it so early.
    pub auth: Option<AuthProfile>,
    /// Direct mode: the backend is to call the agent itself, not before `due_at`.
    pub direct: Option<DirectCall>,
}

/// The call that a backend makes in our place.
#[derive(Clone, Debug)]
pub struct DirectCall {
    /// Where to: the agent's fire endpoint.
    pub url: String,
    /// The `Authorization` header's value.
    pub authorization: SecretString,
    /// The body, as in hop 3.
    pub body: String,
}

/// A wake-up that is not wanted any more.
#[derive(Clone, Debug)]
pub struct Unwanted {
    /// Of which arm.
    pub schedule_id: ScheduleId,
    /// Of which generation.
    pub generation: i32,
    /// What the backend calls it, where it said so.
    pub message_id: Option<String>,
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

/// A request to the relay, before anything of it is believed.
#[derive(Clone, Copy, Debug)]
pub struct RelayRequest<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, byte for byte.
    pub body: &'a [u8],
    /// The wall clock.
    pub now: DateTime<Utc>,
}

/// Why a request to the relay is not the backend's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It carries no signature, or none of a backend that is configured.
    Unsigned,
    /// The signature is no JWT of the backend's form.
    Malformed,
    /// Another algorithm than the backend's.
    Algorithm,
    /// No key of ours made it.
    Key,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYet,
    /// Another issuer.
    Issuer,
    /// Made for another URL.
    Url,
    /// Made for another body.
    Body,
}

impl Refusal {
    /// All of them.
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

    /// For logs and metrics.
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

/// Why a backend did not do what it was asked for. The texts are for the operator and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No connection, or it broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No answer within the call's deadline.
    #[error("did not answer in time")]
    TimedOut,
    /// Too many calls.
    #[error("asks for fewer calls (429)")]
    RateLimited {
        /// When to come again, where it said so.
        retry_after: Option<Duration>,
    },
    /// It understood and refused.
    #[error("refused: {0}")]
    Refused(String),
    /// An answer that is none.
    #[error("answered what is no answer: {0}")]
    Garbage(String),
}

impl BackendError {
    /// For metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut => "timed_out",
            Self::RateLimited { .. } => "rate_limited",
            Self::Refused(_) => "refused",
            Self::Garbage(_) => "garbage",
        }
    }

    /// How long the backend asked to be left alone.
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
    fn limits_are_checked_and_shown_in_seconds_and_bytes() {
        let limits = Limits {
            granularity: Duration::from_secs(1),
            lead: Duration::from_millis(1_500),
            furthest: None,
            largest_payload: 200,
        };
        let shown =
            serde_json::json!({"granularity": 1.0, "lead": 1.5, "furthest": null, "largest_payload": 200});
        assert_eq!(serde_json::to_value(limits).unwrap(), shown);
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
            Err(BackendError::Refused("the wake-up is 201 bytes long, and it takes 200".to_owned()))
        );
    }
}
