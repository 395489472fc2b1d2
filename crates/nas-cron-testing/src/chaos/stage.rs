//! The stage: everything that a run starts, and the state that its parts share.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use sqlx::Connection;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::AbortHandle;

use super::backend::RunningBackend;
use super::balancer::Balancer;
use super::databases::Databases;
use super::fault::Fault;
use super::ledger::{Ledger, OneShot};
use super::replica::{Replica, faketime};
use super::verifier::Verifier;
use super::{Plan, agents};
use crate::portal::Portal;
use crate::ports::free_address;
use crate::proxy::Proxy;
use crate::service::Settings;

/// Number of replicas that faults of processes hit.
const REPLICAS: usize = 2;

/// State that load, probes and agents share.
pub(super) struct Shared {
    pub(super) ledger: Arc<Ledger>,
    pub(super) balancer: Arc<Balancer>,
    /// Issues the agents' tokens.
    pub(super) portal: Portal,
    /// Number of agents.
    pub(super) agents: u32,
    /// Base URL of all callbacks.
    pub(super) callback: String,
    /// Receives one-shots that an agent has accepted for the first time.
    pub(super) accepted: Mutex<UnboundedReceiver<OneShot>>,
    /// Number of probe one-shots so far.
    pub(super) probes: AtomicU32,
}

/// Everything that a run has started.
pub(super) struct Stage {
    dir: PathBuf,
    pub(super) shared: Arc<Shared>,
    /// Faults of processes spare the last one if the plan has a spared replica.
    pub(super) replicas: Vec<Replica>,
    /// Settings of all replicas, without addresses.
    pub(super) settings: Settings,
    pub(super) proxy: Proxy,
    pub(super) backend: RunningBackend,
    /// `None` while a blocking step uses them.
    databases: Option<Databases>,
    probing: AbortHandle,
}

impl Stage {
    pub(super) async fn start(plan: &Plan) -> Self {
        let dir = std::env::temp_dir().join(format!("nas-cron-chaos-{:016x}", rand::random::<u64>()));
        fs::create_dir(&dir).expect("a new folder");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("this process owns the folder");
        let parent = dir.clone();
        let disks = plan.steps.iter().any(|step| step.fault == Fault::DiskFull);
        let databases =
            tokio::task::spawn_blocking(move || Databases::start(&parent, disks)).await.expect("no panic");
        migrate(&plan.binary, &databases.url()).await;
        register(&databases.url(), plan.load.agents).await;

        let (portal, proxy) = (Portal::start().await, Proxy::start(databases.address()).await);
        let mut url: url::Url = databases.url().parse().expect("a URL");
        url.set_port(Some(proxy.address().port())).expect("it has a port");
        let settings = Settings::new(url.as_str(), &portal)
            .with("NAS_CRON_MIGRATE", "false")
            .with("NAS_CRON_LOG_FILTER", "warn")
            .with("NAS_CRON_DRAIN_DELAY", "4s");
        let addresses: Vec<_> = (0..REPLICAS + usize::from(plan.spared)).map(|_| free_address()).collect();
        // Wake-ups arrive at one address, which covers the last replica only.
        let relay = addresses.last().expect("several replicas");
        let (backend, settings) = RunningBackend::start(plan.backend, *relay, settings).await;
        let settings = plan.settings.iter().fold(settings, |all, (name, value)| all.with(name, *value));
        let log = |number| dir.join(format!("replica-{number}.log"));
        let new = |(number, address): (usize, &SocketAddr)| {
            Replica::new(&plan.binary, settings.clone(), *address, log(number))
        };
        let mut replicas: Vec<_> = addresses.iter().enumerate().map(new).collect();
        for replica in &mut replicas {
            replica.start(0);
            replica.ready().await;
        }

        let ledger = Arc::new(Ledger::default());
        let (sender, accepted) = unbounded_channel();
        let balancer = Arc::new(Balancer::new(replicas.iter().map(|replica| replica.url.clone())));
        let verifier = Verifier::new(Arc::clone(&balancer)).await;
        let refused = plan.load.refused_percent;
        let shared = Arc::new(Shared {
            callback: agents::start(Arc::clone(&ledger), verifier, plan.seed, refused, sender).await,
            ledger,
            balancer: Arc::clone(&balancer),
            portal,
            agents: plan.load.agents,
            accepted: Mutex::new(accepted),
            probes: AtomicU32::new(0),
        });
        let probing = tokio::spawn(async move { balancer.probe().await }).abort_handle();
        Self { dir, shared, replicas, settings, proxy, backend, databases: Some(databases), probing }
    }

    /// Returns the replicas that faults of processes hit.
    pub(super) fn targets(&mut self) -> &mut [Replica] {
        &mut self.replicas[..REPLICAS]
    }

    /// Returns the reason to skip a fault, if it cannot be injected on this machine.
    pub(super) fn skip_reason(&self, fault: Fault) -> Option<&'static str> {
        match fault {
            Fault::Clock(_) if faketime().is_none() => Some("libfaketime is not installed"),
            Fault::DiskFull if self.databases().disk().is_none() => Some("only root can mount a tmpfs"),
            fault => self.backend.skip_reason(fault),
        }
    }

    pub(super) fn databases(&self) -> &Databases {
        self.databases.as_ref().expect("no blocking step is running")
    }

    /// Runs blocking work on the databases.
    pub(super) async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Databases) -> T + Send + 'static,
    ) -> T {
        let mut databases = self.databases.take().expect("no blocking step is running");
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut databases);
            (databases, result)
        });
        let (databases, result) = worked.await.expect("no panic");
        self.databases = Some(databases);
        result
    }

    /// Migrates the schema to that of `binary`.
    pub(super) async fn migrate(&self, binary: &Path) {
        migrate(binary, &self.databases().url()).await;
    }

    /// Stops everything. Keeps the replicas' logs if the run has failed.
    pub(super) async fn end(mut self, passed: bool) {
        self.probing.abort();
        for replica in &mut self.replicas {
            replica.kill9();
        }
        self.blocking(Databases::kill_former).await;
        let databases = self.databases.take();
        tokio::task::spawn_blocking(move || drop(databases)).await.expect("no panic");
        if passed {
            let _ = fs::remove_dir_all(&self.dir);
        } else {
            eprintln!("the replicas' logs are in {}", self.dir.display());
        }
    }
}

async fn migrate(binary: &Path, url: &str) {
    let mut command = tokio::process::Command::new(binary);
    let output = command.arg("migrate").env("NAS_CRON_DATABASE_URL", url).output().await;
    let output = output.expect("the binary starts");
    assert!(output.status.success(), "migrating failed: {}", String::from_utf8_lossy(&output.stderr));
}

async fn register(url: &str, agents: u32) {
    let mut connection = sqlx::PgConnection::connect(url).await.expect("the server answers");
    let last = i32::try_from(agents).expect("not so many") - 1;
    sqlx::query(
        "INSERT INTO instances (instance_id, org_id) SELECT 'inst-' || n, 'org-1' FROM generate_series(0, $1) n",
    )
    .bind(last)
    .execute(&mut connection)
    .await
    .expect("agents can be registered");
}
