//! Shared parts of the operator's commands. They work on the database directly, also while the service is down, or through
//! the admin API of a running service.

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::terminal::counted;
use nas_cron_base::{output, signals};

use super::audited::{Audited, recorded};
use super::operator::{AdminClient, Operator, Place, ServerArgs, database_only};
use super::process::{init_log, warn};
use super::{
    admin_tokens, agents, audit, auth_profiles, backend, hold, jobs, keys, orgs, status, transfer, webhooks,
};
use crate::app;
use crate::backends::factory;
use crate::backends::outbox::Outbox;
use crate::config::key::{
    AGENTS_JWKS_URL, CALLBACK_ALLOW, CALLBACK_CA_FILE, JOBS_PER_INSTANCE, JOBS_PER_ORG, KEY_ENCRYPTION_KEY,
    KEY_ENCRYPTION_KEY_FALLBACKS, OWN_PORTAL, PORTAL_JWKS_FILE, PORTAL_JWKS_URL, PORTAL_URL, PUBLIC_URL,
};
use crate::config::{Backends, DatabaseOnly, Flags, Pick, Section, Setting};
use crate::db::migrate::{NEWER_SCHEMA, SchemaState, schema_state};
use crate::db::{Db, DbOptions, reach};
use crate::db_clock::DbClock;
use crate::keys::KeyRing;
use crate::operations::backends::BackendOperations;

/// Interval between reads of the signing keys, for a command that signs.
const KEYS_FRESH_EVERY: Duration = Duration::from_secs(3);

/// Time to wait for a database that is starting.
const CONNECT_WITHIN: Duration = Duration::from_secs(8);

// No doc comment: clap would take it for the help of each command, whose own text is on its arguments.
#[derive(Debug, Args)]
pub(super) struct Operate<A: Args + Audited + fmt::Debug, P: Pick = DatabaseOnly> {
    #[command(flatten)]
    args: A,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    flags: Flags<P>,
}

/// The settings of the `agents` command: `agents config` prints URLs, and `agents enroll` creates logins.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithPortal;

impl Pick for WithPortal {
    fn takes(setting: &Setting) -> bool {
        let more = [
            OWN_PORTAL.setting,
            KEY_ENCRYPTION_KEY.setting,
            KEY_ENCRYPTION_KEY_FALLBACKS.setting,
            AGENTS_JWKS_URL.setting,
            PORTAL_JWKS_URL.setting,
            PORTAL_JWKS_FILE.setting,
            JOBS_PER_INSTANCE.setting,
        ];
        WithUrls::takes(setting) || more.iter().any(|one| setting.is(one))
    }
}

/// The database settings, and the URLs that commands print.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithUrls;

impl Pick for WithUrls {
    fn takes(setting: &Setting) -> bool {
        DatabaseOnly::takes(setting) || setting.is(PORTAL_URL.setting) || setting.is(PUBLIC_URL.setting)
    }
}

/// The settings of the `orgs` command: the database, and the default quota.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithOrgQuota;

impl Pick for WithOrgQuota {
    fn takes(setting: &Setting) -> bool {
        DatabaseOnly::takes(setting) || setting.is(JOBS_PER_ORG.setting)
    }
}

/// The settings of the `keys` command: the database, the URLs, and all settings of keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithKeys;

impl Pick for WithKeys {
    fn takes(setting: &Setting) -> bool {
        WithUrls::takes(setting) || setting.section == Section::Keys
    }
}

/// The settings of the `backend` command: the database, the URLs, and all settings of backends.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithBackends;

impl Pick for WithBackends {
    fn takes(setting: &Setting) -> bool {
        WithUrls::takes(setting) || setting.section == Section::Backends
    }
}

/// The settings that the overview depends on: those of keys and of backends.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithService;

impl Pick for WithService {
    fn takes(setting: &Setting) -> bool {
        WithKeys::takes(setting) || WithBackends::takes(setting)
    }
}

/// The settings of the `webhooks` command: the database, the rules for addresses, and the key that encrypts secrets.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithWebhooks;

impl Pick for WithWebhooks {
    fn takes(setting: &Setting) -> bool {
        let more = [
            KEY_ENCRYPTION_KEY.setting,
            KEY_ENCRYPTION_KEY_FALLBACKS.setting,
            CALLBACK_ALLOW.setting,
            CALLBACK_CA_FILE.setting,
        ];
        DatabaseOnly::takes(setting) || more.iter().any(|one| setting.is(one))
    }
}

/// Describes a schema of another release, with the next step.
fn other_schema(state: &SchemaState) -> String {
    match state {
        SchemaState::Current => "the database schema is up to date".to_owned(),
        SchemaState::Behind(steps) => format!(
            "the database schema is older than this release ({} missing): run `nas-cron migrate` first, or with --dry-run \
             to see the steps",
            counted(i64::try_from(steps.len()).unwrap_or(i64::MAX), "migration")
        ),
        SchemaState::Ahead { found, known, .. } => format!(
            "the database schema has version {found}, but this release knows versions up to {known}: use the release that \
             migrated it, or a later one"
        ),
        SchemaState::Diverged { version } => format!(
            "migration {version} in the database differs from the one of this release, or failed half-way: \
             `nas-cron migrate --dry-run` says what to do"
        ),
    }
}

impl<A: Args + Audited + fmt::Debug, P: Pick> Operate<A, P> {
    async fn connect(&self) -> anyhow::Result<Db> {
        let settings = self.flags.settings();
        let database = settings.database()?;
        init_log(&settings)?;
        let options = DbOptions { url: database.url, max_connections: 4, acquire_timeout: CONNECT_WITHIN };
        let db = Db::new(&options)?;
        reach(&db, CONNECT_WITHIN).await.context("connecting to the database failed")?;
        let state = schema_state(&db).await.context("reading the schema version failed")?;
        anyhow::ensure!(state.is_usable(), "{}", other_schema(&state));
        if let Some((found, known)) = state.newer() {
            warn(&format!("{NEWER_SCHEMA} (version {found}, this release knows {known})"));
        }
        // A command may read whole tables, and no agent waits for it.
        Ok(db.patient())
    }

    /// Connects to the service that the command works on: its database, or with `--server` its admin API.
    async fn operator(&self) -> anyhow::Result<Operator> {
        if let Some(client) = self.client()? {
            return Ok(Operator::Server(client));
        }
        // The defaults, for commands without these settings.
        let quotas = self.flags.settings().quotas()?;
        Ok(Operator::on(self.connect().await?, quotas))
    }

    /// Connects to the database of a command that works on nothing else, for `reason`.
    async fn database(&self, reason: &str) -> anyhow::Result<Db> {
        if self.server.is_given() {
            return Err(database_only(reason));
        }
        self.connect().await
    }

    /// Returns the client of the server that the command works on; `None` if it works on the database.
    fn client(&self) -> anyhow::Result<Option<AdminClient>> {
        let client = self.server.client()?;
        if client.is_some() {
            init_log(&self.flags.settings())?;
        }
        Ok(client)
    }

    fn shown(&self, setting: &Setting) -> Option<String> {
        self.flags.settings().shown(setting)
    }
}

impl Operate<agents::AgentsArgs, WithPortal> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        let urls = agents::Urls {
            portal: self.shown(PORTAL_URL.setting),
            agents_jwks: self.shown(AGENTS_JWKS_URL.setting),
            own_portal: self.flags.settings().own_portal(),
        };
        let (act, mut out) = (self.args.act(), output::stdout());
        on.recorded(act, Box::pin(agents::run(self.args, &on, urls, &mut out))).await
    }
}

impl Operate<status::StatusArgs, WithService> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        let rules = match &on {
            Operator::Database(..) => Some(app::overview_rules(&self.flags.settings().config()?)?),
            Operator::Server(_) => None,
        };
        on.recorded(self.args.act(), status::run(self.args, &on, rules, &mut output::stdout())).await
    }
}

impl Operate<jobs::JobsArgs> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        on.recorded(self.args.act(), jobs::run(self.args, &on, &mut output::stdout())).await
    }
}

impl Operate<orgs::OrgsArgs, WithOrgQuota> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        on.recorded(self.args.act(), orgs::run(self.args, &on, &mut output::stdout())).await
    }
}

impl Operate<hold::HoldArgs> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        on.recorded(self.args.act(), hold::run(self.args, &on, &mut output::stdout())).await
    }
}

impl Operate<hold::ReleaseArgs> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        on.recorded(self.args.act(), hold::release(self.args, &on, &mut output::stdout())).await
    }
}

impl Operate<admin_tokens::AdminTokensArgs> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        on.recorded(self.args.act(), admin_tokens::run(self.args, &on, &mut output::stdout())).await
    }
}

impl Operate<audit::AuditArgs> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        on.recorded(self.args.act(), audit::run(self.args, &on, &mut output::stdout())).await
    }
}

impl Operate<auth_profiles::AuthProfilesArgs> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let on = self.operator().await?;
        on.recorded(self.args.act(), auth_profiles::run(self.args, &on, &mut output::stdout())).await
    }
}

impl Operate<transfer::export::ExportArgs> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let db = self.database(transfer::EXPORT_IS_LOCAL).await?;
        recorded(&db, self.args.act(), transfer::export::run(self.args, &db, &mut output::stdout())).await
    }
}

impl Operate<transfer::import::ImportArgs> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let db = self.database(transfer::IMPORT_IS_LOCAL).await?;
        recorded(&db, self.args.act(), transfer::import::run(self.args, &db, &mut output::stdout())).await
    }
}

impl Operate<keys::KeysArgs, WithKeys> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(client) = self.client()? {
            let on = Place::Server(client);
            return keys::run(self.args, &on, &mut output::stdout()).await.map(|()| ExitCode::SUCCESS);
        }
        let db = self.connect().await?;
        let config = self.flags.settings().config()?;
        let on = Place::Database(app::key_operations(&config, db.clone())?);
        recorded(&db, self.args.act(), keys::run(self.args, &on, &mut output::stdout())).await
    }
}

impl Operate<backend::BackendArgs, WithBackends> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let stop = signals::on_signal()?;
        if let Some(client) = self.client()? {
            let on = Place::Server(client);
            let done = backend::run(self.args, &on, stop, &mut output::stdout()).await;
            return done.map(|()| ExitCode::SUCCESS);
        }
        let backends = self.flags.settings().backends()?;
        let db = self.connect().await?;
        let clock = DbClock::read(&db, Arc::new(SystemClock));
        let clock: Arc<dyn Clock> = Arc::new(clock.await.context("reading the database's clock failed")?);
        let keys = self.key_ring(&backends, &db, &clock).await;
        if let Some(keys) = keys.clone() {
            // Keys read more than 10 s ago do not sign, and a switch may take longer.
            let db = db.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(KEYS_FRESH_EVERY).await;
                    // On failure nothing is signed, and the replicas send the remaining wake-ups.
                    let _ = keys.refresh(&db).await;
                }
            });
        }
        let others = factory::configured(&backends, keys.as_ref(), &clock).await?;
        let outbox = |backend| Arc::new(Outbox::new(db.clone(), Arc::new(backend), backends.call_timeout));
        let outboxes = others.into_iter().map(outbox).collect();
        let on = BackendOperations::new(db.clone(), outboxes, backends.configured(), Arc::default());
        let on = Place::Database(on);
        recorded(&db, self.args.act(), backend::run(self.args, &on, stop, &mut output::stdout())).await
    }

    /// Returns the signing keys for a backend that delivers fires itself, or `None` if no such backend is configured or
    /// the settings of the service are incomplete. No other backend needs signing keys.
    async fn key_ring(&self, backends: &Backends, db: &Db, clock: &Arc<dyn Clock>) -> Option<Arc<KeyRing>> {
        factory::tokens_minted_ahead(backends)?;
        let config = self.flags.settings().config().ok()?;
        let keys = app::key_ring(&config, Arc::clone(clock)).ok()?;
        keys.refresh(db).await.ok()?;
        Some(Arc::new(keys))
    }
}

impl Operate<webhooks::WebhooksArgs, WithWebhooks> {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(client) = self.client()? {
            let on = Place::Server(client);
            return webhooks::run(self.args, &on, &mut output::stdout()).await.map(|()| ExitCode::SUCCESS);
        }
        let sending = self.flags.settings().sending()?;
        let db = self.connect().await?;
        let clock = DbClock::read(&db, Arc::new(SystemClock));
        let clock: Arc<dyn Clock> = Arc::new(clock.await.context("reading the database's clock failed")?);
        let webhooks = app::webhooks(db.clone(), &sending.fire, sending.encryption.as_ref(), clock)?;
        let on = Place::Database(webhooks);
        recorded(&db, self.args.act(), webhooks::run(self.args, &on, &mut output::stdout())).await
    }
}
