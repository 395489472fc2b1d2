use nas_cron_protocol::agent_api::{
    ArmedOneShot, AuthDefaults as ServiceDefaults, AuthProfiles as ServiceProfiles, ChangedJob,
    CurrentOneShot, DeadOneShot, JobAttempt as ServiceAttempt, JobState, JobStatus as ServiceJob,
    KnownProfile as ServiceProfile, ListResponse, ShownAuth,
};
use nas_cron_protocol::{
    AuthProfile, AuthScope, AuthSource, BackendName, DeadReason, EffectiveAuth as ServiceAuth, FireOutcome,
    JobId, OneShotState, ParkReason,
};
use serde_json::Value;

use super::*;

fn profile() -> AuthProfile {
    AuthProfile::new("claude:work").unwrap()
}

/// The forms of `auth`.
fn forms() -> [AuthChoice; 3] {
    let other = AuthProfile::new("claude:budget").unwrap();
    [AuthChoice::NoProfile, AuthChoice::Profile(profile()), AuthChoice::Rotation(vec![profile(), other])]
}

fn effective() -> ServiceAuth {
    let [_, _, several] = forms();
    ServiceAuth { auth: several, source: AuthSource::Job }
}

fn warning() -> Warning {
    Warning { code: "auth_profile_unknown".into(), message: "m".to_owned() }
}

fn shown() -> ShownAuth {
    let [none, ..] = forms();
    ShownAuth { auth: Some(none), effective_auth: Some(effective()), warnings: vec![warning()] }
}

/// Reads a body of the service as `T`, and serializes it again.
fn through<T: DeserializeOwned + Serialize>(sent: impl Serialize) -> (Value, Value) {
    let sent = serde_json::to_value(sent).unwrap();
    let read: T = serde_json::from_value(sent.clone()).unwrap();
    (serde_json::to_value(read).unwrap(), sent)
}

#[test]
fn every_field_of_a_list_survives_reading() {
    let at = "2026-06-18T12:34:56Z".parse().unwrap();
    let armed = ArmedOneShot {
        job_id: "j".to_owned(),
        fire_at: "2026-06-18T14:34:56+02:00".to_owned(),
        schedule_id: "s".to_owned(),
        agent_callback_url: "https://a.example".to_owned(),
        state: OneShotState::Waiting,
        attempts: 3,
        next_attempt_at: Some(at),
        not_after: Some(at),
        parked: Some(ParkReason::Hold),
        awaits: Some(BackendName::Nats),
        last_outcome: Some(FireOutcome::Failed),
        last_status: Some(503),
        last_error: Some("e".to_owned()),
        auth: shown(),
    };
    let dead = DeadOneShot {
        job_id: "k".to_owned(),
        fire_at: "2026-06-18T14:34:56+02:00".to_owned(),
        schedule_id: "t".to_owned(),
        agent_callback_url: "https://a.example".to_owned(),
        state: OneShotState::Dead,
        dead_reason: Some(DeadReason::Expired),
        not_after: Some(at),
        attempts: 9,
        last_status: Some(500),
        last_error: Some("e".to_owned()),
        died_at: at,
        auth: shown(),
    };
    let (read, sent) = through::<Listing>(ListResponse { armed: vec![armed], dead: vec![dead] });
    assert_eq!(read, sent);
}

#[test]
fn every_field_of_a_job_survives_reading() {
    let at = "2026-06-18T12:34:56Z".parse().unwrap();
    let (read, sent) = through::<JobStatus>(ServiceJob {
        job_id: "j".to_owned(),
        state: JobState::Dead,
        next: "n".to_owned(),
        cancelled_at: Some(at),
        one_shot: Some(CurrentOneShot {
            job_id: "j".to_owned(),
            fire_at: "2026-06-18T14:34:56+02:00".to_owned(),
            schedule_id: "s".to_owned(),
            agent_callback_url: "https://a.example".to_owned(),
            state: OneShotState::Dead,
            attempts: 3,
            next_attempt_at: Some(at),
            not_after: Some(at),
            parked: Some(ParkReason::Hold),
            awaits: Some(BackendName::Nats),
            last_outcome: Some(FireOutcome::Failed),
            last_status: Some(503),
            last_error: Some("e".to_owned()),
            dead_reason: Some(DeadReason::Expired),
            died_at: Some(at),
            auth: shown(),
        }),
        attempts: vec![ServiceAttempt {
            attempt_id: "a".to_owned(),
            schedule_id: "s".to_owned(),
            fire_at: at,
            attempt: 3,
            started_at: at,
            ended_at: at,
            outcome: FireOutcome::Failed,
            http_status: Some(503),
            error: Some("e".to_owned()),
            answer: Some("queued".to_owned()),
        }],
    });
    assert_eq!(read, sent);
}

#[test]
fn every_field_of_a_changed_job_and_of_auth_profiles_survives_reading() {
    let [none, one, several] = forms().map(Some);
    let (read, sent) = through::<ChangedAuth>(ChangedJob {
        job_id: JobId::new("j").unwrap(),
        auth: several.clone(),
        effective_auth: Some(effective()),
        warnings: vec![warning()],
    });
    assert_eq!(read, sent);
    let (read, sent) = through::<AuthProfiles>(ServiceProfiles {
        profiles: vec![ServiceProfile { auth: profile(), scope: AuthScope::Org }],
        defaults: ServiceDefaults { instance: none, org: one, service: several },
        warnings: vec![warning()],
    });
    assert_eq!(read, sent);
}
