//! Fixtures of the tests: deployments, and the report of `nas-cron doctor`.

use std::time::{Duration, Instant};

use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Settings;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

/// An address where nothing listens.
pub const NOTHING_LISTENS: &str = "127.0.0.1:1";

/// A report of `nas-cron doctor`.
#[derive(Debug)]
pub struct Report {
    pub code: Option<i32>,
    pub json: Value,
}

impl Report {
    /// Returns the status, the finding and the fix of a check.
    pub fn line(&self, check: &str) -> (&str, &str, &str) {
        let lines = self.json["checks"].as_array().unwrap();
        let line = lines.iter().find(|line| line["check"] == check).expect(check);
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        (text("status"), text("found"), text("fix"))
    }

    /// Returns the checks with a warning or an error.
    pub fn complaints(&self) -> Vec<&str> {
        let lines = self.json["checks"].as_array().unwrap().iter();
        let complaining = lines.filter(|line| line["status"] == "warning" || line["status"] == "wrong");
        complaining.map(|line| line["check"].as_str().unwrap()).collect()
    }
}

async fn examined_once(settings: &Settings) -> Report {
    let (status, out, error) = settings.run(&["doctor", "--json"]).await;
    assert_eq!(error, "", "everything is in the report");
    Report { code: status.code(), json: serde_json::from_str(&out).expect(&out) }
}

/// Runs the doctor until its report matches. On a slow machine, checks may exceed their time limit.
pub async fn examined(settings: &Settings, matches: impl Fn(&Report) -> bool) -> Report {
    let begun = Instant::now();
    loop {
        let report = examined_once(settings).await;
        assert_eq!(report.json["ok"], json!(report.code == Some(0)), "{report:#?}");
        if matches(&report) {
            return report;
        }
        assert!(begun.elapsed() < Duration::from_mins(5), "no report matches: {report:#?}");
    }
}

/// Waits until a check has this status, and its finding and fix contain these texts. Requires exit code 1 for `wrong`.
pub async fn reports(settings: &Settings, check: &str, status: &str, found: &str, fix: &str) -> Report {
    let report = examined(settings, |report| {
        let line = report.line(check);
        line.0 == status && line.1.contains(found) && line.2.contains(fix)
    })
    .await;
    if status == "wrong" {
        assert_eq!(report.code, Some(1), "{report:#?}");
    }
    report
}

/// A migrated database and a portal, without a service.
pub async fn bare() -> (Settings, Portal, String) {
    let (_, url) = database().await;
    let portal = Portal::start().await;
    (Settings::new(&url, &portal), portal, url)
}

/// A running service, and settings with the URL of its JWKS.
pub async fn served(change: impl FnOnce(Settings) -> Settings) -> (World, Settings) {
    let world = World::with(change).await;
    let jwks = format!("{}/api/agent-cron/jwks.json", world.service.url);
    let settings = world.settings.clone().with("NAS_CRON_AGENTS_JWKS_URL", jwks);
    (world, settings)
}
