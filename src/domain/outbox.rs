//! The outbox: orders to an external backend to arm or cancel wake-ups.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{CallbackUrl, EffectiveAuth, FireAt, InstanceId, JobId, ScheduleId};

/// An order to an external backend.
#[derive(Clone, Debug)]
pub enum Order {
    /// Arm a wake-up.
    Arm {
        /// The one-shot that it is for.
        one_shot: Box<ToArm>,
    },
    /// Cancel a wake-up.
    Cancel {
        /// The backend's id of the wake-up, if it returned one.
        message_id: Option<String>,
        /// True if the answer to an arm may have been lost, so that the backend may have the wake-up.
        unconfirmed: bool,
    },
}

/// A one-shot whose wake-up is wanted.
#[derive(Clone, Debug)]
pub struct ToArm {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The instant, and its text.
    pub fire_at: FireAt,
    /// Earliest start of its first attempt.
    pub due_at: DateTime<Utc>,
    /// The URL that the fire goes to.
    pub callback_url: CallbackUrl,
    /// The current auth, for a backend that calls the agent itself.
    pub auth: Option<EffectiveAuth>,
}

/// An order that is due.
#[derive(Clone, Debug)]
pub struct ToTell {
    /// The arm that the wake-up is for.
    pub schedule_id: ScheduleId,
    /// Generation of the wake-up: it grows by one with each switch of the backend.
    pub generation: i32,
    /// Number of tries, this one included.
    pub tries: u32,
    /// The order.
    pub order: Order,
}

/// The orders of one round, and the time of the next round.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// Orders that are due now.
    pub to_tell: Vec<ToTell>,
    /// Number of rows that were read; if it equals the limit of the query, there may be more.
    pub looked_at: usize,
    /// Time until the next order is due, if none was due now.
    pub next_in: Option<Duration>,
}

/// An order with its result.
#[derive(Clone, Debug)]
pub struct Told {
    /// The arm that the wake-up is for.
    pub schedule_id: ScheduleId,
    /// Generation of the wake-up.
    pub generation: i32,
    /// The result.
    pub done: Done,
}

/// The result of an order.
#[derive(Clone, Debug)]
pub enum Done {
    /// The backend has armed the wake-up; with its id of the wake-up, if it returned one.
    Armed(Option<String>),
    /// The backend has cancelled the wake-up.
    Cancelled,
    /// The order failed and is retried.
    Failed {
        /// Time until the retry.
        again_in: Duration,
        /// The error, for the operator.
        error: String,
    },
}
