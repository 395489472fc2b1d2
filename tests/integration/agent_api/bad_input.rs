//! Invalid input: 400 (or 413), never 422 or 5xx. The error names the field, and nothing is stored.

use nas_cron_testing::corpora::{json_oddities, times};
use nas_cron_testing::time::fire_at;
use serde_json::{Value, json};

use super::fixture::{CANCEL, PROVISION, World, until};

/// A world with two armed jobs, and the contents of its tables.
async fn with_armed_jobs() -> (World, Value) {
    let world = World::start().await;
    world.arm("job-0", 3_600_000).await;
    world.arm("job-1", 7_200_000).await;
    // A call is recorded after its response.
    until("the call is recorded", async || {
        world.tables().await["instances"][0]["pulled_at"].as_str().map(drop)
    })
    .await;
    let before = world.tables().await;
    (world, before)
}

async fn assert_refused(world: &World, path: &str, body: impl Into<Vec<u8>>, begins: &str) {
    let body = body.into();
    let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    let answer = world.call("POST", path, Some(&world.token), body).await;
    assert_eq!(answer.status, 400, "{shown}: {answer:?}");
    let description = answer.refused(400, "invalid_request");
    assert!(description.starts_with(begins), "{shown}: {description:?} does not begin with {begins:?}");
    assert!(description.len() < 400 && !description.contains(['\n', '\r', '\0']), "{description:?}");
}

#[tokio::test]
async fn contract_every_rejected_field_is_named_and_nothing_is_stored() {
    let (world, before) = with_armed_jobs().await;
    let long = |count: usize| json!("x".repeat(count));
    let odd =
        [json!(null), json!(7), json!(1.5), json!(true), json!([]), json!(["x"]), json!({}), json!({"a": 1})];
    for field in ["job_id", "fire_at", "agent_callback_url", "dedup_key"] {
        let mut without = world.body(&json!({}));
        without.as_object_mut().unwrap().remove(field);
        assert_refused(&world, PROVISION, without.to_string(), &format!("{field}: is missing")).await;
        for value in
            odd.iter().chain([&json!(""), &json!("a\u{0}b"), &json!("a\nb"), &json!("\u{7f}"), &long(5_000)])
        {
            let body = world.body(&json!({field: value}));
            assert_refused(&world, PROVISION, body.to_string(), &format!("{field}: ")).await;
        }
        let twice = world.body(&json!({})).to_string().replacen('{', &format!(r#"{{"{field}":"x","#), 1);
        assert_refused(&world, PROVISION, twice, &format!("{field}: ")).await;
        let half = world.body(&json!({field: "HALF"})).to_string().replace("HALF", r"\ud800");
        assert_refused(&world, PROVISION, half, field).await;
    }
    for (field, value) in [
        ("job_id", long(256)),
        ("job_id", json!("\u{1b}[31mred")),
        ("job_id", json!("\u{85}")),
        ("dedup_key", long(513)),
        ("dedup_key", json!("\r\n")),
        ("fire_at", long(65)),
        ("agent_callback_url", json!(format!("https://agent.example/{}", "x".repeat(2_048)))),
    ] {
        let body = world.body(&json!({field: value}));
        assert_refused(&world, PROVISION, body.to_string(), &format!("{field}: ")).await;
    }
    for value in odd.iter().chain([&json!(""), &json!("a\u{0}b"), &json!("a\tb"), &long(256)]) {
        assert_refused(&world, CANCEL, json!({"job_id": value}).to_string(), "job_id: ").await;
    }
    assert_refused(&world, CANCEL, "{}", "job_id: is missing").await;
    // If several fields are invalid, the first in the contract's order is named.
    let all = json!({"dedup_key": "", "agent_callback_url": "", "fire_at": "", "job_id": ""});
    assert_refused(&world, PROVISION, all.to_string(), "job_id: ").await;
    assert_eq!(world.tables().await, before);
}

#[tokio::test]
async fn contract_times_outside_the_grammar_are_400_and_all_others_arm() {
    let (world, before) = with_armed_jobs().await;
    let (refused, accepted): (Vec<_>, Vec<_>) = times().into_iter().partition(|time| time.micros.is_none());
    for time in refused {
        for (field, begins) in [("fire_at", "fire_at: "), ("not_after", "not_after: ")] {
            let body = world.body(&json!({field: time.text}));
            assert_refused(&world, PROVISION, body.to_string(), begins).await;
        }
    }
    assert_eq!(world.tables().await, before);
    // On hold, so that those of the past are listed, too.
    world.sql("INSERT INTO holds (scope, scope_id) VALUES ('all', '')").await;
    let mut expected = Vec::new();
    for (number, time) in accepted.into_iter().enumerate() {
        let changes = json!({"job_id": format!("time-{number:03}"), "fire_at": time.text});
        world.provision(&world.token, &world.body(&changes)).await.schedule_id();
        expected.push((time.text, time.micros.unwrap()));
    }
    let stored: Vec<(String, i64)> = sqlx::query_as(
        "SELECT fire_at_text, (extract(epoch FROM fire_at) * 1000000)::bigint FROM one_shots \
         WHERE job_id LIKE 'time-%' ORDER BY job_id",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(stored, expected, "the text byte for byte, and its instant");
}

#[tokio::test]
async fn contract_bodies_that_readers_could_read_differently_are_400_and_store_nothing() {
    let (world, before) = with_armed_jobs().await;
    let good = world.body(&json!({"job_id": "job-odd", "fire_at": fire_at(3_600_000)})).to_string();
    let (refused, accepted): (Vec<_>, Vec<_>) =
        json_oddities().into_iter().partition(|oddity| oddity.refused);
    for oddity in refused {
        assert_refused(&world, PROVISION, oddity.put_into(&good), "").await;
        assert_refused(&world, CANCEL, oddity.put_into(r#"{"job_id":"job-0"}"#), "").await;
    }
    for (member, begins) in [
        (r#""Job_id":"job-0""#, "job_id: the name differs in upper and lower case"),
        (r#""FIRE_AT":"2030-01-01T00:00:00Z""#, "fire_at: "),
        (r#""dedup_\u212aey":"x""#, "dedup_key: "),
        (r#""job_id":"x""#, "job_id: must occur only once"),
        (r#""auth":["a\u0000"]"#, "auth[0]: a text has a NUL character"),
        (r#""auth":{"a":1e400}"#, "auth: a number has more digits"),
        (r#""x":1,"x":2"#, "a field occurs more than once at line 1 column 11"),
    ] {
        let body = good.replacen('{', &format!("{{{member},"), 1);
        assert_refused(&world, PROVISION, body, begins).await;
    }
    assert_eq!(world.tables().await, before);
    for oddity in accepted {
        let answer = world.call("POST", PROVISION, Some(&world.token), oddity.put_into(&good)).await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", oddity.why);
    }
}

#[tokio::test]
async fn contract_a_callback_is_an_http_url_without_credentials_or_fragment() {
    let (world, before) = with_armed_jobs().await;
    for callback in [
        "agent.example",
        "//agent.example",
        "/api/cron/fire",
        "ftp://agent.example",
        "ws://agent.example",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/plain,x",
        "mailto:agent@example",
        "unix:/run/agent.sock",
        "http+unix://%2Frun%2Fagent.sock",
        "http://",
        "https://",
        "http:///",
        "http://:80",
        "http://?",
        "https://user:pass@agent.example",
        "https://user@agent.example",
        "https://:pass@agent.example",
        "https://agent.example@evil.example",
        "https://agent.example/#fragment",
        "https://agent.example#",
        "https://agent.example/?query=1",
        "https://agent.example?",
        "https://agent.example:99999",
        "https://agent.example:port",
        "https://agent exam.ple",
        " https://agent.example",
        "https://agent.example ",
        "https://agent.example/a b",
        "https://agent.example/\t",
        "https://agent\u{0}.example",
        "https://agent.example/\r\nHost: evil",
        "http://[::1",
        "http://[g::1]/",
        "http://256.1.1.1",
        "https://%00.example",
        "https://agent%20.example",
        "https://agent<.example",
    ] {
        let body = world.body(&json!({"agent_callback_url": callback}));
        assert_refused(&world, PROVISION, body.to_string(), "agent_callback_url: ").await;
    }
    assert_eq!(world.tables().await, before);
}

#[tokio::test]
async fn contract_a_callback_host_that_readers_read_differently_is_400() {
    let (world, before) = with_armed_jobs().await;
    let corpus: Value = serde_json::from_str(include_str!("../../data/callback_hosts.json")).unwrap();
    for entry in corpus["refused"].as_array().unwrap() {
        let body = world.body(&json!({"agent_callback_url": entry["url"]}));
        assert_refused(&world, PROVISION, body.to_string(), "agent_callback_url: ").await;
    }
    assert_eq!(world.tables().await, before);
    for entry in corpus["accepted"].as_array().unwrap() {
        let body = world.body(&json!({"agent_callback_url": entry["url"]}));
        let answer = world.provision(&world.token, &body).await;
        assert_eq!(answer.status, 200, "{entry}: {answer:?}");
    }
}

#[tokio::test]
async fn contract_a_callback_that_was_stored_before_a_rule_still_fires() {
    let world = World::start().await;
    let (_, schedule) = world.arm("job-1", 3_600_000).await;
    // 0177.0.0.1 is 127.0.0.1 to this reader.
    let stored = world.callback().replace("127.0.0.1", "0177.0.0.1") + "/api/cron/fire";
    let change = "UPDATE one_shots SET callback_url = $1, fire_at = now(), next_attempt_at = now()";
    sqlx::query(change).bind(&stored).execute(&world.pool).await.unwrap();
    sqlx::query("NOTIFY nas_cron_due").execute(&world.pool).await.unwrap();
    let fire = world.agents.wait_for("job-1", 1).await;
    assert_eq!(fire.path, "/inst-1/api/cron/fire");
    let ended = until("its outcome is recorded", async || {
        let found = "SELECT schedule_id::text FROM fires WHERE outcome = 'delivered'";
        sqlx::query_scalar::<_, String>(found).fetch_optional(&world.pool).await.unwrap()
    })
    .await;
    assert_eq!(ended, schedule);
}

#[tokio::test]
async fn contract_a_body_that_is_not_a_json_object_is_400_and_one_that_is_too_long_is_413() {
    let (world, before) = with_armed_jobs().await;
    let good = world.body(&json!({})).to_string();
    let cut = &good[..good.len() - 1];
    let trailing = format!("{good}{good}");
    let marked = format!("\u{feff}{good}");
    let single_quoted = good.replace('"', "'");
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for path in [PROVISION, CANCEL] {
        for body in [
            "",
            " ",
            "{",
            "}",
            "null",
            "true",
            "1",
            "\"x\"",
            "[]",
            "[{}]",
            "NaN",
            "{}{}",
            "job_id=job-1",
            "<job/>",
            cut,
            &trailing,
            &marked,
            &single_quoted,
            &deep,
            "{\"job_id\"",
            "{\"job_id\":}",
            "{\"job_id\":\"a\nb\"}",
            "\0",
        ] {
            assert_refused(&world, path, body, "").await;
        }
        assert_refused(&world, path, &b"{\"job_id\":\"\xff\xfe\"}"[..], "").await;
        let ignored = [&b"{\"note\":\"\xff\","[..], &good.as_bytes()[1..]].concat();
        assert_refused(&world, path, ignored, "").await;
        assert_refused(
            &world,
            path,
            "{\"job_id\":\"é\"}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
            "",
        )
        .await;
        // Ignored fields must be sound, too. Their names come from the sender and are not repeated.
        for odd in [r#""\u0000""#, r#""\ud800""#, r#"{"a":1,"a":2}"#, "1e999"] {
            let body = good.replacen('{', &format!(r#"{{"note":{odd},"#), 1);
            assert_refused(&world, path, body, "").await;
        }
        for length in [64 * 1024 + 1, 1 << 20] {
            let body = world.body(&json!({"note": "x".repeat(length)})).to_string();
            let answer = world.call("POST", path, Some(&world.token), body).await;
            answer.refused(413, "invalid_request");
        }
    }
    assert_eq!(world.tables().await, before);
    // The same body is accepted if it is short enough.
    let body = world.body(&json!({"note": "x".repeat(60_000), "fire_at": fire_at(3_600_000)}));
    world.provision(&world.token, &body).await.schedule_id();
}

#[tokio::test]
async fn contract_ids_that_are_too_long_for_an_index_are_400_and_store_nothing() {
    let (world, before) = with_armed_jobs().await;
    // Random characters of four bytes each, which a database cannot compress.
    let random = |len: usize| -> String {
        (0..len).map(|_| char::from_u32(rand::random_range(0x2_0000..0x2_A000)).unwrap()).collect()
    };
    for (job, key, begins) in
        [(random(255), random(512), "job_id: "), ("job-9".to_owned(), random(512), "dedup_key: ")]
    {
        let body = world.body(&json!({"job_id": job, "dedup_key": key, "fire_at": fire_at(0)}));
        assert_refused(&world, PROVISION, body.to_string(), begins).await;
    }
    assert_eq!(world.tables().await, before);
}
