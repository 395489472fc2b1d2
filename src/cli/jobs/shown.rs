//! A job as it is shown: its one-shot, and with which auth profile it is fired.

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::{self, or_dash, relative};
use nas_cron_protocol::OneShotState;

use super::state;
use crate::db::jobs::Job;
use crate::db::{Db, DbResult, auth_profiles};
use nas_cron_protocol::agent_api::ShownAuth;

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

/// Everything about it, a fact a line.
pub(super) fn facts(shown: &ShownJob, now: DateTime<Utc>) -> String {
    let job = &shown.job;
    let with_time = |at: DateTime<Utc>| format!("{} ({})", relative(now, at), at.format("%F %T%.3f UTC"));
    let mut rows = vec![
        ("agent", format!("{} of org {}", job.instance_id, job.org_id)),
        ("job", job.job_id.clone()),
        ("schedule", job.schedule_id.to_string()),
        ("key", job.dedup_key.clone()),
        ("state", state(job)),
        ("fire at", format!("{} ({})", job.fire_at, relative(now, job.fire_at_instant))),
        ("callback", job.callback_url.clone()),
        ("auth", auth(&shown.auth)),
        ("next attempt", or_dash(job.next_attempt_at.map(with_time))),
        ("attempts", job.attempts.to_string()),
        ("last attempt", or_dash(job.last_started_at.map(with_time))),
        ("last status", or_dash(job.last_status)),
        ("last error", or_dash(job.last_error.as_deref())),
    ];
    let times = [
        ("failing since", job.retrying_since),
        ("left alone until", job.retry_after_until),
        ("lease ends", job.lease_expires_at),
        ("armed", Some(job.created_at)),
        ("changed", Some(job.updated_at)),
    ];
    rows.extend(times.into_iter().filter_map(|(name, at)| Some((name, with_time(at?)))));
    if job.asked_again {
        rows.push(("asked again", "the same key came during the attempt under way".to_owned()));
    }
    if matches!(job.state, OneShotState::Dead | OneShotState::Stuck) {
        rows.push(("", "`nas-cron jobs redrive` fires it again.".to_owned()));
    }
    terminal::text(terminal::facts(&rows))
}

#[cfg(test)]
mod tests {
    use nas_cron_protocol::{AuthProfile, AuthSource, EffectiveAuth};

    use super::*;

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
