//! Auth profiles above SQL: a job's own, the defaults of instances, orgs and the service, and which are known. For
//! hop 1, the admin API and the operator's command.
//!
//! A profile names credentials that the agent has. Nothing here has ever seen one: what looks like a secret does not
//! become an [`AuthProfile`].

use std::time::Duration;

use nas_cron_protocol::agent_api::{
    AuthDefaults, AuthProfiles, AuthProfilesChange, KnownProfile, ShownAuth, Warning,
};
use nas_cron_protocol::{AuthPlace, AuthProfile, AuthScope, Given, InstanceId, InvalidField, JobId, OrgId};
use tokio::time::Instant;

use crate::db::{Db, DbResult, auth_profiles, ride_out};
use crate::directory::{self, DirectoryError, again};
use crate::domain::agent_instance::AgentInstance;
use crate::domain::job_auth::JobAuth;
use crate::store_error::StoreError;

/// Known profiles of one place at most.
pub const MAX_PROFILES: usize = 200;
/// How long a change by the portal or the operator waits for others at the same place.
pub const PUT_WITHIN: Duration = Duration::from_secs(5);
/// More than all places of one instance can have together.
const ALL: i64 = 1_000;

/// A profile that is named and not known: it may be added later, and is passed on meanwhile.
pub fn unknown(auth: &AuthProfile) -> Warning {
    Warning {
        code: "auth_profile_unknown".into(),
        message: format!(
            "the auth profile `{auth}` is known neither to the instance, nor to its org, nor to the service; fires \
             carry it all the same, and it may be registered later"
        ),
    }
}

impl From<JobAuth> for ShownAuth {
    fn from(job: JobAuth) -> Self {
        let warnings = job.auth.iter().filter(|_| job.unknown).map(unknown).collect();
        Self { auth: job.auth, effective_auth: job.effective, warnings }
    }
}

/// The known auth profiles and those of jobs, as agents and the admin API see and change them.
#[derive(Clone, Debug)]
pub struct Profiles(Db);

impl Profiles {
    /// Over the profiles of `db`.
    pub fn new(db: Db) -> Self {
        Self(db)
    }

    /// Changes the profile of a caller's job: see [`change_job`].
    pub async fn change_job(
        &self,
        caller: &AgentInstance,
        job_id: &JobId,
        auth: Option<&AuthProfile>,
        deadline: Instant,
    ) -> Result<Option<ShownAuth>, StoreError> {
        Ok(change_job(&self.0, &caller.instance_id, job_id, auth, deadline).await?)
    }

    /// What a caller may name: see [`of_instance`]. Rides out the database's short absences until `deadline`.
    pub async fn of_caller(
        &self,
        caller: &AgentInstance,
        deadline: Instant,
    ) -> Result<AuthProfiles, StoreError> {
        Ok(ride_out(deadline, || of_instance(&self.0, &caller.instance_id, &caller.org_id)).await?)
    }

    /// What may be named at a place: see [`of_place`].
    pub async fn of_place(&self, place: &AuthPlace) -> Result<AuthProfiles, DirectoryError> {
        of_place(&self.0, place).await
    }

    /// Registers profiles at a place: see [`put`]. Fails where the place is an instance that is not registered.
    pub async fn put(
        &self,
        place: &AuthPlace,
        wanted: &Registry,
        deadline: Instant,
    ) -> Result<(), DirectoryError> {
        let there = put(&self.0, place, wanted, deadline).await?;
        match place {
            AuthPlace::Instance(instance_id) if !there => Err(DirectoryError::Unknown(instance_id.clone())),
            _ => Ok(()),
        }
    }

    /// Forgets the profiles of a place, or only one: see [`forget`]. Rides out the database's short absences until
    /// `deadline`.
    pub async fn forget_until(
        &self,
        place: &AuthPlace,
        only: Option<&AuthProfile>,
        deadline: Instant,
    ) -> Result<u64, StoreError> {
        Ok(ride_out(deadline, || forget(&self.0, place, only.map(std::slice::from_ref))).await?)
    }

    /// The same for an operator, who is told at once that the database is unavailable.
    pub async fn forget(&self, place: &AuthPlace, only: Option<&AuthProfile>) -> Result<u64, StoreError> {
        Ok(again(|| forget(&self.0, place, only.map(std::slice::from_ref))).await?)
    }
}

/// Gives a job another profile of its own, or takes it away, without touching its arm; `None` for a job that is not
/// there. The database's short absences are ridden out until `deadline`.
pub async fn change_job(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    auth: Option<&AuthProfile>,
    deadline: Instant,
) -> DbResult<Option<ShownAuth>> {
    // Asked once and not again with each try: what is taken away may be all that there was of the job.
    if !ride_out(deadline, || auth_profiles::job_is_there(db, instance_id, job_id)).await? {
        return Ok(None);
    }
    ride_out(deadline, async || {
        // Should it go this very moment, what is set is there all the same.
        auth_profiles::set_job(db, instance_id, job_id, auth, true).await?;
        let found = auth_profiles::of_jobs(db, &[(instance_id.as_str(), job_id.as_str())]).await?;
        Ok(found.into_iter().next().map(ShownAuth::from))
    })
    .await
}

/// What an instance of this org may name, and what its jobs get.
pub async fn of_instance(db: &Db, instance_id: &InstanceId, org_id: &OrgId) -> DbResult<AuthProfiles> {
    let (instance, org) = (AuthPlace::Instance(instance_id.clone()), AuthPlace::Org(org_id.clone()));
    read(db, &[instance, org, AuthPlace::Service]).await
}

/// What may be named at a place, and what is set there and around it. An instance must be registered.
pub async fn of_place(db: &Db, place: &AuthPlace) -> Result<AuthProfiles, DirectoryError> {
    Ok(match place {
        AuthPlace::Service => read(db, &[AuthPlace::Service]).await?,
        AuthPlace::Org(_) => read(db, &[place.clone(), AuthPlace::Service]).await?,
        AuthPlace::Instance(instance_id) => {
            let org_id = OrgId::stored(directory::find(db, instance_id).await?.org_id);
            of_instance(db, instance_id, &org_id).await?
        }
    })
}

async fn read(db: &Db, places: &[AuthPlace]) -> DbResult<AuthProfiles> {
    let mut found = AuthProfiles::default();
    for entry in auth_profiles::entries(db, places, ALL).await? {
        if !entry.default {
            found.profiles.push(KnownProfile { auth: entry.auth, scope: entry.scope });
            continue;
        }
        *match entry.scope {
            AuthScope::Service => &mut found.defaults.service,
            AuthScope::Org => &mut found.defaults.org,
            AuthScope::Instance => &mut found.defaults.instance,
        } = Some(entry.auth);
    }
    // By name, and the nearest place first.
    found.profiles.sort_by(|a, b| a.auth.cmp(&b.auth).then_with(|| (b.scope as u8).cmp(&(a.scope as u8))));
    let AuthDefaults { instance, org, service } = &found.defaults;
    let set = [instance, org, service].into_iter().flatten();
    found.warnings =
        set.filter(|auth| found.profiles.iter().all(|known| known.auth != **auth)).map(unknown).collect();
    found.warnings.dedup();
    Ok(found)
}

/// What is to be registered at a place.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    profiles: Option<Vec<AuthProfile>>,
    default: Given<AuthProfile>,
}

impl Registry {
    /// `profiles` replace those that are known there, where given; one that is named twice counts once.
    pub fn new(
        profiles: Option<Vec<AuthProfile>>,
        default: Given<AuthProfile>,
    ) -> Result<Self, InvalidField> {
        let profiles = profiles.map(|mut profiles| {
            profiles.sort_unstable();
            profiles.dedup();
            profiles
        });
        if profiles.as_ref().is_some_and(|profiles| profiles.len() > MAX_PROFILES) {
            return Err(InvalidField::new("profiles", format!("must be at most {MAX_PROFILES}")));
        }
        Ok(Self { profiles, default })
    }
}

impl TryFrom<AuthProfilesChange> for Registry {
    type Error = InvalidField;

    fn try_from(change: AuthProfilesChange) -> Result<Self, InvalidField> {
        Self::new(Some(change.profiles), change.default)
    }
}

/// Registers it at a place. Returns whether the place is there: an unknown instance has none. Repeating it is harmless.
/// Of two at once, one replaces the other whole. Tried again until `deadline`, while others are at the same place or the
/// database is away.
pub async fn put(db: &Db, place: &AuthPlace, wanted: &Registry, deadline: Instant) -> DbResult<bool> {
    ride_out(deadline, || auth_profiles::put(db, place, wanted.profiles.as_deref(), &wanted.default)).await
}

/// Forgets the profiles that are known at a place, or only these; none is fine. The default stays. Returns how many
/// there were.
pub async fn forget(db: &Db, place: &AuthPlace, only: Option<&[AuthProfile]>) -> DbResult<u64> {
    auth_profiles::forget(db, place, only).await
}
