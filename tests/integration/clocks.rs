//! A replica with a wrong clock uses the database's clock, and reports the offset.

use nas_cron_testing::jwt::verify;
use nas_cron_testing::time::{fire_at, now};
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

const JOBS: usize = 5;

/// Checks a token's validity without leeway at the time of its arrival, as a strict agent does.
fn strictly_valid(claims: &Value, arrived: i64) -> bool {
    let [iat, nbf, exp] = ["iat", "nbf", "exp"].map(|name| claims[name].as_i64().expect("whole seconds"));
    iat <= arrived && nbf <= arrived && arrived < exp
}

async fn works_with_a_clock_that_is_off_by(seconds: i32) {
    let world = World::with(|settings| settings.with_clock_ahead_by(seconds)).await;

    // Portal tokens are verified by the database's clock.
    let expires_in = |seconds: i64| {
        let exp = now().timestamp() + seconds;
        let claims = json!({"client_id": "hermes-cli-vps", "org_id": "org-1", "sid": "sid-1", "iat": exp - 900, "exp": exp});
        world.portal.sign(claims)
    };
    let at = fire_at(2_000);
    let arm = async |token: &str, job: &str| {
        world.service.try_provision(token, job, &at, &world.callback()).await.0
    };
    // Outside the leeway of 30 s by either clock.
    assert_eq!(arm(&expires_in(45), "job-0").await, 200, "a valid token");
    assert_eq!(arm(&expires_in(-45), "other").await, 401, "an expired token");
    let issued_now = world.portal.session_token("org-1", "sid-1");
    for job in 1..JOBS {
        assert_eq!(arm(&issued_now, &format!("job-{job}")).await, 200, "a token issued just now");
    }

    // Fire tokens are minted by the database's clock.
    let jwks = world.service.get("/.well-known/jwks.json").await.1;
    for job in 0..JOBS {
        let fire = world.agents.wait_for(&format!("job-{job}"), 1).await;
        let (_, claims) = verify(&fire.token, &jwks);
        assert!(strictly_valid(&claims, fire.arrived.timestamp()), "{claims} at {}", fire.arrived);
    }

    // The offset is reported once and has no further effect.
    let (status, body) = world.service.get("/readyz").await;
    assert_eq!((status, &body["status"]), (200, &json!("ok")));
    assert!(body["checks"]["clock"].as_str().is_some_and(|found| found.contains("more than 5 s")), "{body}");
    let warnings = || {
        let log = world.service.log();
        log.lines().filter(|line| line.contains("local clock differs")).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("the offset is in the log", async || (!warnings().is_empty()).then_some(())).await;
    let logged: Value = serde_json::from_str(&warnings()[0]).expect("JSON");
    let offset = logged["fields"]["offset_s"].as_f64().or(logged["offset_s"].as_f64()).expect("an offset");
    assert!((offset + f64::from(seconds)).abs() < 5.0, "{offset} at a clock that is {seconds} s ahead");

    let (_, report, _) = world.settings.run(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let clock = checks.iter().find(|check| check["check"] == "database clock").expect("it is checked");
    assert_eq!(clock["status"], "warning", "{clock}");
    assert_eq!(warnings().len(), 1, "{:#?}", warnings());
}

#[tokio::test]
async fn replica_with_a_clock_90_s_fast_uses_the_databases_clock() {
    works_with_a_clock_that_is_off_by(90).await;
}

#[tokio::test]
async fn replica_with_a_clock_90_s_slow_uses_the_databases_clock() {
    works_with_a_clock_that_is_off_by(-90).await;
}
