//! The overview: what fires, what does not, and what needs attention.

mod fires;
mod keys;
mod problems;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::future::Cache;
use nas_cron_protocol::admin_api::{
    BackendOverview, DueMinute, Overview, Replica, ServiceOverview, UpcomingLoad,
};
use nas_cron_protocol::{BackendName, OrgId};

use self::problems::Found;
pub use self::problems::UNFINISHED_SWITCH;
use super::OperationResult;
use crate::db::overview as statements;
use crate::db::{
    Db, DbError, DbResult, directory, fire_minutes, logins, quotas, replicas, wake_ups, webhooks,
};
use crate::diagnosis;
use crate::domain::active_backend::ActiveBackend;
use crate::domain::fire_minutes::{FireMinute, minute_of};
use crate::domain::replica::Registered;
use crate::keys::rotation::RotationPolicy;

/// Time for which an overview is shown to everyone who asks for it.
const FRESH: Duration = Duration::from_secs(5);
/// Time for which what is rare and expensive to find is shown.
const RARE_FRESH: Duration = Duration::from_mins(1);
/// Maximum number of orgs whose overviews are kept.
const ORGS: u64 = 64;
/// Length of the load that is shown.
const AHEAD: TimeDelta = TimeDelta::hours(1);
/// Length of the longest plot.
const DAY: TimeDelta = TimeDelta::hours(24);

/// The settings that an overview depends on.
#[derive(Clone, Debug, Default)]
pub struct OverviewRules {
    /// The rules of key rotation.
    pub rotation: RotationPolicy,
    /// Grace period of each external backend.
    pub graces: Vec<(BackendName, Duration)>,
    /// True if the secrets of webhooks can be decrypted.
    pub has_key_encryption_key: bool,
}

/// Overviews, each read at most once in 5 s, whoever watches: callers of the same scope share one reading.
#[derive(Clone, Debug)]
pub struct Overviews {
    db: Db,
    rules: Arc<OverviewRules>,
    recent: Cache<Option<OrgId>, Arc<Overview>>,
    rare: Cache<(), Arc<Rare>>,
}

/// Findings that are rare, and found by reading all agents.
#[derive(Clone, Debug, Default)]
struct Rare {
    /// Agents whose callback moves back and forth.
    alternating: Vec<String>,
    /// Agents whose login ended because of a reused token.
    lost_logins: Vec<String>,
}

impl Overviews {
    /// Returns overviews of the service of `db`.
    pub fn new(db: Db, rules: OverviewRules) -> Self {
        let recent = Cache::builder().max_capacity(ORGS).time_to_live(FRESH).build();
        let rare = Cache::builder().max_capacity(1).time_to_live(RARE_FRESH).build();
        Self { db, rules: Arc::new(rules), recent, rare }
    }

    /// Returns the overview of an org, or with `None` that of the whole service.
    pub async fn of(&self, org_id: Option<&OrgId>) -> OperationResult<Arc<Overview>> {
        let read = self.recent.try_get_with(org_id.cloned(), Box::pin(self.read(org_id))).await;
        Ok(read.map_err(|error: Arc<DbError>| error.again())?)
    }

    /// Reads the overview now, for a caller that has just changed something. It is then shown to the others, too.
    pub async fn now(&self, org_id: Option<&OrgId>) -> OperationResult<Arc<Overview>> {
        let overview = self.read(org_id).await?;
        self.recent.insert(org_id.cloned(), Arc::clone(&overview)).await;
        Ok(overview)
    }

    async fn read(&self, org_id: Option<&OrgId>) -> DbResult<Arc<Overview>> {
        let overview = match org_id {
            Some(org_id) => self.of_org(org_id).await?,
            None => self.of_service().await?,
        };
        Ok(Arc::new(overview))
    }

    async fn of_org(&self, org_id: &OrgId) -> DbResult<Overview> {
        let attention = statements::of_org(&self.db, org_id, diagnosis::READ_HOLDS).await?;
        let webhooks = webhooks::failing(&self.db, Some(org_id.as_str()), diagnosis::READ_WEBHOOKS).await?;
        let nearly_used = quotas::nearly_used(&self.db, Some(org_id), diagnosis::READ_QUOTAS).await?;
        let found = Found {
            attention: &attention,
            grace: self.grace(wake_ups::find_active(&self.db).await?.map(|active| active.backend)),
            webhooks: &webhooks,
            nearly_used: &nearly_used,
            has_key_encryption_key: self.rules.has_key_encryption_key,
            service: None,
        };
        Ok(Overview {
            at: attention.at,
            org_id: Some(org_id.to_string()),
            counts: attention.counts,
            problems: found.problems(),
            service: None,
        })
    }

    async fn of_service(&self) -> DbResult<Overview> {
        let db = &self.db;
        // Two halves at once: few connections, and half of the time.
        let (first, second) = tokio::try_join!(
            async {
                let attention = statements::of_service(db, diagnosis::READ_HOLDS).await?;
                let webhooks = webhooks::failing(db, None, diagnosis::READ_WEBHOOKS).await?;
                let nearly_used = quotas::nearly_used(db, None, diagnosis::READ_QUOTAS).await?;
                DbResult::Ok((attention, webhooks, nearly_used, self.rare().await?))
            },
            async {
                let (now, keys) = db.signing_keys_now().await?;
                let minutes = fire_minutes::since(db, minute_of(now) - DAY).await?;
                let load = statements::load(db, now, minute_of(now) + AHEAD).await?;
                let replicas = replicas::list(db).await?;
                let active = wake_ups::find_active(db).await?;
                // There is none before the first start of the service, which reads this.
                let first = ActiveBackend { backend: BackendName::Postgres, generation: 1, switched_at: now };
                let backends = backends(db, active.unwrap_or(first), &minutes, now).await?;
                DbResult::Ok((now, keys, minutes, load, replicas, backends))
            }
        )?;
        let (attention, webhooks, nearly_used, rare) = first;
        let (now, keys, minutes, load, replicas, backends) = second;
        let service = problems::OfService {
            replicas: &replicas,
            keys: &keys,
            backlog: &backends.outbox,
            switch: (backends.active, backends.left),
            alternating: &rare.alternating,
            lost_logins: &rare.lost_logins,
        };
        let found = Found {
            attention: &attention,
            grace: self.grace(Some(backends.active)),
            webhooks: &webhooks,
            nearly_used: &nearly_used,
            has_key_encryption_key: self.rules.has_key_encryption_key,
            service: Some(service),
        };
        let problems = found.problems();
        Ok(Overview {
            at: attention.at,
            org_id: None,
            counts: attention.counts,
            problems,
            service: Some(ServiceOverview {
                replicas: replicas.into_iter().map(|one| shown_replica(one, now)).collect(),
                backends,
                keys: keys::overview(&keys, &self.rules.rotation),
                fires: fires::overview(&minutes, now),
                load: filled(&load, now),
            }),
        })
    }

    async fn rare(&self) -> DbResult<Arc<Rare>> {
        let read = async {
            let alternating = directory::alternating(&self.db, diagnosis::READ).await?;
            let lost_logins = logins::lost(&self.db, diagnosis::READ).await?;
            Ok(Arc::new(Rare { alternating, lost_logins }))
        };
        self.rare.try_get_with((), read).await.map_err(|error: Arc<DbError>| error.again())
    }

    fn grace(&self, active: Option<BackendName>) -> Duration {
        let of = |active| self.rules.graces.iter().find(|one| one.0 == active);
        active.and_then(of).map_or(Duration::ZERO, |one| one.1)
    }
}

fn shown_replica(replica: Registered, now: DateTime<Utc>) -> Replica {
    let silent_for = TimeDelta::from_std(replica.silent_for).unwrap_or(TimeDelta::MAX);
    Replica {
        running: diagnosis::is_running(&replica),
        replica_id: replica.replica_id,
        host_name: replica.host_name,
        version: replica.version,
        started_at: replica.started_at,
        seen_at: now.checked_sub_signed(silent_for).unwrap_or(DateTime::UNIX_EPOCH),
        clock_offset_ms: replica.clock_offset.map(|offset| offset.num_milliseconds()),
    }
}

async fn backends(
    db: &Db,
    active: ActiveBackend,
    minutes: &[FireMinute],
    now: DateTime<Utc>,
) -> DbResult<BackendOverview> {
    let missed = |since: DateTime<Utc>| {
        minutes.iter().filter(|minute| minute.minute >= since).map(|minute| minute.missed).sum()
    };
    Ok(BackendOverview {
        active: active.backend,
        generation: active.generation,
        switched_at: active.switched_at,
        missed_last_hour: missed(minute_of(now) - TimeDelta::hours(1)),
        missed_last_day: missed(minute_of(now) - DAY),
        missed: statements::missed(db).await?,
        outbox: statements::backlog(db).await?,
        left: statements::switch_backlog(db, &active).await?,
    })
}

/// Adds the minutes without one-shots.
fn filled(load: &UpcomingLoad, now: DateTime<Utc>) -> UpcomingLoad {
    let minutes = (0..AHEAD.num_minutes()).map(|number| {
        let minute = minute_of(now) + TimeDelta::minutes(number);
        let due = load.minutes.iter().find(|one| one.minute == minute).map_or(0, |one| one.due);
        DueMinute { minute, due }
    });
    UpcomingLoad { minutes: minutes.collect(), estimated: load.estimated }
}
