//! What provision, cancel and list mean (docs/contract.md#agent-api), below HTTP and above SQL.

use nas_cron_protocol::{
    AuthProfile, CallbackUrl, DedupKey, FireAt, Given, InstanceId, InvalidField, JobId, OneShotState,
};
use tokio::time::Instant;

use crate::db::{Db, DbError, DbResult, auth_profiles, oneshots, ride_out};
use crate::domain::agent_instance::AgentInstance;
use crate::domain::arm_rules::ArmRules;
use crate::domain::one_shot::{Arm, Armed, OneShot};
use crate::store_error::StoreError;

/// A provision that passed every check of its fields.
#[derive(Clone, Debug)]
pub struct Provision {
    /// Which job.
    pub job_id: JobId,
    /// When.
    pub fire_at: FireAt,
    /// Where.
    pub callback_url: CallbackUrl,
    /// What makes it idempotent.
    pub dedup_key: DedupKey,
    /// The job's own auth profile. It never supersedes.
    pub auth: Given<AuthProfile>,
}

impl Provision {
    /// Checks the fields, in the order of the contract; the first wrong one is named.
    pub fn new(
        job_id: &str,
        fire_at: &str,
        agent_callback_url: &str,
        dedup_key: &str,
    ) -> Result<Self, InvalidField> {
        Ok(Self {
            job_id: JobId::new(job_id)?,
            fire_at: FireAt::parse(fire_at)?,
            callback_url: CallbackUrl::parse(agent_callback_url)?,
            dedup_key: DedupKey::new(dedup_key)?,
            auth: Given::Keep,
        })
    }

    /// The same, with what it says of the job's auth profile.
    #[must_use]
    pub fn with_auth(self, auth: Given<AuthProfile>) -> Self {
        Self { auth, ..self }
    }
}

/// What agents do with their one-shots. Each call rides out the database's short absences until its deadline, because
/// real agents do not retry (docs/contract.md#invariant-9-short-outages-fail-no-provision).
#[derive(Clone, Debug)]
pub struct OneShots {
    db: Db,
    rules: ArmRules,
}

impl OneShots {
    /// Over the one-shots of `db`; `rules` are the times between fires of one job.
    pub fn new(db: Db, rules: ArmRules) -> Self {
        Self { db, rules }
    }

    /// Arms one one-shot of the caller: see [`provision`].
    pub async fn provision(
        &self,
        caller: &AgentInstance,
        wanted: &Provision,
        deadline: Instant,
    ) -> Result<Armed, StoreError> {
        let previous = caller.callback_url.as_deref();
        let arming = || provision(&self.db, &caller.instance_id, previous, wanted, &self.rules);
        Ok(ride_out(deadline, arming).await?)
    }

    /// Cancels one of the caller's jobs: see [`cancel`].
    pub async fn cancel(
        &self,
        caller: &AgentInstance,
        job_id: &JobId,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        Ok(ride_out(deadline, || cancel(&self.db, &caller.instance_id, job_id)).await?)
    }

    /// The caller's one-shots: see [`list`].
    pub async fn list(&self, caller: &AgentInstance, deadline: Instant) -> Result<Listing, StoreError> {
        Ok(ride_out(deadline, || list(&self.db, &caller.instance_id)).await?)
    }
}

/// Arms one one-shot for the job, durably when it returns. `previous_callback` is the callback the instance
/// last came with: another one now means that it has moved, and its other one-shots move along.
///
/// Repeating it is harmless, so a caller may try again after any transient error.
pub async fn provision(
    db: &Db,
    instance_id: &InstanceId,
    previous_callback: Option<&str>,
    wanted: &Provision,
    rules: &ArmRules,
) -> DbResult<Armed> {
    if previous_callback != Some(wanted.callback_url.as_str()) {
        oneshots::move_callback(db, instance_id, previous_callback, &wanted.callback_url).await?;
    }
    // Before it is armed, or what is due now would be fired without it.
    if !wanted.auth.is_keep() {
        auth_profiles::set_job(db, instance_id, &wanted.job_id, wanted.auth.value(), true).await?;
    }
    let arm = Arm {
        instance_id,
        job_id: &wanted.job_id,
        dedup_key: &wanted.dedup_key,
        fire_at: &wanted.fire_at,
        callback_url: &wanted.callback_url,
    };
    let Some(mut armed) = oneshots::provision(db, &arm, rules).await? else {
        // The caller was resolved a moment ago, and its instance was deleted since.
        return Err(DbError::Conflict { constraint: "one_shots_instance_id_fkey".to_owned() });
    };
    if armed.shows_skew {
        armed.next_attempt_at =
            oneshots::learn_skew(db, instance_id, &wanted.job_id, armed.schedule_id).await?;
    }
    Ok(armed)
}

/// Cancels the job's one-shot and forgets its delivered keys; an unknown job is fine.
pub async fn cancel(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<()> {
    oneshots::cancel(db, instance_id, job_id).await?;
    Ok(())
}

/// An instance's one-shots, as `list` shows them.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Armed, leased, firing, waiting; soonest first.
    pub armed: Vec<OneShot>,
    /// Dead letters, and what is stuck.
    pub dead: Vec<OneShot>,
}

/// What was delivered is in neither part.
pub async fn list(db: &Db, instance_id: &InstanceId) -> DbResult<Listing> {
    let (dead, armed) = oneshots::list(db, instance_id)
        .await?
        .into_iter()
        .partition(|one| matches!(one.state, OneShotState::Dead | OneShotState::Stuck));
    Ok(Listing { armed, dead })
}
