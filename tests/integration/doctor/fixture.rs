//! What the tests share: a deployment, and what the doctor says of it.

use std::time::{Duration, Instant};

use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Settings;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

/// Nobody listens there.
pub const NOBODY: &str = "127.0.0.1:1";

/// The doctor's report.
#[derive(Debug)]
pub struct Report {
    pub code: Option<i32>,
    pub json: Value,
}

impl Report {
    /// One check's status, finding and mend.
    pub fn line(&self, check: &str) -> (&str, &str, &str) {
        let lines = self.json["checks"].as_array().unwrap();
        let line = lines.iter().find(|line| line["check"] == check).expect(check);
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        (text("status"), text("found"), text("mend"))
    }

    /// Everything that is not ok, or not there to be looked at.
    pub fn complaints(&self) -> Vec<&str> {
        let lines = self.json["checks"].as_array().unwrap().iter();
        let complaining = lines.filter(|line| line["status"] == "warning" || line["status"] == "wrong");
        complaining.map(|line| line["check"].as_str().unwrap()).collect()
    }
}

async fn examined_once(settings: &Settings) -> Report {
    let (status, out, error) = settings.run(&["doctor", "--json"]).await;
    assert_eq!(error, "", "it says everything in its report");
    Report { code: status.code(), json: serde_json::from_str(&out).expect(&out) }
}

/// The report once it is like this. On a machine that is slow enough a check has no answer in time; then the doctor
/// is asked again.
pub async fn examined(settings: &Settings, like: impl Fn(&Report) -> bool) -> Report {
    let begun = Instant::now();
    loop {
        let report = examined_once(settings).await;
        assert_eq!(report.json["well"], json!(report.code == Some(0)), "{report:#?}");
        if like(&report) {
            return report;
        }
        assert!(begun.elapsed() < Duration::from_mins(5), "it never says so: {report:#?}");
    }
}

/// Waits until a check has this status, says this, and mends by that. The exit code is 1 where it is wrong.
pub async fn says(settings: &Settings, check: &str, status: &str, found: &str, mend: &str) -> Report {
    let report = examined(settings, |report| {
        let line = report.line(check);
        line.0 == status && line.1.contains(found) && line.2.contains(mend)
    })
    .await;
    if status == "wrong" {
        assert_eq!(report.code, Some(1), "{report:#?}");
    }
    report
}

/// A database with the schema and a portal, and no service.
pub async fn bare() -> (Settings, Portal, String) {
    let (_, url) = database().await;
    let portal = Portal::start().await;
    (Settings::new(&url, &portal), portal, url)
}

/// A running service, and the settings of a doctor who finds its JWKS.
pub async fn served(change: impl FnOnce(Settings) -> Settings) -> (World, Settings) {
    let world = World::with(change).await;
    let jwks = format!("{}/api/agent-cron/jwks.json", world.service.url);
    let settings = world.settings.clone().with("NAS_CRON_AGENTS_JWKS_URL", jwks);
    (world, settings)
}
