//! Keys, signatures and sealed boxes, checked against an independent implementation. `make agent-tools` installs it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use nas_cron::identity::PublicKey;
use nas_cron::identity::assertion::{Assertion, TaskRegistration};
use nas_cron_protocol::AgentRuntimeId;
use nas_cron_testing::time::now;
use nas_cron_testing::world::World;
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::fixture::{Identity, Key, call, envelope, list, on, register_task, registered, stamp, stamp_in};

/// Timeout of the script; long enough for a slow machine.
const DEADLINE: Duration = Duration::from_mins(3);

/// Runs a command of `vectors.py` with JSON on stdin and stdout.
async fn python(what: &str, asked: &Value) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/agent-tools-venv/bin/python");
    assert!(python.exists(), "not installed: run `make agent-tools` (`make test` does)");
    let mut child = tokio::process::Command::new(python)
        .args([root.join("tests/external/agent_tools/vectors.py").as_os_str(), what.as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the script starts");
    let running = async {
        child.stdin.take().expect("piped").write_all(asked.to_string().as_bytes()).await.ok();
        child.wait_with_output().await.expect("the script runs")
    };
    let output = tokio::time::timeout(DEADLINE, running).await.expect("the script ends");
    assert!(output.status.success(), "{what}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().expect(field)
}

#[tokio::test]
async fn the_fixed_vectors_match_an_independent_implementation_and_are_accepted() {
    let fixed: Value = serde_json::from_str(include_str!("../../data/agent_identity_vectors.json")).unwrap();
    assert_eq!(python("fixed", &Value::Null).await, fixed);
    let vectors = fixed.as_array().unwrap();
    assert_eq!(vectors.len(), 4);
    for (at, vector) in vectors.iter().enumerate() {
        let key = PublicKey::parse(text(vector, "line")).expect("a valid line");
        assert_eq!(key.to_string(), text(vector, "line"));
        let assertion = Assertion::read(text(vector, "assertion")).expect("a valid assertion");
        assertion.verify(&key).expect("a signature of this key");
        assert_eq!(assertion.at, DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let registration = TaskRegistration::read("2027-01-15T08:00:00Z", text(vector, "registration"))
            .expect("a well-formed registration");
        let agent = AgentRuntimeId::parse("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d").unwrap();
        registration.verify(agent, &key).expect("a signature of this key");
        // Another key does not verify the signatures.
        let other = PublicKey::parse(text(&vectors[(at + 1) % 4], "line")).unwrap();
        assert!(assertion.verify(&other).is_err() && registration.verify(agent, &other).is_err());
    }
}

#[tokio::test]
async fn signatures_of_an_independent_implementation_are_accepted() {
    let world = World::with(on).await;
    let service = &world.service;
    let seed = hex::encode(rand::random::<[u8; 32]>());
    let sign = async |messages: &[String]| {
        let signed = python("sign", &json!({"seed": seed, "messages": messages})).await;
        let signatures = signed["signatures"].as_array().unwrap().iter();
        (text(&signed, "line").to_owned(), signatures.map(|one| one.as_str().unwrap().to_owned()).collect())
    };
    let (line, _): (String, Vec<String>) = sign(&[]).await;
    let id = registered(service, &world.token, &line).await;
    let at = stamp_in(0);
    let (_, signatures) = sign(&[format!("{id}:{at}")]).await;
    let body = json!({"timestamp": at, "signature": signatures[0]});
    let path = format!("/v1/agent/{id}/task/register");
    let answer = call(service, "POST", &path, None, Some(&body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let task = text(&answer.body, "task_id");
    let (_, signatures) = sign(&[format!("{id}:{task}:{at}")]).await;
    let fields =
        json!({"agent_runtime_id": id, "task_id": task, "timestamp": at, "signature": signatures[0]});
    let answer = list(service, &format!("AgentAssertion {}", envelope(&fields))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn our_signatures_verify_in_an_independent_implementation() {
    let world = World::with(on).await;
    let agent = Identity::new(&world.service, &world.token).await;
    let answer = call(&world.service, "GET", "/v1/agent", Some(&agent.assertion()), None).await;
    let line = text(&answer.body["identities"][0], "agent_public_key");
    let fields = agent.fields(&agent.task, &stamp_in(0));
    let message = format!("{}:{}:{}", agent.id, agent.task, text(&fields, "timestamp"));
    let signatures = json!([
        {"message": message, "signature": fields["signature"]},
        {"message": format!("{message}x"), "signature": fields["signature"]},
    ]);
    let said = python("verify", &json!({"line": line, "signatures": signatures})).await;
    assert_eq!(said["verified"], json!([true, false]));
}

#[tokio::test]
async fn a_sealed_task_is_opened_by_an_independent_implementation_and_used() {
    let world = World::with(|s| on(s).with("NAS_CRON_AGENT_TASK_IDS_ENCRYPTED", "true")).await;
    let service = &world.service;
    let seed: [u8; 32] = rand::random();
    let key = Key(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
    let id = registered(service, &world.token, &key.line()).await;
    let since = now();
    let at = stamp(since);
    let mut boxes = Vec::new();
    for at in [&at, &at, &stamp(since - TimeDelta::seconds(1))] {
        let answer = register_task(service, &id, &key, at).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["encrypted_task_id"]);
        boxes.push(text(&answer.body, "encrypted_task_id").to_owned());
    }
    assert_ne!(boxes[0], boxes[1], "sealing is randomized");
    let opened = python("open", &json!({"seed": hex::encode(seed), "boxes": boxes})).await;
    let opened: Vec<&str> =
        opened["opened"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert!(opened[0] == opened[1] && opened[0] != opened[2], "the same signature is the same task");
    let mut agent = Identity { key, id, task: String::new(), since };
    for task in opened {
        task.clone_into(&mut agent.task);
        assert_eq!(list(service, &agent.assertion()).await.status, 200, "{task}");
    }
}

#[tokio::test]
async fn the_assertion_made_by_the_documentations_example_is_accepted() {
    let world = World::with(on).await;
    let seed: [u8; 32] = rand::random();
    let key = Key(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
    let id = registered(&world.service, &world.token, &key.line()).await;
    let task = super::fixture::task(&world.service, &id, &key, &stamp_in(0)).await;
    let page = include_str!("../../../docs/agent-identity.md");
    let block = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let asked = json!({"block": block, "seed": hex::encode(seed), "agent_runtime_id": id, "task_id": task});
    let made = python("documented", &asked).await;
    assert_eq!(list(&world.service, text(&made, "assertion")).await.status, 200);
}
