//! Jobs that are silent for a known reason, and those that have ended.

use nas_cron::db::{dormant_jobs, rearms};
use nas_cron::domain::dormancy::{DormancyChange, DormantReason};
use serde_json::json;

use super::fixture::{Chains, HOUR, dormant, json, names};

/// Returns the reason for which the job is dormant.
async fn reason(chains: &Chains, job: &str) -> Option<String> {
    let listed = dormant(&chains.settings).await;
    let found = listed.iter().find(|one| one["job_id"] == job)?;
    Some(found["dormant_reason"].as_str().expect("a reason").to_owned())
}

/// Checks the dormant jobs, and returns the reported changes.
async fn changes(chains: &Chains) -> Vec<(DormancyChange, String)> {
    let (_, found) = rearms::check_dormant(&chains.db, None, 100).await.unwrap();
    found.into_iter().map(|one| (one.change, one.job_id.to_string())).collect()
}

#[tokio::test]
async fn silent_job_is_dormant_for_every_last_answer_but_gone() {
    let chains = Chains::new().await;
    let ago = [6, 5, 4, 3].map(|hours| hours * HOUR);
    for outcome in ["delivered", "duplicate", "dropped", "gone"] {
        chains.fired(outcome, &ago, outcome).await;
    }
    chains.round().await;
    assert_eq!(reason(&chains, "delivered").await.as_deref(), Some("silent"));
    assert_eq!(reason(&chains, "duplicate").await.as_deref(), Some("silent"));
    assert_eq!(reason(&chains, "dropped").await.as_deref(), Some("gateway_stopped"));
    // The agent has ended the job.
    assert_eq!(reason(&chains, "gone").await, None);
    let mut counts = dormant_jobs::counts(&chains.db).await.unwrap();
    counts.sort_by_key(|(reason, _)| reason.as_str());
    assert_eq!(counts, [(DormantReason::GatewayStopped, 1), (DormantReason::Silent, 2)]);
    let (_, text, _) = chains.settings.run(&["doctor", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let check =
        report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "dormant jobs").unwrap();
    assert_eq!(check["status"], "warning");
    assert!(check["fix"].as_str().unwrap().contains("jobs list --state dormant"), "{check}");
}

#[tokio::test]
async fn withheld_job_is_reported_when_it_is_no_longer_withheld() {
    let chains = Chains::new().await;
    for (stop, resume) in [
        ("UPDATE instances SET enabled = false", "UPDATE instances SET enabled = true"),
        ("INSERT INTO holds (scope, scope_id) VALUES ('org', 'org-1')", "DELETE FROM holds"),
        ("INSERT INTO job_holds (instance_id, job_id) VALUES ('inst-1', 'job')", "DELETE FROM job_holds"),
    ] {
        chains.sql("DELETE FROM one_shots; DELETE FROM fires; DELETE FROM awaited_rearms").await;
        chains.hourly("job", 3).await;
        chains.sql(stop).await;
        chains.round().await;
        assert_eq!(reason(&chains, "job").await.as_deref(), Some("withheld"), "{stop}");
        assert_eq!(changes(&chains).await, []);
        let shown = json(&chains.settings, &["jobs", "show", "inst-1", "job"]).await;
        assert_eq!(shown["why"]["code"], "dormant");
        let why = shown["why"]["text"].as_str().unwrap();
        assert!(why.contains("dormant") && (why.contains("disabled") || why.contains("on hold")), "{why}");
        // However long it is stopped, it does not close.
        chains.sql("UPDATE awaited_rearms SET dormant_since = now() - interval '20 days'").await;
        assert_eq!(changes(&chains).await, []);
        chains.sql(resume).await;
        assert_eq!(reason(&chains, "job").await.as_deref(), Some("silent"));
        assert_eq!(changes(&chains).await, [(DormancyChange::Dormant, "job".to_owned())]);
        assert_eq!(changes(&chains).await, [], "it is reported once, and its 14 days begin");
        assert_eq!(reason(&chains, "job").await.as_deref(), Some("silent"));
    }
}

#[tokio::test]
async fn cancelled_job_is_not_dormant_and_one_that_is_armed_again_is_reported() {
    let chains = Chains::new().await;
    for job in ["cancelled", "back", "never"] {
        chains.hourly(job, 3).await;
    }
    chains.sql("DELETE FROM one_shots WHERE job_id = 'never'").await;
    chains.round().await;
    assert_eq!(names(&chains.settings).await, ["back", "cancelled"]);
    let (status, _, error) = chains.settings.run(&["jobs", "cancel", "inst-1", "cancelled"]).await;
    assert!(status.success(), "{error}");
    chains.arms_again("back").await;
    // At once, before any check.
    assert_eq!(names(&chains.settings).await, [""; 0]);
    assert_eq!(dormant_jobs::counts(&chains.db).await.unwrap(), []);
    assert_eq!(changes(&chains).await, [(DormancyChange::Back, "back".to_owned())]);
    assert_eq!(chains.one::<i64>("SELECT count(*) FROM awaited_rearms").await, 0);
}

#[tokio::test]
async fn job_of_a_new_instance_with_the_same_id_is_not_reported_as_back() {
    let chains = Chains::new().await;
    chains.hourly("job", 3).await;
    chains.round().await;
    chains.arms_again("job").await;
    chains.sql("UPDATE instances SET org_id = 'org-2', created_at = now()").await;
    assert_eq!(changes(&chains).await, []);
    assert_eq!(chains.one::<i64>("SELECT count(*) FROM awaited_rearms").await, 0);
}

#[tokio::test]
async fn job_that_was_fired_again_without_success_is_a_dead_letter_and_not_dormant() {
    let chains = Chains::new().await;
    chains.hourly("job", 3).await;
    chains.round().await;
    chains
        .sql("UPDATE one_shots SET state = 'waiting', next_attempt_at = now(), last_outcome = 'failed'")
        .await;
    assert_eq!(names(&chains.settings).await, [""; 0]);
    assert_eq!(changes(&chains).await, []);
    assert_eq!(
        chains.one::<i64>("SELECT count(*) FROM awaited_rearms").await,
        1,
        "it may be delivered again"
    );
    chains.sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL").await;
    assert_eq!(changes(&chains).await, []);
    assert_eq!(chains.one::<i64>("SELECT count(*) FROM awaited_rearms").await, 0);
}

#[tokio::test]
async fn finished_job_closes_by_itself_after_14_days() {
    let chains = Chains::new().await;
    chains.hourly("finished", 3).await;
    chains.round().await;
    chains.sql("UPDATE awaited_rearms SET dormant_since = now() - interval '13 days 23 h'").await;
    assert_eq!(changes(&chains).await, []);
    chains.sql("UPDATE awaited_rearms SET dormant_since = now() - interval '14 days'").await;
    assert_eq!(changes(&chains).await, [(DormancyChange::Closed, "finished".to_owned())]);
    assert_eq!(names(&chains.settings).await, [""; 0]);
}

#[tokio::test]
async fn dismissed_job_is_dormant_again_only_after_another_delivery() {
    let chains = Chains::new().await;
    chains.hourly("job", 3).await;
    let dismiss = ["jobs", "dismiss", "inst-1", "job"];
    let (status, _, error) = chains.settings.run(&dismiss).await;
    assert!(!status.success() && error.contains("job job of agent inst-1 is not dormant"), "{error}");
    chains.round().await;
    assert_eq!(json(&chains.settings, &dismiss).await, json!({"dismissed": true}));
    chains.next_round().await;
    assert_eq!(names(&chains.settings).await, [""; 0]);
    // The same history, one fire later.
    chains.sql("DELETE FROM one_shots; DELETE FROM fires").await;
    chains.hourly("job", 2).await;
    chains.round().await;
    assert_eq!(names(&chains.settings).await, ["job"]);
}

#[tokio::test]
async fn dormant_jobs_are_checked_page_by_page() {
    let chains = Chains::new().await;
    for job in 0..5 {
        chains.hourly(&format!("job-{job}"), 3).await;
    }
    chains.round().await;
    assert_eq!(names(&chains.settings).await.len(), 5);
    // Armed again, and delivered again.
    chains.sql("UPDATE one_shots SET schedule_id = gen_random_uuid()").await;
    assert_eq!(names(&chains.settings).await, [""; 0]);
    let (mut cursor, mut pages) = (None, Vec::new());
    loop {
        let (next, found) = rearms::check_dormant(&chains.db, cursor.as_ref(), 2).await.unwrap();
        pages.push(found.len());
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
}
