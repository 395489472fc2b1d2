//! The service that `serve` runs: start, parts and shutdown.

mod callers;
mod configured;
mod gauges;
mod readiness;
mod serving;
mod systemd;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use backon::{ConstantBuilder, Retryable};
use metrics_exporter_prometheus::PrometheusHandle;
use nas_cron_base::clock::Clock;
use nas_cron_protocol::BackendName;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use self::configured::{admin, arm_rules, firing, grouping, one_shots, scheduler_rules, traces};
pub use self::configured::{
    collector, key_encryption_keys, key_operations, key_ring, overview_rules, refresh_keys, webhooks,
};
use self::gauges::{Gauges, set_limits};
use self::readiness::{Readiness, Schema};
use self::serving::Serving;
use crate::auth_profiles::Profiles;
use crate::backends::{Backend, Backends, SchedulerBackend, factory};
use crate::config::{Config, PortalJwks};
use crate::db::migrate::{NEWER_SCHEMA, SchemaState, migrate, schema_state};
use crate::db::{Db, DbOptions, reach, ride_out, wake_ups, warm_up};
use crate::db_clock::DbClock;
use crate::domain::release::{COMMIT, VERSION};
use crate::heartbeat::Heartbeats;
use crate::http::agent_cron::AgentCron;
use crate::http::agent_identity::AgentIdentity;
use crate::http::pace::Pace;
use crate::http::relay::Relay;
use crate::http::router::{self, Parts};
use crate::keys::{KeyError, KeyRing};
use crate::metrics;
use crate::operator_sessions::OperatorSessions;
use crate::own_portal::OwnPortal;
use crate::scheduler::Scheduler;
use crate::shutdown::Shutdown;
use crate::traces::Exporting;
use crate::webhooks::Webhooks;
use crate::webhooks::sender_loop::{self, Grouping};

/// Maximum time to wait at the start for a database that is not up yet.
const DATABASE_WITHIN: Duration = Duration::from_secs(30);
/// Maximum time that a statement waits for a free connection. Requests have their own, shorter budgets.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// The running service of this process.
#[derive(Debug)]
pub struct App {
    /// The connection pools for requests and for fires, in this order.
    pools: [Db; 2],
    hearts: Heartbeats,
    probe: Arc<Readiness>,
    keys: Arc<KeyRing>,
    scheduler: Arc<Scheduler>,
    backends: Arc<Backends>,
    webhooks: (Webhooks, Grouping),
    shutdown: Shutdown,
    serving: Serving,
    /// Background tasks of authentication: JWKS refresh and portal lookups.
    callers: Vec<callers::Background>,
    /// The export of traces, if it is on.
    exporting: Option<Exporting>,
    shutdown_timeout: Duration,
}

impl App {
    /// Checks the configuration and starts all parts. On return the listeners are bound and fires are sent; requests are
    /// answered from [`Self::run`] on.
    ///
    /// `wall` is this machine's own clock: it only limits the age of the keys and is compared with the database's clock.
    /// `beside` holds further routes for the public listener.
    pub async fn start(
        config: &Config,
        wall: Arc<dyn Clock>,
        shutdown: Shutdown,
        metrics_handle: PrometheusHandle,
        beside: Router,
    ) -> anyhow::Result<Self> {
        let descriptors = serving::descriptors(config);
        let [db, fires] = pools(config)?;
        let hearts = Heartbeats::new();
        reach(&db, DATABASE_WITHIN).await.context("connecting to database_url failed")?;
        ready_schema(&db, config.database.migrate).await?;
        tokio::spawn(warm_up(db.clone(), arm_rules(config)));
        // Tokens are minted and verified by this clock.
        let db_clock = Arc::new(database_clock(&db, wall).await?);
        let clock: Arc<dyn Clock> = Arc::<DbClock>::clone(&db_clock);
        let keys = Arc::new(key_ring(config, Arc::clone(&clock))?);
        bootstrap(&keys, &db).await?;

        let own_portal = own_portal(config, &db, &keys).await?;
        let public = bind(config.http.listen, "listen")?;
        let operators = bind(config.http.metrics_listen, "metrics_listen")?;
        let admin_listener =
            config.http.admin_listen.map(|address| bind(address, "admin_listen")).transpose()?;
        let (authenticator, callers) = callers::authenticator(config, &db, &keys, Arc::clone(&clock)).await?;
        let (traces, exporting) = traces(config, &clock, &hearts)?;
        // All checks that can fail come before the first claim, so that a failed start leaves no leases behind.
        let others = factory::configured(&config.backends, Some(&keys), &clock).await?;
        require_active(&db, config.backends.first, &others).await?;
        let scheduler = Arc::new(
            Scheduler::start(
                fires.clone(),
                db.clone(),
                Arc::clone(&db_clock),
                (firing(config, Arc::clone(&keys), Arc::clone(&clock))?, traces.clone()),
                scheduler_rules(config),
                &hearts,
            )
            .context("starting the scheduler failed: the timer thread could not be created")?,
        );
        let backends =
            Arc::new(Backends::new(db.clone(), Arc::clone(&scheduler), others, config.backends.call_timeout));
        backends.start(&hearts);
        let encryption = config.keys.encryption.as_ref();
        let webhooks = webhooks(db.clone(), &config.fire, encryption, Arc::clone(&clock))?;
        let probe = Arc::new(Readiness {
            db: db.clone(),
            keys: Arc::clone(&keys),
            scheduler: Arc::clone(&scheduler),
            hearts: hearts.clone(),
            db_clock,
            shutdown: shutdown.clone(),
            schema: Arc::new(Mutex::new(Schema::current())),
        });
        let parts = Parts {
            agent_cron: AgentCron {
                authenticator: authenticator.clone(),
                one_shots: one_shots(config, &db),
                pace: Arc::new(Pace::new(descriptors.requests_at_once())),
                profiles: Profiles::new(db.clone()),
                backends: Arc::clone(&backends),
                scheduler: Arc::clone(&scheduler),
            },
            agent_identity: AgentIdentity { authenticator },
            relay: Relay { backends: Arc::clone(&backends), clock },
            own_portal,
            keys: Arc::clone(&keys),
            admin: admin(config, &db, &backends, webhooks.clone())?,
            operator_sessions: OperatorSessions::new(db.clone()),
            probe: Arc::<Readiness>::clone(&probe),
            traces,
            requests_at_once: descriptors.requests_at_once(),
        };
        let (routes, admin) = match admin_listener {
            None => (router::router(parts), None),
            Some(listener) => {
                let (routes, admin) = router::separate(parts, descriptors.admin_requests_at_once());
                (routes, Some((listener, admin)))
            }
        };
        set_limits(config, &descriptors);
        let gauges = Gauges {
            requests: db.clone(),
            fires: fires.clone(),
            keys: Arc::clone(&keys),
            readiness: Arc::clone(&probe),
        };
        Ok(Self {
            pools: [db, fires],
            hearts,
            probe,
            keys,
            scheduler,
            backends,
            webhooks: (webhooks, grouping(config)),
            shutdown,
            serving: Serving {
                public: (public, routes.merge(beside)),
                admin,
                operators: (operators, metrics::router(metrics_handle, move || gauges.refresh())),
                descriptors,
                idle_timeout: config.http.idle_timeout,
            },
            callers,
            exporting,
            shutdown_timeout: config.stop.shutdown_timeout,
        })
    }

    /// Returns the bound address of the public listener.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.serving.public.0.local_addr()
    }

    /// Serves until the shutdown is complete. At a shutdown, claims stop while the agent API is still served (drain); then
    /// the listeners close and the attempts in flight finish.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self {
            pools,
            hearts,
            probe,
            keys,
            scheduler,
            backends,
            webhooks,
            shutdown,
            serving,
            callers,
            exporting,
            shutdown_timeout,
        } = self;
        let [requests, fires] = pools.clone();
        let ring = [
            hearts.supervise("key refresh", {
                let keys = Arc::clone(&keys);
                move || {
                    let (keys, db) = (Arc::clone(&keys), fires.clone());
                    async move { keys.keep_fresh(&db).await }
                }
            }),
            hearts.supervise("key rotation", move || {
                let (keys, db) = (Arc::clone(&keys), requests.clone());
                async move { keys.keep_swept(&db).await }
            }),
        ]
        .map(AbortOnDropHandle::new);
        let callers: Vec<_> = callers.into_iter().map(|one| one.spawn(&hearts)).collect();
        let events_stop = CancellationToken::new();
        let events = hearts.supervise("events", {
            let (stop, (webhooks, grouping)) = (events_stop.clone(), webhooks);
            move || sender_loop::run(webhooks.clone(), grouping, stop.clone())
        });
        let events = AbortOnDropHandle::new(events);
        let drained = {
            let (scheduler, backends, shutdown) =
                (Arc::clone(&scheduler), Arc::clone(&backends), shutdown.clone());
            tokio::spawn(async move {
                shutdown.draining().await;
                events_stop.cancel();
                backends.drain();
                scheduler.drain().await;
            })
        };
        let (listen, metrics_listen) = (serving.public.0.local_addr()?, serving.operators.0.local_addr()?);
        let admin_listen = serving.admin.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
        let admin_listen = admin_listen.as_ref().map(tracing::field::display);
        info!(version = VERSION, commit = COMMIT, %listen, %metrics_listen, admin_listen, "service started");
        let reports = AbortOnDropHandle::new(tokio::spawn(systemd::report(probe, shutdown.clone())));
        serving.run(&shutdown).await;
        let stopping = Instant::now();
        let _ = drained.await;
        let left = shutdown_timeout.saturating_sub(stopping.elapsed());
        let (called, ended, _) = tokio::join!(
            tokio::time::timeout(left, backends.finish()),
            scheduler.finish(left),
            // A delivery that does not end in time is repeated.
            tokio::time::timeout(left, events),
        );
        if called.is_err() {
            warn!("shutdown timed out with calls to a backend in flight; another replica repeats them");
        }
        if !ended {
            warn!("shutdown timed out with attempts in flight; they are recovered when their leases expire");
        }
        if let Some(exporting) = exporting {
            exporting.finish().await;
        }
        drop((callers, ring, reports));
        pools.iter().for_each(Db::close);
        info!("database connections closed");
        Ok(())
    }
}

/// Returns the number of connections that are reserved for fires. Fires are confirmed and recorded in batches, so a few
/// connections are enough; requests get the rest.
fn connections_for_fires(max_connections: u32) -> u32 {
    (max_connections * 3 / 10).clamp(2, 12)
}

async fn own_portal(config: &Config, db: &Db, keys: &Arc<KeyRing>) -> anyhow::Result<Option<OwnPortal>> {
    if config.portal.jwks != PortalJwks::Own {
        return Ok(None);
    }
    let refresh_keys = refresh_keys(config.require_key_encryption()?);
    let deadline = tokio::time::Instant::now() + DATABASE_WITHIN;
    let ttl = config.portal.access_token_ttl;
    Ok(Some(OwnPortal::start(db, Arc::clone(keys), refresh_keys, ttl, deadline).await?))
}

/// Returns the pool of requests and that of fires. Fires never wait for connections that requests hold.
fn pools(config: &Config) -> anyhow::Result<[Db; 2]> {
    let fires = connections_for_fires(config.database.max_connections);
    let db = Db::new(&DbOptions {
        url: config.database.url.clone(),
        max_connections: config.database.max_connections - fires,
        acquire_timeout: ACQUIRE_TIMEOUT,
    })?;
    let fires = db.apart(fires)?;
    Ok([db, fires])
}

/// Maximum number of connections that wait to be accepted: agents that are fired at the same second all fetch the JWKS,
/// each on a new connection. The system may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the old connections' last packets.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| {
        format!(
            "could not listen on {address} ({setting}): stop the process that uses this address, or choose another port"
        )
    })
}

/// Applies missing schema steps if `may_migrate`. Fails with the command that fixes it if the schema does not fit this
/// release.
async fn ready_schema(db: &Db, may_migrate: bool) -> anyhow::Result<()> {
    let state = ride_out(tokio::time::Instant::now() + DATABASE_WITHIN, || schema_state(db))
        .await
        .context("reading the database's schema version failed")?;
    match state {
        SchemaState::Current => Ok(()),
        SchemaState::Ahead { usable: true, .. } => {
            if let Some((found, known)) = state.newer() {
                warn!(found, known, "{NEWER_SCHEMA}");
            }
            Ok(())
        }
        SchemaState::Behind(_) if may_migrate => {
            for step in migrate(db).await.context("migrating the database's schema failed")? {
                info!(step.version, step.description, "schema step applied");
            }
            Ok(())
        }
        SchemaState::Behind(steps) => anyhow::bail!(
            "the database's schema lacks {} step(s) that this release needs: run `nas-cron migrate` first, or start with \
             `nas-cron serve --migrate`",
            steps.len()
        ),
        SchemaState::Ahead { found, known, .. } => anyhow::bail!(
            "the database's schema has version {found}, but this release supports {known} at most: run the release that \
             migrated it, or a later one (`nas-cron migrate --dry-run` shows the difference)"
        ),
        SchemaState::Diverged { version } => anyhow::bail!(
            "step {version} of the database's schema differs from this release's: run `nas-cron migrate --dry-run` for \
             details"
        ),
    }
}

async fn database_clock(db: &Db, wall: Arc<dyn Clock>) -> anyhow::Result<DbClock> {
    let deadline = tokio::time::Instant::now() + DATABASE_WITHIN;
    crate::db::ride_out(deadline, || DbClock::read(db, Arc::clone(&wall)))
        .await
        .context("reading the database's clock failed")
}

/// Fails if the active backend is not configured: new one-shots would be late by its grace period, because only the
/// watchdog would fire them.
async fn require_active(db: &Db, first: BackendName, others: &[Backend]) -> anyhow::Result<()> {
    let active = wake_ups::active(db, first).await.context("reading the active scheduler backend failed")?;
    anyhow::ensure!(
        active.backend == BackendName::Postgres || others.iter().any(|one| one.name() == active.backend),
        "the active scheduler backend is {}, but it is not configured here: configure it (see docs/backends.md), or \
         activate another one with `nas-cron backend switch`",
        active.backend
    );
    Ok(())
}

/// Loads the signing keys; for a new service it generates the first one. Retries while the database is unavailable.
async fn bootstrap(keys: &KeyRing, db: &Db) -> anyhow::Result<()> {
    let pauses = ConstantBuilder::new().with_delay(Duration::from_millis(200)).without_max_times();
    // A conflict counts as transient too: when two new replicas start at once, only one generates the first key.
    (|| keys.bootstrap(db))
        .retry(pauses)
        .when(|error| matches!(error, KeyError::Db(error) if error.is_transient()))
        .notify(|error, _| warn!(%error, "reading the signing keys failed; retrying"))
        .await
        .context("loading the signing keys failed")
}
