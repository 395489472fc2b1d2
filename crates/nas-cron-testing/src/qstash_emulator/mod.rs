//! An emulator of QStash, written from its public documentation and checked with the official SDKs
//! (`tests/integration/qstash`): publish, deduplicate, cancel, deliver with a signature, retry with back-off, log. It
//! rejects features that it does not emulate (URL groups, queues, schedules, callbacks, flow control). One emulator is one
//! region of QStash.
//!
//! In addition, it can inject [`faults`] and reports counters. It runs on separate threads, so that a busy test runtime
//! does not delay it.

mod api;
mod delivery;
pub mod faults;
mod headers;
mod refusal;
mod serve;
mod sign;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};

use self::faults::{ApiFault, DeliveryFault};
use self::store::Store;
pub use self::store::{Counts, Pending};
use crate::time::PATIENCE;

/// Settings of the emulator. The defaults are those documented for the smallest plan.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address that it listens on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// Region that deliveries name in `Upstash-Region`; `None` leaves the header out. An emulator is one region: another
    /// region is another emulator, with its own token, keys and messages.
    pub region: Option<&'static str>,
    /// Token that calls must present.
    pub token: String,
    /// Current signing key.
    pub current_key: String,
    /// Signing key after a rotation.
    pub next_key: String,
    /// Multiplier of the back-off between tries (12 s, 2 min 28 s, 30 min …).
    pub backoff: f64,
    /// Time for which a deduplication id is remembered.
    pub deduplication_window: Duration,
    /// Maximum delay by `Upstash-Not-Before` or `Upstash-Delay`.
    pub furthest: Duration,
    /// Maximum `Upstash-Retries`.
    pub most_retries: u32,
    /// Maximum length of a body, in bytes.
    pub largest_message: usize,
    /// Maximum entries of the log.
    pub log_entries: usize,
    /// Maximum concurrent deliveries. A relay request takes up to 2 s.
    pub in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            region: None,
            token: "emulated-token".to_owned(),
            current_key: "sig_emulated_current".to_owned(),
            next_key: "sig_emulated_next".to_owned(),
            backoff: 1.0,
            deduplication_window: Duration::from_mins(10),
            furthest: Duration::from_hours(7 * 24),
            most_retries: 5,
            largest_message: 1_000_000,
            log_entries: 10_000,
            in_flight: 1_000,
        }
    }
}

/// State that all parts share.
struct Shared {
    settings: Settings,
    store: Mutex<Store>,
    /// Notified when an earlier message arrives or deliveries may continue.
    sooner: Notify,
    counts: watch::Sender<Counts>,
    /// True if it should be up.
    wanted: watch::Sender<bool>,
    /// True if it is up.
    up: watch::Sender<bool>,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no thread has panicked with the lock")
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

/// A running emulator. Dropping it stops it and discards all pending messages.
pub struct Emulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Emulator {
    /// Starts an emulator, which is up when this returns.
    pub async fn start(settings: Settings) -> std::io::Result<Self> {
        // Fails only if a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let reserved = serve::reserve(settings.listen)?;
        let address = reserved.local_addr()?;
        let shared = Arc::new(Shared {
            store: Mutex::new(Store::new(&settings)),
            settings,
            sooner: Notify::new(),
            counts: watch::Sender::new(Counts::default()),
            wanted: watch::Sender::new(true),
            up: watch::Sender::new(false),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("qstash-emulator")
            .enable_all()
            .build()?;
        runtime.spawn(serve::serve(Arc::clone(&shared), reserved, address));
        runtime.spawn(delivery::deliver(Arc::clone(&shared)));
        let emulator = Self { address, shared, runtime: Some(runtime) };
        emulator.until_up(true).await;
        Ok(emulator)
    }

    /// Starts an emulator with default settings, except for back-offs of a thousandth.
    pub async fn quick() -> Self {
        Self::start(Settings { backoff: 0.001, ..Settings::default() }).await.expect("a free port")
    }

    /// Like [`Self::quick`], as this region with its own token and keys.
    pub async fn quick_in(region: &'static str) -> Self {
        let settings = Settings {
            region: Some(region),
            token: format!("token-{region}"),
            current_key: format!("sig_{region}_current"),
            next_key: format!("sig_{region}_next"),
            backoff: 0.001,
            ..Settings::default()
        };
        Self::start(settings).await.expect("a free port")
    }

    /// Returns the base URL of its API, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns its settings.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Closes all connections, refuses new ones and stops deliveries.
    pub async fn go_down(&self) {
        self.shared.wanted.send_replace(false);
        self.until_up(false).await;
    }

    /// Accepts calls and delivers again, including messages that were due meanwhile.
    pub async fn come_up(&self) {
        self.shared.wanted.send_replace(true);
        self.until_up(true).await;
        self.shared.sooner.notify_one();
    }

    async fn until_up(&self, up: bool) {
        let mut is = self.shared.up.subscribe();
        let waited = tokio::time::timeout(PATIENCE, is.wait_for(|is| *is == up)).await;
        waited.expect("it follows in time").expect("its runtime is running");
    }

    /// Injects a fault into the next `times` calls of the API, or into all until [`Self::behave`].
    pub fn misbehave(&self, fault: ApiFault, times: Option<u32>) {
        self.shared.store().api_fault = Some((fault, times));
    }

    /// Ends all faults.
    pub fn behave(&self) {
        {
            let mut store = self.shared.store();
            (store.api_fault, store.delivery_fault) = (None, None);
        }
        self.shared.sooner.notify_one();
    }

    /// Injects a fault into all deliveries from now on.
    pub fn misdeliver(&self, fault: DeliveryFault) {
        self.shared.store().delivery_fault = Some(fault);
        self.shared.sooner.notify_one();
    }

    /// Returns the counters.
    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// Waits until the counters satisfy a condition.
    pub async fn until(&self, like: impl FnMut(&Counts) -> bool) -> Counts {
        self.shared.counts.subscribe().wait_for(like).await.expect("its runtime is running").clone()
    }

    /// Returns the messages that wait for a delivery or a retry, soonest first.
    pub fn pending(&self) -> Vec<Pending> {
        self.shared.store().pending()
    }

    /// Makes the next key the current one and generates a new next one. Returns both.
    pub fn rotate_keys(&self) -> (String, String) {
        self.shared.store().rotate_keys()
    }

    /// Returns the signature of a delivery with this body to this URL.
    pub fn sign(&self, url: &str, body: &[u8]) -> String {
        sign::sign(&self.shared.store().current_key, url, body, now())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns the time of the wall clock.
fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(std::time::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().expect("after 1970"))
}
