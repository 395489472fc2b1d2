//! The service's verifier and the two official receivers, compared on one table. The service accepts what both accept,
//! and refuses what one of them refuses. A reason marks cases where the two differ, or where the service is stricter
//! than both on purpose.

use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use nas_cron::backends::qstash::signature::{SigningKeys, verify};
use nas_cron_testing::qstash_emulator::Emulator;
use serde_json::{Value, json};

use super::fixture::now;
use super::sdks::Sdk;

mod cases;

use cases::{CURRENT, Case, NEXT, NOW_MS, URL};

async fn ask(sdk: Sdk, now_ms: i64, keys: [&str; 2], cases: &[Case]) -> Vec<bool> {
    let cases: Vec<Value> = cases
        .iter()
        .map(|case| {
            let body = STANDARD.encode(&case.body);
            json!({"signature": case.signature, "body": body, "url": case.bound.then_some(URL)})
        })
        .collect();
    let task = json!({"now_ms": now_ms, "current": keys[0], "next": keys[1], "cases": cases});
    let file = std::env::temp_dir().join(format!("nas-cron-qstash-{:016x}.json", rand::random::<u64>()));
    std::fs::write(&file, task.to_string()).unwrap();
    let judged = sdk.run("receive", &[&file]).await;
    std::fs::remove_file(&file).unwrap();
    let judged: Vec<bool> =
        judged.as_array().unwrap().iter().map(|judged| judged["accepted"].as_bool().unwrap()).collect();
    assert_eq!(judged.len(), cases.len());
    judged
}

#[tokio::test]
async fn our_verifier_agrees_with_the_official_receivers() {
    let cases = cases::all();
    assert!(cases.len() >= 50);
    let keys = SigningKeys::new(&CURRENT.into(), Some(&NEXT.into())).unwrap();
    let now = DateTime::from_timestamp_millis(NOW_MS).unwrap();
    let (python, node) = tokio::join!(
        ask(Sdk::Python, NOW_MS, [CURRENT, NEXT], &cases),
        ask(Sdk::Node, NOW_MS, [CURRENT, NEXT], &cases)
    );
    let mut table = format!("\n{:<58} | python  | node    | ours\n", "case");
    let mut wrong = Vec::new();
    for ((case, python), node) in cases.iter().zip(python).zip(node) {
        let ours = verify(case.signature.as_bytes(), &keys, URL, &case.body, now);
        let word = |accepted| if accepted { "accepts" } else { "refuses" };
        let words =
            ours.map_or_else(|refusal| format!("refuses ({})", refusal.as_str()), |()| word(true).into());
        let reason = case.reason.map_or(String::new(), |reason| format!(" -- {reason}"));
        let line = format!("{:<58} | {} | {} | {words}{reason}", case.name, word(python), word(node));
        writeln!(table, "{line}").unwrap();
        // The service accepts exactly the cases that both accept and that have no reason. A reason is required where the
        // receivers differ, or where both accept and the service refuses.
        let accepted = python && node && case.reason.is_none();
        let explained = case.reason.is_some() == (python != node || (python && ours.is_err()));
        if ours.is_ok() != accepted || ours.is_ok() != case.good || !explained {
            wrong.push(line);
        }
    }
    writeln!(table, "{} cases", cases.len()).unwrap();
    // Bypasses the output capture of the test runner, so that the table is always printed.
    nas_cron_base::output::stdout().write_all(table.as_bytes()).unwrap();
    assert!(wrong.is_empty(), "{table}\nwrong:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_official_receivers_accept_the_emulators_signatures_and_refuse_tampered_ones() {
    let emulator = Emulator::quick().await;
    let body = br#"{"job_id":"a"}"#;
    let case = |name: &str, signature: String, body: &[u8]| Case::new(name, signature, body);
    let before = emulator.sign(URL, body);
    let (mut tampered, last) = (before.clone(), before.len() - 2);
    tampered.replace_range(last..=last, if before.as_bytes()[last] == b'A' { "B" } else { "A" });
    let elsewhere = emulator.sign("https://elsewhere.example/", body);
    emulator.rotate_keys();
    let after = emulator.sign(URL, body);
    emulator.rotate_keys();
    let stranger = emulator.sign(URL, body);
    let cases = [
        case("as signed", before.clone(), body),
        case("under the next key, after a rotation", after, body),
        case("another body", before.clone(), b"{}"),
        case("a changed signature", tampered, body),
        case("signed for another URL", elsewhere, body),
        case("after two rotations", stranger, body),
    ];
    let settings = emulator.settings();
    let keys = [settings.current_key.as_str(), settings.next_key.as_str()];
    // A signature is valid from the second in which it is made.
    let now_ms = now().timestamp_millis() + 1000;
    for sdk in [Sdk::Python, Sdk::Node] {
        let judged = ask(sdk, now_ms, keys, &cases).await;
        assert_eq!(judged, [true, true, false, false, false, false], "{sdk:?}");
    }
    let keys = SigningKeys::new(&keys[0].into(), Some(&keys[1].into())).unwrap();
    let now = DateTime::from_timestamp_millis(now_ms).unwrap();
    let ours = cases.map(|case| verify(case.signature.as_bytes(), &keys, URL, &case.body, now).is_ok());
    assert_eq!(ours, [true, true, false, false, false, false]);
}
