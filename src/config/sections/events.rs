//! Events for operators and portals.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

/// Grouping of events.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Time from the first fact of a quiet topic to its event.
    pub group_wait: Duration,
    /// Minimum time between two events of a topic.
    pub group_interval: Duration,
}

settings! { Events:
    EVENT_GROUP_WAIT: Key<Duration> = "event_group_wait", values::duration(values::s(0), values::HOUR),
        Preset::Value("30s"),
        "Time from the first occurrence to the event that reports it. What else happens in this time is in the same event.";
    EVENT_GROUP_INTERVAL: Key<Duration> = "event_group_interval", values::duration(values::s(0), values::HOUR),
        Preset::Value("5m"),
        "Minimum time between two events of one topic. What happens in this time is in the next event.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Events {
    Events {
        group_wait: reader.value(&EVENT_GROUP_WAIT),
        group_interval: reader.value(&EVENT_GROUP_INTERVAL),
    }
}
