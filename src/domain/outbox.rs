//! The outbox: what a hosted backend is to be told about the wake-ups that it brings.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{CallbackUrl, EffectiveAuth, FireAt, InstanceId, JobId, ScheduleId};

/// What a hosted backend is to be told about a wake-up.
#[derive(Clone, Debug)]
pub enum Order {
    /// To bring it.
    Arm {
        /// The one-shot that it is for.
        one_shot: Box<ToArm>,
    },
    /// To take it back.
    Cancel {
        /// The backend's name for it, where the backend gave one.
        message_id: Option<String>,
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
    /// When its first attempt may start.
    pub due_at: DateTime<Utc>,
    /// The URL that the fire goes to.
    pub callback_url: CallbackUrl,
    /// The auth profile as it is set now: for a backend that calls the agent itself.
    pub auth: Option<EffectiveAuth>,
}

/// An order that is due to be told.
#[derive(Clone, Debug)]
pub struct ToTell {
    /// The arm that the wake-up is for.
    pub schedule_id: ScheduleId,
    /// The generation of the wake-up: it counts the switches between backends.
    pub generation: i32,
    /// Number of times that it was tried, this time included.
    pub tries: u32,
    /// The order.
    pub order: Order,
}

/// The orders of one round, and when the next ones are due.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// Orders that are to be told now.
    pub to_tell: Vec<ToTell>,
    /// Number of rows that were looked at; if it is as many as were asked for, there may be more.
    pub looked_at: usize,
    /// Until the next order is due, where there is one and none was due now.
    pub next_in: Option<Duration>,
}

/// How telling an order went.
#[derive(Clone, Debug)]
pub struct Told {
    /// The arm that the wake-up is for.
    pub schedule_id: ScheduleId,
    /// The generation of the wake-up.
    pub generation: i32,
    /// The result.
    pub done: Done,
}

/// The result of telling an order.
#[derive(Clone, Debug)]
pub enum Done {
    /// The backend brings the wake-up, under this name where it gave one.
    Armed(Option<String>),
    /// The backend has taken the wake-up back.
    Cancelled,
    /// The backend did not do it; the order is told again.
    Failed {
        /// When to tell it again.
        again_in: Duration,
        /// Why it failed, for the operator.
        error: String,
    },
}
