//! Scheduler backends. Each product has its own file with settings, values and rules.

mod general;
mod nats;
mod qstash;

use std::time::Duration;

use nas_cron_protocol::BackendName;
use url::Url;

use self::general::{BACKEND, ENGINE_TIMEOUT, Product, RELAY_URL, WATCHDOG_GRACE};
pub use self::nats::Nats;
pub use self::qstash::{Qstash, QstashAccount};
use crate::config::reader::Reader;
use crate::config::setting::Setting;

/// The configured scheduler backends.
#[derive(Clone, Debug)]
pub struct Backends {
    /// Active backend of a service that starts for the first time.
    pub first: BackendName,
    /// Relay URL that external backends call.
    pub relay_url: Url,
    /// Timeout of one call to a backend.
    pub call_timeout: Duration,
    /// Watchdog grace of each external backend, configured or not: time after `fire_at` to wait for its wake-up.
    pub graces: Vec<(BackendName, Duration)>,
    /// Settings of QStash, if it is configured.
    pub qstash: Option<Qstash>,
    /// Settings of NATS, if it is configured.
    pub nats: Option<Nats>,
}

/// Products that provide external backends.
const PRODUCTS: &[Product] = &[qstash::PRODUCT, nats::PRODUCT];

/// The section's rows of the table.
pub(in crate::config) const TABLES: &[&[Setting]] = &[general::SETTINGS, qstash::SETTINGS, nats::SETTINGS];

impl Backends {
    /// Returns the configured external backends.
    pub fn configured(&self) -> Vec<BackendName> {
        let products =
            [self.qstash.as_ref().map(|_| qstash::PRODUCT), self.nats.as_ref().map(|_| nats::PRODUCT)];
        products.into_iter().flatten().flat_map(|product| product.backends).copied().collect()
    }

    /// True if this backend is configured. Postgres always is.
    pub fn is_configured(&self, backend: BackendName) -> bool {
        backend == BackendName::Postgres || self.configured().contains(&backend)
    }

    /// Returns the watchdog grace of this backend, zero for Postgres.
    pub fn grace(&self, backend: BackendName) -> Duration {
        self.graces.iter().find(|one| one.0 == backend).map_or(Duration::ZERO, |one| one.1)
    }
}

/// Returns the variables that configure a backend as a readable list, empty for Postgres.
pub fn variables_of(backend: BackendName) -> String {
    let product = PRODUCTS.iter().find(|product| product.backends.contains(&backend));
    let required = product.map_or(&[][..], |product| product.required);
    required.iter().map(|setting| setting.env()).collect::<Vec<_>>().join(" and ")
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Backends {
    let first = reader.value(&BACKEND);
    let relay_url = reader.value(&RELAY_URL);
    let usual_grace = reader.value(&WATCHDOG_GRACE);
    let call_timeout = reader.value(&ENGINE_TIMEOUT);
    let qstash = qstash::read(reader);
    let nats = nats::read(reader);
    let mut graces = qstash::read_graces(usual_grace, reader).to_vec();
    graces.extend(nats::graces(usual_grace));
    Backends { first, relay_url, call_timeout, graces, qstash, nats }
}

pub(in crate::config) fn check(backends: &Backends, reader: &mut Reader<'_>) {
    let product = PRODUCTS.iter().find(|product| product.backends.contains(&backends.first));
    let configured =
        product.is_none_or(|product| product.enabled_by.iter().any(|setting| reader.is_given(setting)));
    reader.rule(&[BACKEND.setting], configured, "this backend is not configured", &how_to_configure());
    qstash::check(backends.qstash.as_ref(), reader);
    nats::check(reader);
}

fn how_to_configure() -> String {
    let part = |product: &Product| {
        let keys: Vec<_> = product.required.iter().map(|setting| setting.key).collect();
        format!("{} for {}", keys.join(" and "), product.name)
    };
    format!("set {}, or leave it at postgres", PRODUCTS.iter().map(part).collect::<Vec<_>>().join(", "))
}
