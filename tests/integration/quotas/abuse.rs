//! Callers that abuse the service, beside healthy agents: a short form of `make abuse`.

use std::time::Duration;

use nas_cron_testing::abuse::{Abuse, Plan, Scale, run};

/// Memory that the service may have, in MB, whatever the callers do.
const MEMORY_MB: u64 = 400;

#[tokio::test]
async fn abuse_fails_no_provision_and_loses_no_fire_of_a_healthy_agent() {
    let report = run(Plan {
        binary: None,
        kinds: Abuse::ALL.to_vec(),
        scale: Scale { connections: 400, callers: 8, past: 400, redrives: 1_000 },
        phase: Duration::from_secs(2),
        rate: 20,
        progress: |_| {},
    })
    .await;
    let table = report.markdown();
    assert_eq!(report.violations(false), Vec::<String>::new(), "{table}");
    for phase in &report.phases {
        let kind = Abuse::ALL.into_iter().find(|kind| kind.name() == phase.name);
        // Each answer is documented, whatever its number.
        let documented: &[&str] = match kind {
            None => &[],
            Some(Abuse::UnknownKeys) => &["401", "503"],
            Some(Abuse::SlowConnections) => &["connected", "closed"],
            Some(Abuse::Bombs) => &["413", "431", "closed"],
            Some(Abuse::Loop) => &["200", "429"],
            Some(Abuse::PastOneShots) => &["200", "429", "all fired"],
            Some(Abuse::Redrives) => &["200"],
        };
        let answers = phase.answers.split(", ").filter_map(|answer| answer.split(": ").next());
        for answer in answers.filter(|answer| !answer.is_empty()) {
            assert!(documented.contains(&answer), "{}: {answer}\n{table}", phase.name);
        }
        assert!(phase.resident_mb < MEMORY_MB, "{}\n{table}", phase.name);
    }
}
