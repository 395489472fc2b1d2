//! Faults of an external backend: the agent API is not affected, and afterwards all orders are carried out.

use std::time::{Duration, Instant};

use nas_cron_testing::qstash_emulator::faults::ApiFault;
use nas_cron_testing::time::lateness_ms;
use nas_cron_testing::world::eventually;

use super::caller::{Caller, FAR, PATIENCE};

/// Arms a job, and asserts that the provision does not wait for the backend.
async fn arm_quickly(caller: &Caller, job: &str, millis: i64) -> (String, String) {
    let asked = Instant::now();
    let armed = caller.world.arm(job, millis).await;
    assert!(asked.elapsed() < Duration::from_mins(1), "{:?}", asked.elapsed());
    armed
}

/// Waits until all orders are carried out, and the backend holds this many wake-ups.
async fn all_told(caller: &Caller, pending: usize) {
    let start = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM wake_ups WHERE state <> 'armed'")
            .fetch_one(&caller.world.pool)
            .await
            .unwrap();
        if left == 0 && caller.emulator.pending().len() == pending {
            return;
        }
        let held = caller.emulator.pending().len();
        assert!(start.elapsed() < PATIENCE, "{left} rows left, {held} wake-ups held instead of {pending}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Arms and cancels during a fault, and asserts that its calls are counted with `result`. Ends the fault, and asserts
/// that the orders are carried out.
async fn survives(fault: ApiFault, result: &'static str) {
    survives_with(fault, [("arm", result), ("cancel", result)], 5).await;
}

/// The same with separate results for arms and cancels, and the number of wake-ups held at the end.
async fn survives_with(fault: ApiFault, results: [(&str, &str); 2], held: usize) {
    let caller = Caller::with(|s| s.with("NAS_CRON_ENGINE_TIMEOUT", "1s")).await;
    arm_quickly(&caller, "taken-back", FAR).await;
    all_told(&caller, 1).await;
    caller.emulator.misbehave(fault, None);
    for number in 0..5 {
        arm_quickly(&caller, &format!("job-{number}"), FAR + number).await;
    }
    caller.world.service.cancel(&caller.world.token, "taken-back").await;
    for (call, result) in results {
        let labels =
            [format!("call=\"{call}\""), format!("result=\"{result}\""), r#"backend="qstash""#.to_owned()];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        eventually(&format!("{call}: {result}"), async || {
            (caller.counted("nas_cron_backend_calls_total", &labels).await >= 1).then_some(())
        })
        .await;
    }
    let warned = eventually("a warning is logged", async || {
        let lines = caller.lines("WARN");
        Some(lines.iter().filter(|line| line["backend"] == "qstash").count()).filter(|count| *count > 0)
    })
    .await;
    assert!(warned <= 4, "logged at the start of the fault, not for every call: {warned}");
    caller.emulator.behave();
    // It delivers nothing, so that its wake-ups can be counted.
    caller.emulator.misdeliver(nas_cron_testing::qstash_emulator::faults::DeliveryFault::Never);
    all_told(&caller, held).await;
    let errors: i64 =
        sqlx::query_scalar("SELECT count(*) FROM wake_ups WHERE last_error IS NOT NULL OR tries > 0")
            .fetch_one(&caller.world.pool)
            .await
            .unwrap();
    assert_eq!(errors, 0, "no error or try is left");
    caller.says_no_secret();
    assert_eq!(caller.world.service.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn malformed_answers_of_qstash_delay_only_its_own_orders() {
    // The body of a response to a cancel is not read. So a cancel seems to succeed, but the message stays, and its
    // wake-up will find nothing.
    survives_with(ApiFault::Garbage, [("arm", "garbage"), ("cancel", "ok")], 6).await;
}

#[tokio::test]
async fn unexpected_json_of_qstash_delays_only_its_own_orders() {
    let caller = Caller::with(|s| s.with("NAS_CRON_ENGINE_TIMEOUT", "1s")).await;
    caller.emulator.misbehave(ApiFault::WrongShape, None);
    arm_quickly(&caller, "job", FAR).await;
    eventually("garbage", async || {
        (caller.counted("nas_cron_backend_calls_total", &["result=\"garbage\""]).await >= 1).then_some(())
    })
    .await;
    caller.emulator.behave();
    caller.emulator.misdeliver(nas_cron_testing::qstash_emulator::faults::DeliveryFault::Never);
    all_told(&caller, 1).await;
}

#[tokio::test]
async fn a_rate_limit_of_qstash_delays_only_its_own_orders() {
    survives(ApiFault::TooMany(2), "rate_limited").await;
}

#[tokio::test]
async fn a_burst_limit_of_qstash_delays_only_its_own_orders() {
    survives(ApiFault::Burst(2), "rate_limited").await;
}

#[tokio::test]
async fn a_hanging_qstash_delays_only_its_own_orders() {
    survives(ApiFault::Hang, "timed_out").await;
}

#[tokio::test]
async fn slowly_dripping_answers_of_qstash_delay_only_its_own_orders() {
    survives(ApiFault::Drip, "timed_out").await;
}

#[tokio::test]
async fn endless_answers_of_qstash_delay_only_its_own_orders() {
    survives(ApiFault::Endless, "garbage").await;
}

#[tokio::test]
async fn closed_connections_of_qstash_delay_only_its_own_orders() {
    survives(ApiFault::Close, "unreachable").await;
}

#[tokio::test]
async fn errors_of_qstash_delay_only_its_own_orders() {
    survives(ApiFault::Status(500), "unreachable").await;
}

#[tokio::test]
async fn a_token_refused_by_qstash_delays_only_its_own_orders() {
    survives(ApiFault::Status(401), "refused").await;
}

/// The call took effect, but its response is lost: a repeated call makes no second message.
#[tokio::test]
async fn lost_answers_of_qstash_make_no_duplicate_messages() {
    let caller = Caller::with(|s| s.with("NAS_CRON_ENGINE_TIMEOUT", "1s")).await;
    caller.emulator.misbehave(ApiFault::LoseAnswer, Some(8));
    for number in 0..5 {
        arm_quickly(&caller, &format!("job-{number}"), FAR + number).await;
    }
    all_told(&caller, 5).await;
    caller.world.service.cancel(&caller.world.token, "job-0").await;
    all_told(&caller, 4).await;
}

/// However long QStash hangs, fires, provisions and the watchdog do not wait for it.
#[tokio::test]
async fn provisions_fires_and_the_watchdog_do_not_wait_for_a_hanging_qstash() {
    let caller =
        Caller::with(|s| s.with("NAS_CRON_ENGINE_TIMEOUT", "60s").with("NAS_CRON_WATCHDOG_GRACE", "1s"))
            .await;
    caller.emulator.misbehave(ApiFault::Hang, None);
    let mut armed = Vec::new();
    for number in 0..20 {
        armed.push((
            format!("job-{number}"),
            arm_quickly(&caller, &format!("job-{number}"), 7_000 + number * 20).await,
        ));
    }
    let near = arm_quickly(&caller, "near", 500).await;
    let fire = caller.world.agents.wait_for("near", 1).await;
    let late = lateness_ms(&near.0, fire.arrived);
    assert!((0.0..50_000.0).contains(&late), "{late} ms");
    for (job, (at, _)) in &armed {
        let fire = caller.world.agents.wait_for(job, 1).await;
        let late = lateness_ms(at, fire.arrived);
        assert!((1_000.0..50_000.0).contains(&late), "{job}: {late} ms");
    }
    caller.world.all_delivered().await;
    assert_eq!(caller.world.agents.fires().len(), 21);
    assert_eq!(caller.counted("nas_cron_backend_misses_total", &[r#"backend="qstash""#]).await, 20);
    // The hanging connections break, and QStash works again.
    caller.emulator.behave();
    caller.emulator.go_down().await;
    caller.emulator.come_up().await;
    eventually("the outbox is empty", async || {
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM wake_ups").fetch_one(&caller.world.pool).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
}
