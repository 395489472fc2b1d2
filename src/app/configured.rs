//! Parts of the service and their rules, as they are configured.

use std::sync::Arc;

use anyhow::Context;
use nas_cron_base::clock::Clock;

use crate::admin_tokens::StoredTokens;
use crate::audit::AuditLog;
use crate::auth_profiles::Profiles;
use crate::backends::{Backends, factory};
use crate::config::{self, Config, Fire, KeyEncryption, PortalJwks};
use crate::db::Db;
use crate::directory::Directory;
use crate::domain::arm_rules::ArmRules;
use crate::fire::address_policy::AddressPolicy;
use crate::fire::backoff::RetryPolicy;
use crate::fire::client::{AgentClient, ClientConfig};
use crate::fire::connections::Connections;
use crate::fire::{Firing, authorities};
use crate::heartbeat::Heartbeats;
use crate::http::admin::{AdminState, ConfigTokens};
use crate::identity::registry::IdentityRegistry;
use crate::keys::{KeyEncryptionKeys, KeyRing, KeyRingOptions, RotationPolicy, TokenTtl, access_token};
use crate::oneshot::OneShots;
use crate::operations::Operations;
use crate::operations::backends::BackendOperations;
use crate::operations::keys::KeyOperations;
use crate::operations::overview::{OverviewRules, Overviews};
use crate::own_portal::RefreshKeys;
use crate::quotas::Quotas;
use crate::scheduler::SchedulerRules;
use crate::scheduler::maintenance::MaintenanceRules;
use crate::traces::collector::Collector;
use crate::traces::{Exporting, Traces};
use crate::webhooks::Webhooks;
use crate::webhooks::sender::Sender;
use crate::webhooks::sender_loop::Grouping;

/// Returns an empty key ring with the configured options.
pub fn key_ring(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<KeyRing> {
    Ok(KeyRing::new(
        KeyRingOptions {
            issuer: config.portal.url.as_str().to_owned(),
            token_ttl: TokenTtl::new(config.keys.fire_token_ttl)?,
            alg: config.keys.signing_alg,
            policy: rotation_policy(config)?,
            kek: key_encryption_keys(config.keys.encryption.as_ref()),
        },
        clock,
    ))
}

/// Returns the rotation policy for the configured period and the longest-lived tokens. A backend that delivers fires
/// itself gets tokens that are minted ahead; the built-in portal's access tokens live longer than fire tokens.
pub fn rotation_policy(config: &Config) -> anyhow::Result<RotationPolicy> {
    let policy = RotationPolicy::with_period(config.keys.rotation_period)?;
    let policy = match factory::tokens_minted_ahead(&config.backends) {
        Some(ahead) => policy.tokens_live_for(ahead),
        None => policy,
    };
    let own = config.portal.jwks == PortalJwks::Own;
    Ok(if own { policy.tokens_live_for(access_token::MAX_TTL) } else { policy })
}

/// Returns the settings that the overview depends on.
pub fn overview_rules(config: &Config) -> anyhow::Result<OverviewRules> {
    Ok(OverviewRules {
        rotation: rotation_policy(config)?,
        graces: config.backends.graces.clone(),
        has_key_encryption_key: config.keys.encryption.is_some(),
    })
}

/// Returns the keys that encrypt and decrypt secrets, if there are any.
pub fn key_encryption_keys(configured: Option<&KeyEncryption>) -> Option<KeyEncryptionKeys> {
    configured.map(|KeyEncryption { key, fallbacks }| KeyEncryptionKeys::new(key, fallbacks))
}

/// Returns the keys of refresh tokens.
pub fn refresh_keys(configured: &KeyEncryption) -> RefreshKeys {
    RefreshKeys::derive(&configured.key, &configured.fallbacks)
}

/// Returns the operations on the signing keys.
pub fn key_operations(config: &Config, db: Db) -> anyhow::Result<KeyOperations> {
    let encryption = config.keys.encryption.as_ref();
    Ok(KeyOperations {
        db,
        kek: key_encryption_keys(encryption).map(Arc::new),
        refresh_keys: encryption.map(|encryption| Arc::new(refresh_keys(encryption))),
        policy: rotation_policy(config)?,
        alg: config.keys.signing_alg,
        agents_jwks_url: Some(config.keys.agents_jwks_url.clone()),
    })
}

/// Returns the parts of a delivery attempt.
pub(super) fn firing(config: &Config, keys: Arc<KeyRing>, clock: Arc<dyn Clock>) -> anyhow::Result<Firing> {
    let (policy, client) = addresses(&config.fire)?;
    Ok(Firing {
        client: AgentClient::new(policy, &client, clock)?,
        keys,
        retry: RetryPolicy::from(&config.retry),
        timeout: config.fire.timeout,
    })
}

/// Returns the rules for addresses that the service calls, and the settings of the connections to them.
fn addresses(fire: &Fire) -> anyhow::Result<(AddressPolicy, ClientConfig)> {
    let client = ClientConfig {
        connect_timeout: fire.connect_timeout,
        extra_roots: fire.callback_ca_file.as_deref().map(authorities::read).transpose()?.unwrap_or_default(),
        ..ClientConfig::default()
    };
    Ok((AddressPolicy::new(fire.callback_allow.clone()), client))
}

/// Returns the operations on webhooks. `clock` is the database's clock.
pub fn webhooks(
    db: Db,
    fire: &Fire,
    encryption: Option<&KeyEncryption>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Webhooks> {
    let (policy, client) = addresses(fire)?;
    let sender = Sender::new(Connections::new(policy, &client)?, clock);
    Ok(Webhooks::new(db, sender, key_encryption_keys(encryption).map(Arc::new)))
}

/// Returns the state of the admin API.
pub(super) fn admin(
    config: &Config,
    db: &Db,
    backends: &Backends,
    webhooks: Webhooks,
) -> anyhow::Result<AdminState> {
    let configured = config.backends.configured();
    Ok(AdminState {
        directory: Directory::new(db.clone()),
        operations: Operations::new(db.clone(), config.quotas),
        overviews: Overviews::new(db.clone(), overview_rules(config)?),
        profiles: Profiles::new(db.clone()),
        identities: IdentityRegistry::new(db.clone()),
        tokens: StoredTokens::new(db.clone()),
        config_tokens: Arc::new(ConfigTokens::new(config.admin_token_sha256.clone())),
        audit: AuditLog::new(db.clone()),
        keys: key_operations(config, db.clone())?,
        backends: BackendOperations::new(db.clone(), backends.outboxes(), configured, backends.moves()),
        webhooks,
    })
}

/// Starts the export of traces, if it is configured.
pub(super) fn traces(
    config: &Config,
    clock: &Arc<dyn Clock>,
    hearts: &Heartbeats,
) -> anyhow::Result<(Traces, Option<Exporting>)> {
    let Some(traces) = &config.traces else { return Ok((Traces::off(), None)) };
    let (traces, exporting) =
        Traces::start(collector(traces)?, traces.sample_ratio, Arc::clone(clock), hearts);
    Ok((traces, Some(exporting)))
}

/// Returns the collector of traces.
pub fn collector(traces: &config::Traces) -> anyhow::Result<Collector> {
    Collector::new(traces.endpoint.url(), traces.headers.clone())
        .context("setting up the client of otlp_endpoint failed; install the system's CA certificates")
}

/// Returns the grouping of events.
pub(super) fn grouping(config: &Config) -> Grouping {
    Grouping { wait: config.events.group_wait, pause: config.events.group_interval }
}

/// Returns the operations of agents on their one-shots.
pub(super) fn one_shots(config: &Config, db: &Db) -> OneShots {
    let quotas = Quotas::new(db.clone(), config.quotas);
    OneShots::new(db.clone(), arm_rules(config), quotas, config.history_retention)
}

/// Returns the rules of arming.
pub(super) fn arm_rules(config: &Config) -> ArmRules {
    let second = &config.second_fire;
    ArmRules {
        fire_floor: config.fire.floor,
        second_fire_delay: second.delay,
        second_fire_interval: second.interval,
        second_fires_max: second.max,
        claim_lifetime: config.duplicate.claim_lifetime,
        duplicate_delay: config.duplicate.delay,
    }
}

/// Returns the rules of the scheduler.
pub(super) fn scheduler_rules(config: &Config) -> SchedulerRules {
    SchedulerRules {
        horizon: config.lease.horizon,
        graces: config.backends.graces.clone(),
        leases: config.lease.lengths(&config.fire),
        capacity: config.lease.capacity,
        in_flight_max: config.fire.in_flight_max,
        in_flight_per_instance: config.fire.in_flight_per_instance,
        arm_rules: arm_rules(config),
        maintenance: MaintenanceRules {
            give_up_after: config.retry.give_up_after,
            history_retention: config.history_retention,
            error_text_retention: config.error_text_retention,
            audit_retention: config.audit_retention,
            default_quotas: config.quotas,
        },
    }
}
