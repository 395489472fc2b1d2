//! Inbound connections.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const OPEN: &str = "nas_cron_open_connections";
const CLOSED: &str = "nas_cron_connections_closed_total";

/// The listener of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Of agents, the portal's backend and hosted schedulers.
    Public,
    /// Of Prometheus.
    Metrics,
}

impl Listener {
    const ALL: &'static [Self] = &[Self::Public, Self::Metrics];

    /// Its name, as in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Metrics => "metrics",
        }
    }
}

/// The reason why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The caller closed it, or asked for that, or broke the protocol; or the service stops.
    Ended,
    /// No request arrived, or one that was not complete in time.
    Unfinished,
    /// No further request came in time.
    Idle,
    /// The caller did not take a response in time.
    SlowReader,
    /// A newer connection needed its place.
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
    describe_counter!(
        CLOSED,
        "Inbound connections that were closed, by listener and reason (ended by the caller; unfinished request; idle; \
         slow_reader of a response; displaced by newer ones near the bound; stale after a freeze of the process)"
    );
    for listener in Listener::ALL {
        gauge!(OPEN, "listener" => listener.as_str()).set(0.0);
        for reason in Closed::ALL {
            counter!(CLOSED, "listener" => listener.as_str(), "reason" => reason.as_str()).increment(0);
        }
    }
}

/// A connection was accepted.
pub fn connection_opened(listener: Listener) {
    gauge!(OPEN, "listener" => listener.as_str()).increment(1.0);
}

/// An accepted connection was closed.
pub fn connection_closed(listener: Listener, reason: Closed) {
    gauge!(OPEN, "listener" => listener.as_str()).decrement(1.0);
    counter!(CLOSED, "listener" => listener.as_str(), "reason" => reason.as_str()).increment(1);
}

/// Connections were closed out of the backlog, without having been served.
pub fn backlog_closed(listener: Listener, count: u64) {
    counter!(CLOSED, "listener" => listener.as_str(), "reason" => Closed::Stale.as_str()).increment(count);
}
