//! Auth profiles, above SQL: the auth of jobs, the defaults of instances, orgs and the service, and the known
//! profiles. For the agent API, the admin API and the operator's command.
//!
//! A profile names credentials of the agent. The service never has the credentials themselves: a text that looks like a
//! secret is rejected as an [`AuthProfile`].

use std::time::Duration;

use nas_cron_protocol::agent_api::{
    AuthDefaults, AuthProfiles, AuthProfilesChange, KnownProfile, ShownAuth, Warning,
};
use nas_cron_protocol::{
    AuthChoice, AuthPlace, AuthProfile, AuthScope, Given, InstanceId, InvalidField, JobId, OrgId,
};
use tokio::time::Instant;

use crate::db::{Db, DbResult, auth_profiles, job_auth, ride_out};
use crate::directory::{self, DirectoryError, again};
use crate::domain::agent_instance::AgentInstance;
use crate::domain::job_auth::JobAuth;
use crate::store_error::StoreError;

/// Maximum number of known profiles per place.
pub const MAX_PROFILES: usize = 200;
/// Maximum time for which a change by the portal or the operator waits for concurrent changes at the same place.
pub const PUT_WITHIN: Duration = Duration::from_secs(5);
/// Limit of a query: more entries than all places of one instance can have.
const ALL: i64 = 1_000;

/// Returns the warning for an unknown profile. Fires carry it anyway, and it can be registered later.
pub fn unknown(auth: &AuthProfile) -> Warning {
    Warning {
        code: "auth_profile_unknown".into(),
        message: format!(
            "unknown auth profile `{auth}`: not registered for the instance, its org or the service; fires carry it \
             anyway, and it can be registered later"
        ),
    }
}

impl From<JobAuth> for ShownAuth {
    fn from(job: JobAuth) -> Self {
        let warnings = job.unknown.iter().map(unknown).collect();
        Self { auth: job.auth, effective_auth: job.effective, warnings }
    }
}

/// The known auth profiles and those of jobs, for the agent API and the admin API.
#[derive(Clone, Debug)]
pub struct Profiles(Db);

impl Profiles {
    /// The profiles in `db`.
    pub fn new(db: Db) -> Self {
        Self(db)
    }

    /// Changes the auth of a caller's job: see [`change_job`].
    pub async fn change_job(
        &self,
        caller: &AgentInstance,
        job_id: &JobId,
        auth: Option<&AuthChoice>,
        deadline: Instant,
    ) -> Result<Option<ShownAuth>, StoreError> {
        Ok(change_job(&self.0, &caller.instance_id, job_id, auth, deadline).await?)
    }

    /// Returns the profiles that a caller's jobs may name: see [`of_instance`]. Waits for an unavailable database until
    /// `deadline`.
    pub async fn of_caller(
        &self,
        caller: &AgentInstance,
        deadline: Instant,
    ) -> Result<AuthProfiles, StoreError> {
        Ok(ride_out(deadline, || of_instance(&self.0, &caller.instance_id, &caller.org_id)).await?)
    }

    /// Returns the known profiles of a place: see [`of_place`].
    pub async fn of_place(
        &self,
        place: &AuthPlace,
        within: Option<&OrgId>,
    ) -> Result<AuthProfiles, DirectoryError> {
        of_place(&self.0, place, within).await
    }

    /// Registers profiles at a place: see [`put`]. Fails if the place is an instance that is not registered.
    pub async fn put(
        &self,
        place: &AuthPlace,
        wanted: &Registry,
        within: Option<&OrgId>,
        deadline: Instant,
    ) -> Result<(), DirectoryError> {
        if let (AuthPlace::Instance(instance_id), Some(_)) = (place, within) {
            // Before the place is locked, so that callers of other orgs cannot delay those of its own.
            directory::find_within(&self.0, instance_id, within).await?;
        }
        let there = put(&self.0, place, wanted, within, deadline).await?;
        match place {
            AuthPlace::Instance(instance_id) if !there => Err(DirectoryError::Unknown(instance_id.clone())),
            _ => Ok(()),
        }
    }

    /// Removes the profiles of a place, or only one: see [`forget`]. Waits for an unavailable database until
    /// `deadline`.
    pub async fn forget_until(
        &self,
        place: &AuthPlace,
        only: Option<&AuthProfile>,
        deadline: Instant,
    ) -> Result<u64, StoreError> {
        Ok(ride_out(deadline, || forget(&self.0, place, only.map(std::slice::from_ref), None)).await?)
    }

    /// The same for an operator. Fails at once if the database is unavailable.
    pub async fn forget(
        &self,
        place: &AuthPlace,
        only: Option<&AuthProfile>,
        within: Option<&OrgId>,
    ) -> Result<u64, StoreError> {
        Ok(again(|| forget(&self.0, place, only.map(std::slice::from_ref), within)).await?)
    }
}

/// Sets or removes a job's own auth without re-arming its one-shot. Returns `None` if the job does not exist. Waits for
/// an unavailable database until `deadline`.
pub async fn change_job(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    auth: Option<&AuthChoice>,
    deadline: Instant,
) -> DbResult<Option<ShownAuth>> {
    // Checked once and not with each try: if the first try removes the profile, the job may no longer exist.
    if !ride_out(deadline, || job_auth::job_is_there(db, instance_id, job_id)).await? {
        return Ok(None);
    }
    ride_out(deadline, async || {
        // Sets the profile even if the job ends concurrently.
        job_auth::set_job(db, instance_id, job_id, auth, true).await?;
        let found = job_auth::of_jobs(db, &[(instance_id.as_str(), job_id.as_str())]).await?;
        Ok(found.into_iter().next().map(ShownAuth::from))
    })
    .await
}

/// Returns the known profiles and the defaults for the jobs of an instance in this org.
pub async fn of_instance(db: &Db, instance_id: &InstanceId, org_id: &OrgId) -> DbResult<AuthProfiles> {
    let (instance, org) = (AuthPlace::Instance(instance_id.clone()), AuthPlace::Org(org_id.clone()));
    read(db, &[instance, org, AuthPlace::Service]).await
}

/// Returns the known profiles and the defaults of a place and of the places around it. An instance must be registered;
/// with `within`, every instance of another org is unknown.
pub async fn of_place(
    db: &Db,
    place: &AuthPlace,
    within: Option<&OrgId>,
) -> Result<AuthProfiles, DirectoryError> {
    Ok(match place {
        AuthPlace::Service => read(db, &[AuthPlace::Service]).await?,
        AuthPlace::Org(_) => read(db, &[place.clone(), AuthPlace::Service]).await?,
        AuthPlace::Instance(instance_id) => {
            let org_id = OrgId::stored(directory::find_within(db, instance_id, within).await?.org_id);
            of_instance(db, instance_id, &org_id).await?
        }
    })
}

async fn read(db: &Db, places: &[AuthPlace]) -> DbResult<AuthProfiles> {
    let mut found = AuthProfiles::default();
    for entry in auth_profiles::entries(db, places, ALL).await? {
        if !entry.default {
            let known = entry.auth.profiles().iter().cloned();
            found.profiles.extend(known.map(|auth| KnownProfile { auth, scope: entry.scope }));
            continue;
        }
        *match entry.scope {
            AuthScope::Service => &mut found.defaults.service,
            AuthScope::Org => &mut found.defaults.org,
            AuthScope::Instance => &mut found.defaults.instance,
        } = Some(entry.auth);
    }
    // By name, then the narrowest scope first.
    found.profiles.sort_by(|a, b| a.auth.cmp(&b.auth).then_with(|| (b.scope as u8).cmp(&(a.scope as u8))));
    let AuthDefaults { instance, org, service } = &found.defaults;
    let set = [instance, org, service].into_iter().flatten().flat_map(AuthChoice::profiles);
    let mut strangers: Vec<&AuthProfile> =
        set.filter(|auth| found.profiles.iter().all(|known| known.auth != **auth)).collect();
    strangers.sort();
    strangers.dedup();
    found.warnings = strangers.into_iter().map(unknown).collect();
    Ok(found)
}

/// The profiles and the default to register at a place.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    profiles: Option<Vec<AuthProfile>>,
    default: Given<AuthChoice>,
}

impl Registry {
    /// `profiles` replace the known ones of the place; `None` keeps them. Duplicates count once.
    pub fn new(profiles: Option<Vec<AuthProfile>>, default: Given<AuthChoice>) -> Result<Self, InvalidField> {
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

/// Registers profiles at a place. Returns false if the place is an unknown instance. Repeating the call is safe. Of two
/// concurrent calls, one replaces the other completely. Retries until `deadline` after conflicts with other changes,
/// and while the database is unavailable.
pub async fn put(
    db: &Db,
    place: &AuthPlace,
    wanted: &Registry,
    within: Option<&OrgId>,
    deadline: Instant,
) -> DbResult<bool> {
    let profiles = wanted.profiles.as_deref();
    ride_out(deadline, || auth_profiles::put(db, place, profiles, &wanted.default, within)).await
}

/// Removes all known profiles of a place, or only these; unknown ones are ignored. The default stays. Returns the
/// number of removed profiles.
pub async fn forget(
    db: &Db,
    place: &AuthPlace,
    only: Option<&[AuthProfile]>,
    within: Option<&OrgId>,
) -> DbResult<u64> {
    auth_profiles::forget(db, place, only, within).await
}
