//! The two 429s of the agent API, byte by byte (docs/contract.md#quotas, docs/contract.md#pace-of-calls).

use std::time::Duration;

use nas_cron_testing::time::{PATIENCE, fire_at};
use nas_cron_testing::world::World;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{arm, arms_eventually, world};

/// Calls at once: fewer than the service serves at once with so many descriptors, and more than may wait for their turns.
const CALLS: usize = 1_300;
const DESCRIPTORS: u64 = 4_096;
/// A machine that reads fewer than 1,700 calls a second does not exceed the pace of an agent.
const ROUNDS: usize = 5;

/// A provision on a connection of its own.
struct Call {
    connection: TcpStream,
    last_byte: u8,
}

/// A response: its head in lower case, and its body.
struct Answer {
    head: String,
    body: Value,
}

impl Call {
    /// Sends everything but the last byte, so that the service authenticates the caller and waits.
    async fn begin(world: &World, job: &str, fire_at: &str) -> Self {
        let body = json!({
            "job_id": job, "fire_at": fire_at, "agent_callback_url": world.callback(), "dedup_key": format!("{job}:{fire_at}"),
        })
        .to_string();
        let request = format!(
            "POST /api/agent-cron/provision HTTP/1.1\r\nHost: nas\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            world.token,
            body.len()
        );
        let address = world.service.url.trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).await.expect("a connection");
        let (last_byte, first) = request.as_bytes().split_last().expect("a request");
        connection.write_all(first).await.expect("the service reads");
        Self { connection, last_byte: *last_byte }
    }

    async fn end(&mut self) {
        self.connection.write_all(&[self.last_byte]).await.expect("the service reads");
    }

    async fn answer(self) -> Answer {
        timeout(PATIENCE, Answer::read(self.connection)).await.expect("a response in time")
    }
}

impl Answer {
    async fn read(connection: TcpStream) -> Self {
        let mut connection = BufReader::new(connection);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.expect("a whole head"));
        }
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        let mut answer = Self { head, body: Value::Null };
        let length = answer.header("content-length").expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await.expect("a whole body");
        answer.body = serde_json::from_slice(&body).expect("JSON");
        answer
    }

    fn status_line(&self) -> &str {
        self.head.lines().next().expect("a line")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Checks what both 429s share.
    fn is_too_many(&self) {
        assert_eq!(self.status_line(), "http/1.1 429 too many requests", "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(self.header("x-request-id").is_some(), "{}", self.head);
    }
}

/// Provisions a job.
async fn ask(world: &World, job: &str, fire_at: &str) -> Answer {
    let mut call = Call::begin(world, job, fire_at).await;
    call.end().await;
    call.answer().await
}

#[tokio::test]
async fn new_job_at_a_quota_is_429_with_the_numbers_and_known_jobs_are_200() {
    for (scope, word, instance, org) in [("instance", "agent", 2, 100), ("org", "org", 100, 2)] {
        let world = world(instance, org).await;
        let (first_at, _) = world.arm("delivered", 0).await;
        world.agents.wait_for("delivered", 1).await;
        world.delivered("delivered").await;
        for job in ["armed", "another"] {
            arms_eventually(&world, &world.token, job).await;
        }
        let at = fire_at(3_600_000);
        let refused = ask(&world, "new", &at).await;
        refused.is_too_many();
        assert_eq!(refused.header("retry-after"), None, "only the end of a job or a higher quota helps");
        let description = format!(
            "2 jobs of this {word} are armed, and its quota is 2: cancel a job that is not needed, or ask the operator for a \
             higher quota"
        );
        assert_eq!(
            refused.body,
            json!({
                "error": "quota_exceeded", "error_description": description, "scope": scope, "quota": 2, "armed": 2,
            })
        );
        // A new key of an armed job and of a delivered one, and the key that was delivered.
        for (job, at) in [("armed", &at), ("delivered", &first_at), ("delivered", &at)] {
            let answer = ask(&world, job, at).await;
            assert_eq!(answer.status_line(), "http/1.1 200 ok", "{scope}, {job} at {at}: {}", answer.body);
            assert!(answer.body["schedule_id"].is_string(), "{}", answer.body);
        }
        ask(&world, "new", &at).await.is_too_many();
    }
}

#[tokio::test]
async fn call_beyond_the_pace_is_429_with_the_time_after_which_it_passes() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let world = World::with(|settings| settings.with_descriptors(DESCRIPTORS, DESCRIPTORS)).await;
    // From now on the agent is remembered: its calls come to their turns without the database.
    assert_eq!(arm(&world, &world.token, "first").await.0, 200);
    let at = fire_at(3_600_000);
    let mut refused = Vec::new();
    for _ in 0..ROUNDS {
        let mut calls = Vec::new();
        for number in 0..CALLS {
            calls.push(Call::begin(&world, &format!("job-{number}"), &at).await);
        }
        // Those that have had their turn wait for the table, and leave the processors to the others.
        let mut lock = world.pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE one_shots IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        for call in &mut calls {
            call.end().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        lock.rollback().await.unwrap();
        for call in calls {
            let answer = call.answer().await;
            // The others are delayed, and lose nothing.
            if answer.status_line() != "http/1.1 200 ok" {
                answer.is_too_many();
                refused.push(answer);
            }
        }
        if !refused.is_empty() {
            break;
        }
    }
    let answer = refused.first().expect("more calls than may wait for their turns");
    assert_eq!(
        answer.body,
        json!({
            "error": "too_many_requests",
            "error_description": "too many calls of this agent: they wait for their turn, and this one would wait too long; \
                                  retry later",
        })
    );
    let seconds = answer.header("retry-after").expect("a time").parse().expect("whole seconds");
    assert!((1..=10).contains(&seconds), "{seconds}");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(ask(&world, "late", &at).await.status_line(), "http/1.1 200 ok");
    let page = world.service.metrics().await;
    let count = refused.len();
    assert!(
        page.contains(&format!("\nnas_cron_paced_calls_total{{result=\"refused\"}} {count}\n")),
        "{page}"
    );
}
