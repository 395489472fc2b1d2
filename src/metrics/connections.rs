//! Inbound connections.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const OPEN: &str = "nas_cron_open_connections";
const OPEN_MAX: &str = "nas_cron_open_connections_max";
const CLOSED: &str = "nas_cron_connections_closed_total";

/// Listener that accepted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// For agents, the portal backend and external scheduler backends.
    Public,
    /// For the admin API, if it has a listener of its own.
    Admin,
    /// For Prometheus.
    Metrics,
}

impl Listener {
    const ALL: &'static [Self] = &[Self::Public, Self::Admin, Self::Metrics];

    /// Returns the label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

/// Reason for closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The caller closed it, asked to close it or broke the protocol, or the service is stopping.
    Ended,
    /// No complete request arrived in time.
    Unfinished,
    /// No further request arrived in time.
    Idle,
    /// The caller did not read a response in time.
    SlowReader,
    /// Closed to make room for a newer connection.
    Displaced,
    /// Its request had waited while the process was frozen.
    Stale,
}

impl Closed {
    const ALL: &'static [Self] =
        &[Self::Ended, Self::Unfinished, Self::Idle, Self::SlowReader, Self::Displaced, Self::Stale];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Unfinished => "unfinished",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::Displaced => "displaced",
            Self::Stale => "stale",
        }
    }
}

pub(super) fn describe() {
    describe_gauge!(OPEN, "Open inbound connections, by listener");
    describe_gauge!(
        OPEN_MAX,
        "Maximum number of open inbound connections, by listener; near it, waiting connections are closed"
    );
    describe_counter!(
        CLOSED,
        "Inbound connections that were closed, by listener and reason: ended (by the caller), unfinished (request), idle, \
         slow_reader (of a response), displaced (by newer ones near the limit), stale (after the process was frozen)"
    );
    for listener in Listener::ALL {
        gauge!(OPEN, "listener" => listener.as_str()).set(0.0);
        for reason in Closed::ALL {
            counter!(CLOSED, "listener" => listener.as_str(), "reason" => reason.as_str()).increment(0);
        }
    }
}

/// Sets the maximum number of open connections of a listener.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub fn set_connections_max(listener: Listener, max: usize) {
    gauge!(OPEN_MAX, "listener" => listener.as_str()).set(max as f64);
}

/// Records an accepted connection.
pub fn connection_opened(listener: Listener) {
    gauge!(OPEN, "listener" => listener.as_str()).increment(1.0);
}

/// Records that an accepted connection was closed.
pub fn connection_closed(listener: Listener, reason: Closed) {
    gauge!(OPEN, "listener" => listener.as_str()).decrement(1.0);
    counter!(CLOSED, "listener" => listener.as_str(), "reason" => reason.as_str()).increment(1);
}

/// Records connections that were closed from the backlog without being served.
pub fn backlog_closed(listener: Listener, count: u64) {
    counter!(CLOSED, "listener" => listener.as_str(), "reason" => Closed::Stale.as_str()).increment(count);
}
