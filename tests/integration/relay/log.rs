//! Log lines of relay requests, and of the attempts that they cause.

use nas_cron_testing::agent::Reply;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::caller::Caller;

/// Returns the field of the request that a line belongs to.
fn of_request<'a>(line: &'a Value, field: &str) -> Option<&'a str> {
    let spans = line["spans"].as_array()?;
    spans.iter().find(|span| span["name"] == "request").and_then(|span| span[field].as_str())
}

/// Waits until a line with this message and request id is in the log.
async fn line(caller: &Caller, message: &str, request_id: Option<&str>) -> Value {
    eventually(&format!("{message} of {request_id:?}"), async || {
        let lines = ["INFO", "WARN"].into_iter().flat_map(|level| caller.lines(level));
        lines
            .into_iter()
            .find(|line| line["message"] == message && of_request(line, "request.id") == request_id)
    })
    .await
}

#[tokio::test]
async fn attempt_of_a_relay_request_is_logged_with_the_request_id() {
    let caller = Caller::with(|settings| settings.with("NAS_CRON_RETRY_DEFINITE_BASE", "1s")).await;
    caller.world.agents.answer(|_, before| Reply::status(if before == 0 { 500 } else { 202 }));
    let wake_up = caller.due("job", 0.0).await;
    let signature = caller.signed(&wake_up);
    let headers = [("upstash-signature", signature.as_str()), ("x-request-id", "wake-7")];
    assert_eq!(caller.send(&wake_up, &headers).await.status, 502);

    let history = caller.world.ended("job", 1).await;
    let attempt = line(&caller, "delivery attempt failed", Some("wake-7")).await;
    assert_eq!(attempt["fire.attempt_id"], history[0].id, "{attempt}");
    let request = line(&caller, "request completed with a server error", Some("wake-7")).await;
    for one in [&attempt, &request] {
        let named =
            ["agent.id", "job.id", "schedule.id"].map(|field| of_request(one, field).map(str::to_owned));
        assert_eq!(json!(named), json!(["inst-1", "job", history[0].schedule_id]), "{one}");
    }
    // The retry is the service's own.
    caller.world.ended("job", 2).await;
    let retry = line(&caller, "fire delivered", None).await;
    assert_eq!((&retry["job.id"], &retry["fire.attempt"]), (&json!("job"), &json!(2)), "{retry}");
}
