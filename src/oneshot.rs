//! The rules of provision, cancel, list and status (docs/contract.md#agent-api), below HTTP and above SQL.

use std::time::Duration;

use nas_cron_protocol::{
    AuthChoice, CallbackUrl, DedupKey, FireAt, Given, InstanceId, InvalidField, JobId, NotAfter, OneShotState,
};
use tokio::time::Instant;
use tracing::warn;

use crate::db::{Db, DbError, DbResult, instances, job_auth, job_status, oneshots, provisions, ride_out};
use crate::domain::agent_instance::AgentInstance;
use crate::domain::arm_rules::ArmRules;
use crate::domain::job_status::JobStatus;
use crate::domain::one_shot::{Arm, Armed, OneShot, Provisioned};
use crate::domain::quota::QuotaExceeded;
use crate::domain::trace_context::TraceContext;
use crate::quotas::Quotas;
use crate::store_error::StoreError;

/// A provision request with valid fields.
#[derive(Clone, Debug)]
pub struct Provision {
    /// The job.
    pub job_id: JobId,
    /// The instant of the fire.
    pub fire_at: FireAt,
    /// The callback of the fire.
    pub callback_url: CallbackUrl,
    /// The key that makes the request idempotent.
    pub dedup_key: DedupKey,
    /// The job's own auth. It never supersedes.
    pub auth: Given<AuthChoice>,
    /// The latest start of an attempt.
    pub not_after: Given<NotAfter>,
    /// The span of the request, if it is recorded in a trace.
    pub trace: Option<TraceContext>,
}

impl Provision {
    /// Checks the fields in the order of the contract. The error names the first invalid one.
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
            not_after: Given::Keep,
            trace: None,
        })
    }

    /// Sets the request's value for the job's own auth.
    #[must_use]
    pub fn with_auth(self, auth: Given<AuthChoice>) -> Self {
        Self { auth, ..self }
    }

    /// Sets the request's limit of attempts. Fails if it is invalid or before the instant of the fire.
    pub fn with_not_after(self, not_after: Given<String>) -> Result<Self, InvalidField> {
        let not_after = not_after.try_map(|text| NotAfter::parse(&text, &self.fire_at))?;
        Ok(Self { not_after, ..self })
    }

    /// Sets the span of the request.
    #[must_use]
    pub fn with_trace(self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self }
    }

    fn arm(&self, instance_id: &InstanceId) -> Arm {
        Arm {
            instance_id: instance_id.clone(),
            job_id: self.job_id.clone(),
            dedup_key: self.dedup_key.clone(),
            fire_at: self.fire_at.clone(),
            callback_url: self.callback_url.clone(),
            not_after: self.not_after.clone(),
            seen: None,
            trace: self.trace,
        }
    }
}

/// The operations of agents on their one-shots. Each call waits for an unavailable database until its deadline, because
/// real agents do not retry (docs/contract.md#invariant-9-short-outages-fail-no-provision).
#[derive(Clone, Debug)]
pub struct OneShots {
    db: Db,
    rules: ArmRules,
    quotas: Quotas,
    history_retention: Duration,
}

/// A provision failed. Nothing was armed.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The job is new, and a quota is used up.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DbError> for ProvisionError {
    fn from(error: DbError) -> Self {
        Self::Store(error.into())
    }
}

impl OneShots {
    /// The one-shots in `db`. `rules` define the times between fires of one job, `quotas` limit its new jobs; what ended is
    /// deleted after `history_retention`.
    pub fn new(db: Db, rules: ArmRules, quotas: Quotas, history_retention: Duration) -> Self {
        Self { db, rules, quotas, history_retention }
    }

    /// Time after which what ended is deleted.
    pub fn history_retention(&self) -> Duration {
        self.history_retention
    }

    /// Arms a one-shot for the caller: see [`provision`]. A new job beyond a quota changes nothing.
    pub async fn provision(
        &self,
        caller: &AgentInstance,
        wanted: &Provision,
        deadline: Instant,
    ) -> Result<Armed, ProvisionError> {
        let room = match self.quotas.foreseen(caller).await {
            Some(room) => Ok(room),
            None => self.quotas.room(caller, deadline).await?,
        };
        if let Err(exceeded) = room {
            let is_known = || oneshots::exists(&self.db, &caller.instance_id, &wanted.job_id);
            if !ride_out(deadline, is_known).await? {
                return Err(exceeded.into());
            }
        }
        let (previous, admits_new) = (caller.callback_url.as_deref(), room.is_ok());
        let arming =
            || provision_within(&self.db, &caller.instance_id, previous, wanted, &self.rules, admits_new);
        match (ride_out(deadline, arming).await?, room) {
            (Some(armed), room) => {
                if let (true, Ok(room)) = (armed.is_new_job, room) {
                    room.used();
                }
                Ok(armed)
            }
            // The job was cancelled meanwhile.
            (None, Err(exceeded)) => Err(exceeded.into()),
            (None, Ok(_)) => Err(instance_is_gone().into()),
        }
    }

    /// Arms a one-shot for a caller that is remembered. `None` if that is not enough: the caller has changed since, or the
    /// request changes more than the job's one-shot.
    pub async fn provision_remembered(
        &self,
        caller: &AgentInstance,
        wanted: &Provision,
        deadline: Instant,
    ) -> Result<Option<Armed>, ProvisionError> {
        if caller.callback_url.as_deref() != Some(wanted.callback_url.as_str()) || !wanted.auth.is_keep() {
            return Ok(None);
        }
        let arm = Arm { seen: Some(caller.version), ..wanted.arm(&caller.instance_id) };
        let arming =
            async |admits_new| ride_out(deadline, || arm_job(&self.db, &arm, &self.rules, admits_new)).await;
        let mut room = self.quotas.foreseen(caller).await;
        let mut provisioned = arming(room.is_some()).await?;
        if provisioned == Provisioned::JobIsNew {
            room = Some(self.quotas.room(caller, deadline).await??);
            provisioned = arming(true).await?;
        }
        let armed = provisioned.armed();
        if let (Some(Armed { is_new_job: true, .. }), Some(room)) = (&armed, room) {
            room.used();
        }
        Ok(armed)
    }

    /// Cancels a job's one-shot for the caller: see [`cancel`].
    pub async fn cancel(
        &self,
        caller: &AgentInstance,
        job_id: &JobId,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        Ok(ride_out(deadline, || cancel(&self.db, &caller.instance_id, job_id)).await?)
    }

    /// Lists the caller's one-shots: see [`list`].
    pub async fn list(&self, caller: &AgentInstance, deadline: Instant) -> Result<Listing, StoreError> {
        Ok(ride_out(deadline, || list(&self.db, &caller.instance_id)).await?)
    }

    /// Returns a job of the caller with its latest `attempts`, or `None` if nothing is stored about it.
    pub async fn status(
        &self,
        caller: &AgentInstance,
        job_id: &JobId,
        attempts: u32,
        deadline: Instant,
    ) -> Result<Option<JobStatus>, StoreError> {
        Ok(ride_out(deadline, || job_status::of(&self.db, &caller.instance_id, job_id, attempts)).await?)
    }
}

/// Arms a one-shot for the job. The one-shot is durable when this returns. `previous_callback` is the callback that the
/// instance last sent. A different one now means that the agent has moved, so its other one-shots get the new callback.
///
/// Repeating the call is safe, so a caller may retry after any transient error.
pub async fn provision(
    db: &Db,
    instance_id: &InstanceId,
    previous_callback: Option<&str>,
    wanted: &Provision,
    rules: &ArmRules,
) -> DbResult<Armed> {
    provision_within(db, instance_id, previous_callback, wanted, rules, true)
        .await?
        .ok_or_else(instance_is_gone)
}

/// The instance was deleted after the caller was authenticated.
fn instance_is_gone() -> DbError {
    DbError::Conflict { constraint: "one_shots_instance_id_fkey".to_owned() }
}

/// Like [`provision`]. A job that has no one-shot is armed only if `admits_new`. `None`: nothing was armed.
async fn provision_within(
    db: &Db,
    instance_id: &InstanceId,
    previous_callback: Option<&str>,
    wanted: &Provision,
    rules: &ArmRules,
    admits_new: bool,
) -> DbResult<Option<Armed>> {
    let mut followed = 0;
    if previous_callback != Some(wanted.callback_url.as_str())
        && !(previous_callback.is_none()
            && instances::record_first_callback(db, instance_id, &wanted.callback_url).await?)
    {
        let moved =
            oneshots::move_callback(db, instance_id, &wanted.job_id, previous_callback, &wanted.callback_url)
                .await?;
        followed = moved.followed;
        if moved.alternates_now {
            warn!(
                agent.id = %instance_id,
                "callback moved back and forth, two homes seem to share this identity; see `nas-cron agents show`"
            );
        }
    }
    // Before arming, so that a one-shot that is due now fires with the profile.
    if !wanted.auth.is_keep() {
        job_auth::set_job(db, instance_id, &wanted.job_id, wanted.auth.value(), true).await?;
    }
    let provisioned = arm_job(db, &wanted.arm(instance_id), rules, admits_new).await?;
    Ok(provisioned.armed().map(|armed| Armed { followed, ..armed }))
}

/// Arms the job's one-shot, and learns from it about the agent's clock.
async fn arm_job(db: &Db, arm: &Arm, rules: &ArmRules, admits_new: bool) -> DbResult<Provisioned> {
    let mut provisioned = provisions::provision_within(db, arm, rules, admits_new).await?;
    if let Provisioned::Armed(armed) = &mut provisioned
        && armed.shows_skew
    {
        armed.next_attempt_at =
            oneshots::learn_skew(db, &arm.instance_id, &arm.job_id, armed.schedule_id).await?;
    }
    Ok(provisioned)
}

/// Cancels the job's one-shot and forgets its delivered key. Cancelling an unknown job succeeds.
pub async fn cancel(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<()> {
    oneshots::cancel(db, instance_id, job_id).await?;
    Ok(())
}

/// An instance's one-shots for `list`.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Armed, leased, firing and waiting one-shots, soonest first.
    pub armed: Vec<OneShot>,
    /// Dead letters and stuck one-shots.
    pub dead: Vec<OneShot>,
}

/// Lists an instance's one-shots. Delivered ones are in neither part.
pub async fn list(db: &Db, instance_id: &InstanceId) -> DbResult<Listing> {
    let (dead, armed) = oneshots::list(db, instance_id)
        .await?
        .into_iter()
        .partition(|one| matches!(one.state, OneShotState::Dead | OneShotState::Stuck));
    Ok(Listing { armed, dead })
}
