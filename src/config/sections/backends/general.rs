//! Settings that all scheduler backends share.

use std::time::Duration;

use nas_cron_protocol::BackendName;
use url::Url;

use super::super::listening::PUBLIC_URL;
use crate::config::setting::{Preset, Setting};
use crate::config::typed_key::{Key, settings};
use crate::config::values::{self, Choice};

/// What generic code has to know about the settings of one product: its backends, and what configures them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// Its name, as people write it.
    pub(super) name: &'static str,
    /// The backends that it brings.
    pub(super) backends: &'static [BackendName],
    /// The settings that it cannot do without. The presence of the first one configures its backends.
    pub(super) required: &'static [&'static Setting],
}

impl Choice for BackendName {
    const WORDS: &'static [&'static str] = Self::WORDS;
    const VALUES: &'static [Self] = Self::ALL;
}

settings! { Backends:
    BACKEND: Key<BackendName> = "backend", values::choice::<BackendName>(),
        Preset::Value("postgres"),
        "Who wakes us first at a fire's instant, when the service starts for the first time. From then on the database says it: `nas-cron backend switch`.";
    RELAY_URL: Key<Url> = "relay_url", values::URL,
        Preset::Derived { from: PUBLIC_URL.setting, suffix: "/api/agent-cron/relay", unless: None },
        "Where a hosted scheduler calls us, as it sees us: what its signatures are bound to.";
    WATCHDOG_GRACE: Key<Duration> = "watchdog_grace", values::duration(values::ms(500), values::HOUR),
        Preset::Value("5s"),
        "How long after its instant our own loop leaves a fire to the hosted scheduler that is to wake us.";
    ENGINE_TIMEOUT: Key<Duration> = "engine_timeout", values::duration(values::ms(100), values::s(60)),
        Preset::Value("10s"),
        "How long one call to a hosted scheduler may take.";
}
