//! How the service ends.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

/// How the service ends.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// From the first signal to the closing of the listeners.
    pub drain_delay: Duration,
    /// From then to the end, at most.
    pub shutdown_timeout: Duration,
}

settings! { Stopping:
    DRAIN_DELAY: Key<Duration> = "drain_delay", values::duration(values::s(0), values::HOUR),
        Preset::Value("15s"),
        "How long agents are still served after the first SIGTERM, while /readyz answers 503 and no fire is claimed.";
    SHUTDOWN_TIMEOUT: Key<Duration> = "shutdown_timeout", values::duration(values::s(0), values::HOUR),
        Preset::Value("45s"),
        "How long attempts under way are then waited for. Give the orchestrator more than drain_delay and this together.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Stop {
    Stop { drain_delay: reader.value(&DRAIN_DELAY), shutdown_timeout: reader.value(&SHUTDOWN_TIMEOUT) }
}
