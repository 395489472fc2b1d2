//! A job as it is shown: its one-shot and its auth profiles.

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::{self, or_dash, relative};
use nas_cron_protocol::DeadReason;
use nas_cron_protocol::admin_api::{Job, ShownJob, Why};
use nas_cron_protocol::agent_api::ShownAuth;

/// Formats the auth of the next fire, and where it is set.
pub(super) fn auth(shown: &ShownAuth) -> String {
    let Some(effective) = &shown.effective_auth else { return "-".to_owned() };
    let known = match shown.warnings.len() {
        0 => "",
        unknown if unknown < effective.auth.profiles().len() => ", some unknown here",
        _ => ", unknown here",
    };
    format!("{} (by {}{known})", effective.auth, effective.source)
}

/// Formats everything about a job, one fact per line.
pub(super) fn facts(shown: &ShownJob, why: &Why, now: DateTime<Utc>) -> String {
    let job = &shown.job;
    let with_time = |at: DateTime<Utc>| format!("{} ({})", relative(now, at), at.format("%F %T%.3f UTC"));
    let mut rows = vec![
        ("agent", format!("{} of org {}", job.instance_id, job.org_id)),
        ("job", job.job_id.clone()),
        ("schedule", job.schedule_id.to_string()),
        ("key", job.dedup_key.clone()),
        ("state", state(job)),
        ("parked", or_dash(job.parked)),
        ("why", why.to_string()),
        ("fire at", format!("{} ({})", job.fire_at, relative(now, job.fire_at_instant))),
        ("callback", callback(job)),
        ("auth", auth(&shown.auth)),
        ("next attempt", or_dash(job.next_attempt_at.map(with_time))),
        ("attempts", if job.attempts > 0 { job.attempts.to_string() } else { "no attempts".to_owned() }),
        // An attempt of an earlier one-shot or retry budget is not one of the attempts above.
        (
            if job.attempts > 0 { "last attempt" } else { "earlier attempt" },
            or_dash(job.last_started_at.map(with_time)),
        ),
        ("last outcome", or_dash(job.last_outcome)),
        ("last status", or_dash(job.last_status)),
        ("last error", or_dash(job.last_error.as_deref())),
    ];
    let times = [
        ("not after", job.not_after),
        ("failing since", job.retrying_since),
        ("no retry before", job.retry_after_until),
        ("lease ends", job.lease_expires_at),
        ("next expected", job.expected_at),
        ("dormant since", job.dormant_since),
        ("armed", Some(job.created_at)),
        ("changed", Some(job.updated_at)),
    ];
    rows.extend(times.into_iter().filter_map(|(name, at)| Some((name, with_time(at?)))));
    if let Some(fire_at) = job.superseded_fire_at {
        rows.push(("supersedes", superseded(&with_time(fire_at), job.superseded_untried)));
    }
    if job.asked_again {
        rows.push(("armed again", "with the same key, during the attempt in flight".to_owned()));
    }
    terminal::text(terminal::facts(&rows))
}

/// Describes the one-shot that a job's present one superseded, and those before it.
fn superseded(fire_at: &str, untried: Option<i32>) -> String {
    match untried.unwrap_or(1) {
        1 => format!("a one-shot for {fire_at}, which had not been attempted"),
        untried => {
            format!("a one-shot for {fire_at}, the last of {untried} in a row that had not been attempted")
        }
    }
}

/// Formats the callback, and the one that the job's provision named, if it is another.
fn callback(job: &Job) -> String {
    match &job.own_callback_url {
        None => job.callback_url.clone(),
        Some(own) => format!("{} (moved with the agent; it was armed from {own})", job.callback_url),
    }
}

/// Formats the state, and the external backend that sends the wake-up, if any, the reason for which the job is dormant, or
/// that of a dead letter that has expired.
pub(super) fn state(job: &Job) -> String {
    if let Some(reason) = job.dormant_reason {
        return format!("{}, dormant: {reason}", job.state);
    }
    match (job.awaits, job.dead_reason) {
        (Some(backend), _) => format!("{}, awaits {backend}", job.state),
        (None, Some(DeadReason::Expired)) => format!("{}, expired", job.state),
        (None, _) => job.state.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use nas_cron_protocol::{AuthChoice, AuthProfile, AuthSource, EffectiveAuth};

    use nas_cron_protocol::admin_api::WhyCode;

    use super::*;
    use crate::operations::jobs::fixtures::{dead, job, now};

    fn why(text: &str) -> Why {
        Why { code: WhyCode::Scheduled, text: text.to_owned(), fix: None }
    }

    #[test]
    fn auth_shows_its_source_and_unknown_profiles() {
        let profile = AuthProfile::new("claude:work").unwrap();
        let one = AuthChoice::Profile(profile.clone());
        let of = |source| Some(EffectiveAuth { auth: one.clone(), source });
        let default = ShownAuth { effective_auth: of(AuthSource::Org), ..ShownAuth::default() };
        assert_eq!(auth(&default), "claude:work (by org)");
        let own = ShownAuth {
            auth: Some(one.clone()),
            effective_auth: of(AuthSource::Job),
            warnings: vec![crate::auth_profiles::unknown(&profile)],
        };
        assert_eq!(auth(&own), "claude:work (by job, unknown here)");
        let other = AuthProfile::new("codex:default").unwrap();
        let list = AuthChoice::Rotation(vec![profile, other]);
        let several =
            ShownAuth { effective_auth: Some(EffectiveAuth { auth: list, source: AuthSource::Job }), ..own };
        assert_eq!(auth(&several), "claude:work, codex:default (by job, some unknown here)");
        let none = EffectiveAuth { auth: AuthChoice::NoProfile, source: AuthSource::Instance };
        let none = ShownAuth { effective_auth: Some(none), ..ShownAuth::default() };
        assert_eq!(auth(&none), "none (by instance)");
        assert_eq!(auth(&ShownAuth::default()), "-");
    }

    #[test]
    fn expired_dead_letter_shows_its_reason_and_limit() {
        let limit = Some(now() - chrono::TimeDelta::minutes(1));
        let job = Job { dead_reason: Some(DeadReason::Expired), not_after: limit, ..dead() };
        let text = facts(&ShownJob { job, auth: ShownAuth::default() }, &why("-"), now());
        assert!(text.contains("dead, expired\n"), "{text}");
        assert!(text.contains("1 min ago (2027-01-15 07:59:00.000 UTC)"), "{text}");
    }

    #[test]
    fn never_attempted_job_shows_no_attempts() {
        let text = facts(&ShownJob { job: job(), auth: ShownAuth::default() }, &why("fires in 3 min"), now());
        assert!(text.contains("attempts         no attempts\nearlier attempt  -"), "{text}");
    }

    #[test]
    fn facts_match_their_snapshot() {
        let shown = ShownJob { job: dead(), auth: ShownAuth::default() };
        insta::assert_snapshot!(facts(&shown, &why("dead letter"), now()), @"
        agent          agent-1 of org acme
        job            b
        schedule       00000000-0000-0000-0000-000000000007
        key            3f2a9c01d4e5:2027-01-15T09:03:00+01:00
        state          dead
        parked         -
        why            dead letter
        fire at        2027-01-15T09:03:00+01:00 (in 3 min)
        callback       https://agent-1.example
        auth           -
        next attempt   -
        attempts       81
        last attempt   20 s ago (2027-01-15 07:59:40.000 UTC)
        last outcome   failed
        last status    503
        last error     the agent answered 503: <html> [2J
        failing since  3 d ago (2027-01-12 08:00:00.000 UTC)
        armed          3 h ago (2027-01-15 05:00:00.000 UTC)
        changed        3 h ago (2027-01-15 05:00:00.000 UTC)
        ");
    }
}
