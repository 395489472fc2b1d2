//! A job as it is shown: its one-shot, and with which auth profile it is fired.

use crate::auth_profiles::ShownAuth;
use crate::db::jobs::Job;
use crate::db::{Db, DbResult, auth_profiles};

/// A job's current one-shot, and its job's profiles.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct ShownJob {
    /// The one-shot.
    #[serde(flatten)]
    pub(super) job: Job,
    /// Absent in JSON where nothing is set.
    #[serde(flatten)]
    pub(super) auth: ShownAuth,
}

/// Puts to each job with which profile it is fired.
pub(super) async fn with_auth(db: &Db, jobs: Vec<Job>) -> DbResult<Vec<ShownJob>> {
    let names: Vec<_> = jobs.iter().map(|job| (job.instance_id.as_str(), job.job_id.as_str())).collect();
    let auths = auth_profiles::of_jobs(db, &names).await?;
    Ok(jobs.into_iter().zip(auths).map(|(job, auth)| ShownJob { job, auth: auth.into() }).collect())
}

/// What its next fire carries, and where that is set.
pub(super) fn auth(shown: &ShownAuth) -> String {
    let Some(effective) = &shown.effective_auth else { return "-".to_owned() };
    let known = if shown.warnings.is_empty() { "" } else { ", not known here" };
    format!("{} (by {}{known})", effective.auth, effective.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AuthProfile, AuthSource, EffectiveAuth};

    #[test]
    fn where_it_is_set_and_whether_it_is_known() {
        let profile = AuthProfile::new("claude:work").unwrap();
        let of = |source| Some(EffectiveAuth { auth: profile.clone(), source });
        let default = ShownAuth { effective_auth: of(AuthSource::Org), ..ShownAuth::default() };
        assert_eq!(auth(&default), "claude:work (by org)");
        let own = ShownAuth {
            auth: Some(profile.clone()),
            effective_auth: of(AuthSource::Job),
            warnings: vec![crate::auth_profiles::unknown(&profile)],
        };
        assert_eq!(auth(&own), "claude:work (by job, not known here)");
        assert_eq!(auth(&ShownAuth::default()), "-");
    }
}
