//! Quotas of armed jobs (docs/contract.md#quotas): room for new jobs of an instance and of its org.
//!
//! Armed jobs are counted when a new job needs it, and the count is used again while it is far from the quota or recent. So
//! neither a re-arm nor a delivery costs anything for quotas, whatever arms or ends jobs elsewhere.

mod counted;

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use nas_cron_protocol::admin_api::QuotaScope;
use nas_cron_protocol::{InstanceId, OrgId};
use tokio::time::Instant;
use tracing::warn;

use self::counted::{Count, Counted, Reservation, Verdict};
use crate::db::{Db, DbResult, quotas, ride_out};
use crate::domain::agent_instance::AgentInstance;
use crate::domain::quota::{DefaultQuotas, QuotaExceeded, QuotaTarget, is_nearly_used};

/// Maximum number of instances whose counts are remembered. Each takes a few hundred bytes. The same for orgs.
const CAPACITY: u64 = 10_000;
/// Time after which the count of an instance that does not provision is forgotten.
const IDLE: Duration = Duration::from_mins(10);

/// The quotas, with the counts of this process.
#[derive(Clone, Debug)]
pub struct Quotas {
    db: Db,
    defaults: DefaultQuotas,
    instances: Cache<InstanceId, Arc<Counted>>,
    orgs: Cache<OrgId, Arc<Counted>>,
}

/// Room for one new job, until it is used or dropped.
#[derive(Debug)]
pub struct Room([Reservation; 2]);

impl Room {
    /// The job was armed, and had no one-shot before.
    pub fn used(self) {
        self.0.into_iter().for_each(Reservation::used);
    }
}

impl Quotas {
    /// The quotas in `db`, and `defaults` for instances and orgs without their own.
    pub fn new(db: Db, defaults: DefaultQuotas) -> Self {
        let instances = Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build();
        let orgs = Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build();
        Self { db, defaults, instances, orgs }
    }

    /// Returns room for a job that may be new, if the counts so far leave plenty of it. Needs no database.
    pub async fn foreseen(&self, caller: &AgentInstance) -> Option<Room> {
        let instance = self.instances.get(&caller.instance_id).await?;
        let org = self.orgs.get(&caller.org_id).await?;
        let now = Instant::now();
        Some(Room([instance.foreseen(now)?, org.foreseen(now)?]))
    }

    /// Returns room for a new job. Counts the armed jobs if the last count is too old to decide. The inner error is that of a
    /// quota which is used up.
    pub async fn room(
        &self,
        caller: &AgentInstance,
        deadline: Instant,
    ) -> DbResult<Result<Room, QuotaExceeded>> {
        let instance = self.instances.get_with_by_ref(&caller.instance_id, async { Arc::default() }).await;
        let target = QuotaTarget::Instance(caller.instance_id.clone());
        let of_instance = match self.decide(&instance, &target, deadline).await? {
            Ok(reservation) => reservation,
            Err(exceeded) => return Ok(Err(exceeded)),
        };
        let org = self.orgs.get_with_by_ref(&caller.org_id, async { Arc::default() }).await;
        let target = QuotaTarget::Org(caller.org_id.clone());
        let of_org = self.decide(&org, &target, deadline).await?;
        Ok(of_org.map(|of_org| Room([of_instance, of_org])))
    }

    async fn decide(
        &self,
        counted: &Arc<Counted>,
        target: &QuotaTarget,
        deadline: Instant,
    ) -> DbResult<Result<Reservation, QuotaExceeded>> {
        let scope = target.scope();
        if let Some(decided) = settled(counted, scope, false) {
            return Ok(decided);
        }
        let _counting = counted.counting().await;
        // Another request may have counted meanwhile.
        if let Some(decided) = settled(counted, scope, false) {
            return Ok(decided);
        }
        loop {
            self.count(counted, target, deadline).await?;
            if let Some(decided) = settled(counted, scope, true) {
                return Ok(decided);
            }
        }
    }

    async fn count(&self, counted: &Counted, target: &QuotaTarget, deadline: Instant) -> DbResult<()> {
        let (begun, default) = (Instant::now(), self.defaults.of(target.scope()));
        counted.begin();
        let found = ride_out(deadline, || quotas::count(&self.db, target, default)).await?;
        let quota = found.own.unwrap_or(default);
        let nearly_used = is_nearly_used(found.armed, quota);
        if counted.store(Count { quota, armed: found.armed, begun }, nearly_used) {
            // Only for operators: no provision fails because of it.
            if let Err(error) = quotas::note_nearly_used(&self.db, target, quota, found.armed).await {
                warn!(%error, scope = %target.scope(), scope.id = target.id(), "noting a nearly used quota failed");
            }
        }
        Ok(())
    }
}

fn settled(
    counted: &Arc<Counted>,
    scope: QuotaScope,
    has_counted: bool,
) -> Option<Result<Reservation, QuotaExceeded>> {
    match counted.decide(Instant::now(), has_counted) {
        Verdict::Admitted(reservation) => Some(Ok(reservation)),
        Verdict::Full { quota, armed } => Some(Err(QuotaExceeded { scope, quota, armed })),
        Verdict::Unknown => None,
    }
}
