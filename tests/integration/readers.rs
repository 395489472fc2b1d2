//! Times, JSON, URLs and tokens as other programs read them: what nas-cron accepts means the same to Python and JavaScript.

mod tokens;
mod urls;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron_protocol::{FireAt, json as door};
use nas_cron_testing::corpora::{json_oddities, times};
use nas_cron_testing::in_target;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// Timeout of a script; long enough for a slow machine.
const DEADLINE: Duration = Duration::from_mins(3);

/// Runs a program of `tests/external/readers` with JSON on stdin and stdout.
async fn run(program: impl AsRef<OsStr>, script: &str, asked: &Value) -> Value {
    let mut child = tokio::process::Command::new(program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/external/readers").join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the script starts");
    let running = async {
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(asked.to_string().as_bytes()).await.expect("the script reads");
        drop(stdin);
        child.wait_with_output().await.expect("the script runs")
    };
    let output = tokio::time::timeout(DEADLINE, running).await.expect("the script ends");
    assert!(output.status.success(), "{script}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

async fn python(asked: &Value) -> Value {
    let python = in_target("readers-venv/bin/python");
    assert!(python.exists(), "not installed: run `make readers` (`make test` does)");
    run(python, "read.py", asked).await
}

async fn node(asked: &Value) -> Value {
    run("node", "read.mjs", asked).await
}

/// Returns a text that is made of valid and of odd parts.
fn some_time() -> String {
    let parts: [&[&str]; 11] = [
        &["2028", "1999", "28", "02028"],
        &["-", "-", "-", ""],
        &["06", "12", "6", "13"],
        &["-", "-", "-", ""],
        &["18", "30", "8", "31"],
        &["T", "T", " ", "t", "_"],
        &["12:34", "00:00", "23:59", "1:34", "24:00", "1234"],
        &["", ":56", ":00", ":6", ":60", "56"],
        &["", "", ".5", ".123456", ",25", ".1234567", ".", ".000"],
        &["Z", "+00:00", "+02", "-09:30", "z", "+0200", "+2:00", "", "+02:00:30", "+24:00", "-00:00"],
        &["", "", "", "", " ", "Z"],
    ];
    parts.iter().filter_map(|part| part.choose(&mut rand::rng())).copied().collect()
}

#[tokio::test]
async fn times_that_python_also_accepts_are_the_same_instants() {
    let mut texts: Vec<String> = times().into_iter().map(|time| time.text).collect();
    texts.extend((0..20_000).map(|_| some_time()));
    let read = python(&json!({"times": texts})).await;
    let mut both = 0;
    for (text, theirs) in texts.iter().zip(read["times"].as_array().unwrap()) {
        let (Ok(ours), Some(theirs)) = (FireAt::parse(text), theirs.as_i64()) else { continue };
        let ours = ours.instant().timestamp_micros();
        // Python cuts off what is finer than a microsecond. Rounding up keeps a fire from being early.
        let digits = text
            .split(['.', ','])
            .nth(1)
            .map_or(0, |fraction| fraction.bytes().take_while(u8::is_ascii_digit).count());
        assert!(ours == theirs || digits > 6 && ours == theirs + 1, "{text}: {ours}, Python: {theirs}");
        both += 1;
    }
    // Python before 3.11 accepts only what its own isoformat() writes.
    assert!(both >= 20, "{both}");
    let written = read["written"].as_array().unwrap();
    assert_eq!(written.len(), 1000);
    for one in written {
        let text = one[0].as_str().unwrap();
        let ours = FireAt::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(Some(ours.instant().timestamp_micros()), one[1].as_i64(), "{text}");
    }
}

/// Returns the value with all numbers as doubles: Python tells 1 from 1.0, JavaScript does not.
fn with_doubles(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(with_doubles).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), with_doubles(value))).collect()
        }
        other => other.clone(),
    }
}

#[tokio::test]
async fn json_that_is_accepted_is_the_same_value_for_python_and_javascript() {
    let accepted: Vec<_> = json_oddities()
        .into_iter()
        .map(|oddity| (oddity.put_into(r#"{"job_id":"j","n":[1,0.5,true,null]}"#), oddity))
        .filter(|(json, _)| door::check(json, &[]).is_ok_and(|text| text.starts_with('{')))
        .collect();
    assert!(accepted.len() >= 25 && accepted.iter().all(|(_, oddity)| !oddity.refused));
    let encoded: Vec<_> = accepted.iter().map(|(json, _)| STANDARD.encode(json)).collect();
    let asked = json!({"json": encoded});
    let (python, node) = tokio::join!(python(&asked), node(&asked));
    for (at, (json, oddity)) in accepted.iter().enumerate() {
        let ours = with_doubles(&door::from_slice(json).unwrap());
        for (reader, theirs) in [("Python", &python), ("JavaScript", &node)] {
            let theirs = &theirs["json"][at]["value"];
            assert_eq!(with_doubles(theirs), ours, "{reader}: {}", oddity.why);
        }
    }
}
