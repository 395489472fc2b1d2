//! A small QStash of our own, written from its public documentation and checked with the official SDKs
//! (`tests/integration/qstash`): publish, deduplicate, cancel, deliver with a signature, try again with back-off, log. What it
//! does not do (URL groups, queues, schedules, callbacks, flow control) it refuses.
//!
//! Beyond the original it can be told to misbehave ([`faults`]), and what it has seen. It runs on threads of its own,
//! so that a test's runtime does not make it late.

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

/// How it behaves. The defaults are what is documented, for the smallest plan.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// What calls must carry.
    pub token: String,
    /// What it signs with.
    pub current_key: String,
    /// What it will sign with after a rotation.
    pub next_key: String,
    /// Multiplies the back-off between tries (12 s, 2 min 28 s, 30 min …).
    pub backoff: f64,
    /// How long a deduplication id is remembered.
    pub deduplication_window: Duration,
    /// The furthest `Upstash-Not-Before` or `Upstash-Delay`.
    pub furthest: Duration,
    /// The highest `Upstash-Retries`.
    pub most_retries: u32,
    /// The longest body, in bytes.
    pub largest_message: usize,
    /// How many entries the log keeps.
    pub log_entries: usize,
    /// How many deliveries are under way at once. A relay holds each for up to 2 s.
    pub in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
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

/// What all of its parts share.
struct Shared {
    settings: Settings,
    store: Mutex<Store>,
    /// Something came that is due sooner, or deliveries may go on.
    sooner: Notify,
    counts: watch::Sender<Counts>,
    /// Whether it is wanted to be up.
    wanted: watch::Sender<bool>,
    /// Whether it is.
    up: watch::Sender<bool>,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nobody panics while holding it")
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

/// A running emulator. It ends, with everything pending, when it is dropped.
pub struct Emulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Emulator {
    /// Starts one; it is up when this returns.
    pub async fn start(settings: Settings) -> std::io::Result<Self> {
        // Refused only when there is one already.
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

    /// One with the defaults, but for back-offs: a thousandth.
    pub async fn quick() -> Self {
        Self::start(Settings { backoff: 0.001, ..Settings::default() }).await.expect("a free port")
    }

    /// The base of its API, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was started with.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// From now on, connections are refused, those that are open are cut, and nothing is delivered.
    pub async fn go_down(&self) {
        self.shared.wanted.send_replace(false);
        self.until_up(false).await;
    }

    /// Takes calls and delivers again, what has come due in between too.
    pub async fn come_up(&self) {
        self.shared.wanted.send_replace(true);
        self.until_up(true).await;
        self.shared.sooner.notify_one();
    }

    async fn until_up(&self, up: bool) {
        let mut is = self.shared.up.subscribe();
        is.wait_for(|is| *is == up).await.expect("its runtime lives");
    }

    /// Does this to the next `times` calls of the API, or to all until told otherwise.
    pub fn misbehave(&self, fault: ApiFault, times: Option<u32>) {
        self.shared.store().api_fault = Some((fault, times));
    }

    /// Answers and delivers as it should again.
    pub fn behave(&self) {
        {
            let mut store = self.shared.store();
            (store.api_fault, store.delivery_fault) = (None, None);
        }
        self.shared.sooner.notify_one();
    }

    /// Does this to what comes due from now on.
    pub fn misdeliver(&self, fault: DeliveryFault) {
        self.shared.store().delivery_fault = Some(fault);
        self.shared.sooner.notify_one();
    }

    /// What it has seen and done so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// Waits until its counts are like this.
    pub async fn until(&self, like: impl FnMut(&Counts) -> bool) -> Counts {
        self.shared.counts.subscribe().wait_for(like).await.expect("its runtime lives").clone()
    }

    /// What waits to be delivered, or to be tried again; soonest first.
    pub fn pending(&self) -> Vec<Pending> {
        self.shared.store().pending()
    }

    /// Makes the next key the current one, and a new next one. Returns both.
    pub fn rotate_keys(&self) -> (String, String) {
        self.shared.store().rotate_keys()
    }

    /// The signature that it would send with this body to this URL.
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

/// The wall clock.
fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(std::time::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().expect("after 1970"))
}
