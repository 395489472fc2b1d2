//! Settings that all scheduler backends share.

use std::time::Duration;

use nas_cron_protocol::BackendName;
use url::Url;

use super::super::listening::PUBLIC_URL;
use crate::config::setting::{Preset, Setting};
use crate::config::typed_key::{Key, settings};
use crate::config::values::{self, Choice};

/// The backends of one product, and the settings that configure them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// Name of the product, for messages.
    pub(super) name: &'static str,
    /// Backends that the product provides.
    pub(super) backends: &'static [BackendName],
    /// Settings that the product requires, for messages.
    pub(super) required: &'static [&'static Setting],
    /// Settings of which any enables its backends.
    pub(super) enabled_by: &'static [&'static Setting],
}

impl Choice for BackendName {
    const WORDS: &'static [&'static str] = Self::WORDS;
    const VALUES: &'static [Self] = Self::ALL;
}

settings! { Backends:
    BACKEND: Key<BackendName> = "backend", values::choice::<BackendName>(),
        Preset::Value("postgres"),
        "Scheduler backend to start with, when the database is new. Afterwards the active backend is stored in the database; change it with `nas-cron backend switch`.";
    RELAY_URL: Key<Url> = "relay_url", values::URL,
        Preset::Derived { from: PUBLIC_URL.setting, suffix: "/api/agent-cron/relay", unless: None },
        "Relay URL that external scheduler backends call. Their signatures are verified against it.";
    WATCHDOG_GRACE: Key<Duration> = "watchdog_grace", values::duration(values::ms(500), values::HOUR),
        Preset::Value("5s"),
        "Time after `fire_at` to wait for the external backend's wake-up before nas-cron fires the one-shot itself.";
    ENGINE_TIMEOUT: Key<Duration> = "engine_timeout", values::duration(values::ms(100), values::s(60)),
        Preset::Value("10s"),
        "Timeout of one call to an external scheduler backend.";
}
