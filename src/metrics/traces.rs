//! Traces.

use metrics::{counter, describe_counter};

const EXPORTED: &str = "nas_cron_spans_exported_total";
const DROPPED: &str = "nas_cron_spans_dropped_total";

/// The reason for dropping spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpansDropped {
    /// The queue was full: the collector is slower than the spans arrive, or does not answer.
    QueueFull,
    /// The collector could not be reached, or failed, several times.
    Unavailable,
    /// The collector rejected them.
    Rejected,
}

impl SpansDropped {
    const ALL: &'static [Self] = &[Self::QueueFull, Self::Unavailable, Self::Rejected];

    /// Returns the label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
        }
    }
}

pub(super) fn describe() {
    describe_counter!(EXPORTED, "Spans that the collector of traces accepted");
    describe_counter!(
        DROPPED,
        "Spans that were dropped, by reason: queue_full, unavailable (the collector failed several times), rejected (by \
         the collector)"
    );
    counter!(EXPORTED).increment(0);
    for reason in SpansDropped::ALL {
        counter!(DROPPED, "reason" => reason.as_str()).increment(0);
    }
}

/// Records spans that the collector accepted.
pub fn spans_exported(count: u64) {
    counter!(EXPORTED).increment(count);
}

/// Records spans that were dropped.
pub fn spans_dropped(reason: SpansDropped, count: u64) {
    counter!(DROPPED, "reason" => reason.as_str()).increment(count);
}
