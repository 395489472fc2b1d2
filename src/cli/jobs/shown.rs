//! A job as it is shown: its one-shot, and with which auth profile it is fired.

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::{self, or_dash, relative};
use nas_cron_protocol::{OneShotState, ParkReason};

use nas_cron_protocol::agent_api::ShownAuth;

use crate::db::{Db, DbResult, auth_profiles};
use crate::domain::job::Job;

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

/// The state in one word, and what keeps it from firing.
pub(super) fn state(job: &Job) -> String {
    match job.parked {
        None => match job.awaits {
            None => job.state.to_string(),
            Some(backend) => format!("{}, awaits {backend}", job.state),
        },
        Some(ParkReason::Hold) => format!("{}, on hold", job.state),
        Some(ParkReason::Unreachable) => format!("{}, unreachable", job.state),
    }
}

#[cfg(test)]
mod tests {
    use nas_cron_protocol::{AuthProfile, AuthSource, EffectiveAuth};

    use super::super::fixtures::{dead, now};
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
    #[test]
    fn the_facts() {
        let shown = ShownJob { job: dead(), auth: ShownAuth::default() };
        insta::assert_snapshot!(facts(&shown, now()), @r#"
        agent          agent-1 of org acme
        job            b
        schedule       00000000-0000-0000-0000-000000000007
        key            3f2a9c01d4e5:2027-01-15T09:03:00+01:00
        state          dead
        fire at        2027-01-15T09:03:00+01:00 (in 3 min)
        callback       https://agent-1.example
        auth           -
        next attempt   -
        attempts       81
        last attempt   20 s ago (2027-01-15 07:59:40.000 UTC)
        last status    503
        last error     the agent answered 503: <html> [2J
        failing since  3 d ago (2027-01-12 08:00:00.000 UTC)
        armed          3 h ago (2027-01-15 05:00:00.000 UTC)
        changed        3 h ago (2027-01-15 05:00:00.000 UTC)
                       `nas-cron jobs redrive` fires it again.
        "#);
    }
}
