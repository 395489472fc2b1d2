//! Graceful shutdown.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

/// Graceful shutdown.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Time from the first signal to the closing of the listeners.
    pub drain_delay: Duration,
    /// Maximum time from then until the process exits.
    pub shutdown_timeout: Duration,
}

settings! { Stopping:
    DRAIN_DELAY: Key<Duration> = "drain_delay", values::duration(values::s(0), values::HOUR),
        Preset::Value("15s"),
        "Time after the first SIGTERM during which requests are still served, /readyz returns 503 and no new fires are claimed.";
    SHUTDOWN_TIMEOUT: Key<Duration> = "shutdown_timeout", values::duration(values::s(0), values::HOUR),
        Preset::Value("45s"),
        "Time after the drain delay to wait for attempts in flight. The orchestrator's grace period must exceed drain_delay plus this.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Stop {
    Stop { drain_delay: reader.value(&DRAIN_DELAY), shutdown_timeout: reader.value(&SHUTDOWN_TIMEOUT) }
}
