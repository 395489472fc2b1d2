//! A job from the agent's provision to the agent's response.

use nas_cron_testing::agent::{Fire, Reply};
use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::service::{Service, Settings, client};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::collector::{Collector, Link, Span};

const AGENTS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const AGENTS_SPAN: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("00-{AGENTS_TRACE}-{AGENTS_SPAN}-{flags}")
}

/// A world whose service exports its traces.
struct Traced {
    world: World,
    collector: Collector,
}

impl Traced {
    async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let collector = Collector::start().await;
        let endpoint = collector.endpoint("accept");
        let world = World::with(|settings| change(settings.with("NAS_CRON_OTLP_ENDPOINT", endpoint))).await;
        Self { world, collector }
    }

    /// Records only what a caller's `traceparent` asks for.
    async fn on_request() -> Self {
        Self::with(|settings| settings.with("NAS_CRON_TRACES_SAMPLE_RATIO", "0")).await
    }

    /// Arms a job that is due in `millis`, with this key and these headers. Returns its schedule id.
    async fn provision(&self, job: &str, millis: i64, key: &str, headers: &[(&str, String)]) -> String {
        let body = json!({
            "job_id": job, "fire_at": fire_at(millis), "agent_callback_url": self.world.callback(), "dedup_key": key,
        });
        let url = format!("{}/api/agent-cron/provision", self.world.service.url);
        let request = client().post(url).bearer_auth(&self.world.token).json(&body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["schedule_id"].as_str().expect("a schedule id").to_owned()
    }

    /// Arms a job that is due now. Returns its schedule id.
    async fn arm(&self, job: &str, headers: &[(&str, String)]) -> String {
        self.provision(job, 0, job, headers).await
    }

    /// Waits for the span of a provision.
    async fn provisioned(&self, schedule_id: &str) -> Span {
        self.collector.span("POST /api/agent-cron/provision", ("schedule.id", schedule_id)).await
    }
}

fn header<'a>(fire: &'a Fire, name: &str) -> &'a str {
    fire.headers[name].to_str().unwrap()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// Returns the kind, trace and span of each link.
fn links(span: &Span) -> Vec<(Value, String, String)> {
    let link =
        |link: &Link| (link.attributes["nas_cron.link"].clone(), link.trace_id.clone(), link.span_id.clone());
    span.links.iter().map(link).collect()
}

/// Returns the lines of the log with this trace.
fn logged(service: &Service, trace_id: &str) -> Vec<Value> {
    let log = service.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_of = |line: &Value| {
        line["trace.id"] == trace_id
            || line["spans"]
                .as_array()
                .is_some_and(|spans| spans.iter().any(|span| span["trace.id"] == trace_id))
    };
    lines.filter(is_of).collect()
}

#[tokio::test]
async fn job_is_followed_from_the_provision_over_a_retry_to_the_response() {
    let traced = Traced::with(|settings| settings.with("NAS_CRON_OTLP_HEADERS", "x-tenant=a%20b")).await;
    let Traced { world, collector } = &traced;
    world.agents.answer(|_, earlier| if earlier == 0 { Reply::busy("1") } else { Reply::accepted() });
    let headers = [("traceparent", traceparent("01")), ("x-request-id", "request-7".to_owned())];
    let schedule_id = traced.arm("job", &headers).await;
    let [first, second] = [world.agents.wait_for("job", 1).await, world.agents.wait_for("job", 2).await];

    // The provision continues the agent's trace.
    let provision = traced.provisioned(&schedule_id).await;
    assert_eq!((provision.trace_id.as_str(), provision.parent.as_str()), (AGENTS_TRACE, AGENTS_SPAN));
    assert_eq!((provision.kind.as_str(), provision.failed), ("server", false));
    assert_eq!(provision.attributes["http.response.status_code"], 200);
    assert_eq!(provision.attributes["request.id"], "request-7");
    assert_eq!(names(&collector.below(&provision)), ["authenticate", "arm"]);
    assert_eq!(logged(&world.service, AGENTS_TRACE).len(), 1);

    // Each attempt is a trace of its own, which links to the provision, and to the attempt that it repeats.
    let attempts = world.ended("job", 2).await;
    let mut fires = Vec::new();
    for (attempt, fire) in attempts.iter().zip([&first, &second]) {
        let span = collector.span("fire", ("fire.attempt_id", attempt.id.as_str())).await;
        assert_eq!(span.trace_id, attempt.id.replace('-', ""));
        assert_eq!(header(fire, "x-request-id"), attempt.id);
        let steps = collector.below(&span);
        assert_eq!(names(&steps), ["claim", "wait", "confirm", "token", "POST", "record"]);
        for (earlier, later) in steps.iter().zip(&steps[1..]) {
            assert!(earlier.end <= later.start, "{earlier:?} overlaps {later:?}");
        }
        assert!(span.start <= steps[0].start && steps[5].end <= span.end, "{span:?}");
        assert_eq!(span.events[0].name, "due");
        assert!(span.events[0].time <= steps[2].end, "no attempt starts before it is due");
        // The agent's own span belongs below the request.
        assert_eq!(header(fire, "traceparent"), steps[4].header());
        assert_eq!(
            (steps[4].kind.as_str(), &steps[4].attributes["server.address"]),
            ("client", &json!("127.0.0.1"))
        );
        assert!(!logged(&world.service, &span.trace_id).is_empty());
        fires.push(span);
    }
    let to_provision = (json!("provision"), AGENTS_TRACE.to_owned(), provision.id.clone());
    let to_first = (json!("retries"), fires[0].trace_id.clone(), fires[0].id.clone());
    assert_eq!(links(&fires[0]), std::slice::from_ref(&to_provision));
    assert_eq!(links(&fires[1]), [to_provision, to_first]);
    let outcomes = fires.iter().map(|span| (span.attributes["fire.outcome"].clone(), span.failed));
    assert_eq!(outcomes.collect::<Vec<_>>(), [(json!("failed"), true), (json!("delivered"), false)]);

    let export = &collector.exports()[0];
    assert_eq!(
        (&export.resource["service.name"], &export.headers["x-tenant"]),
        (&json!("nas-cron"), &json!("a b"))
    );
    let secrets = collector.exports().iter().any(|export| format!("{export:?}").contains(&first.token));
    assert!(!secrets, "no token is exported");
}

#[tokio::test]
async fn wake_up_of_an_external_backend_is_the_first_step_of_its_fire() {
    let nats = NatsServers::one().await;
    let traced = Traced::with(|settings| {
        settings
            .with("NAS_CRON_BACKEND", "nats")
            .with("NAS_CRON_NATS_URLS", nats.urls().join(","))
            // The built-in loop does not take over.
            .with("NAS_CRON_WATCHDOG_GRACE", "1h")
    })
    .await;
    let Traced { world, collector } = &traced;
    let schedule_id = traced.provision("job", 4_000, "job", &[]).await;
    let fire = world.agents.wait_for("job", 1).await;
    let span = collector.span("fire", ("job.id", "job")).await;
    let steps = collector.below(&span);
    assert_eq!(names(&steps), ["wake-up", "claim", "wait", "confirm", "token", "POST", "record"]);
    assert_eq!(span.start, steps[0].start, "the fire begins with its wake-up");
    let provision = traced.provisioned(&schedule_id).await;
    assert_eq!(links(&span), [(json!("provision"), provision.trace_id, provision.id)]);
    assert_eq!(header(&fire, "traceparent"), steps[5].header());
}

#[tokio::test]
async fn unsampled_requests_and_fires_are_neither_exported_nor_stored() {
    let traced = Traced::on_request().await;
    let Traced { world, collector } = &traced;
    traced.arm("by-chance", &[]).await;
    traced.arm("by-the-caller", &[("traceparent", traceparent("00"))]).await;
    traced.arm("invalid", &[("traceparent", "00-garbage-01".to_owned())]).await;
    let stored = "SELECT count(*) FROM one_shots WHERE provision_trace IS NOT NULL";
    let stored: i64 = sqlx::query_scalar(stored).fetch_one(&world.pool).await.unwrap();
    for job in ["by-chance", "by-the-caller", "invalid"] {
        let fire = world.agents.wait_for(job, 1).await;
        let id = header(&fire, "x-request-id").to_owned();
        assert!(header(&fire, "traceparent").starts_with(&format!("00-{}-", id.replace('-', ""))));
        assert!(header(&fire, "traceparent").ends_with("-00"), "not recorded");
    }
    // The caller's trace is in the log in any case.
    assert_eq!(logged(&world.service, AGENTS_TRACE).len(), 1);
    // A recorded one comes after them, and with all of its attempts.
    traced.arm("recorded", &[("traceparent", traceparent("01"))]).await;
    collector.span("fire", ("job.id", "recorded")).await;
    let others = collector
        .spans()
        .into_iter()
        .filter(|span| span.attributes.get("job.id").is_some_and(|job| job != "recorded"));
    assert_eq!((stored, others.count()), (0, 0));
}

#[tokio::test]
async fn one_shot_has_the_trace_of_the_provision_that_armed_it() {
    let traced = Traced::on_request().await;
    let provision = async |key: &str, trace: Option<u128>| {
        let traceparent = trace.map(|trace| ("traceparent", format!("00-{trace:032x}-{AGENTS_SPAN}-01")));
        traced.provision("job", 3_600_000, key, traceparent.as_slice()).await;
        let stored = "SELECT encode(substring(provision_trace FOR 16), 'hex') FROM one_shots";
        sqlx::query_scalar::<_, Option<String>>(stored).fetch_one(&traced.world.pool).await.unwrap()
    };
    let trace = |trace: u128| Some(format!("{trace:032x}"));
    assert_eq!(provision("a", Some(1)).await, trace(1), "of a new job");
    assert_eq!(provision("a", Some(2)).await, trace(1), "the same key arms nothing");
    assert_eq!(provision("b", Some(3)).await, trace(3), "superseded");
    assert_eq!(provision("c", None).await, None, "superseded by a provision that is not recorded");
}
