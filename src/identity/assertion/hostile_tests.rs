//! Hostile assertions, made with a real key: none is accepted, and none costs much more than a good one.

use std::sync::LazyLock;

use nas_cron_base::testing::fastest;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;

const AGENT: &str = "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d";
const TASK: &str = "0b8e1b0e-6f3a-4c55-8e0c-2f6f1a2b3c4d";
const AT: &str = "2027-01-15T08:00:00Z";

/// Reading a key takes longer than verifying with it.
static KEY: LazyLock<PublicKey> =
    LazyLock::new(|| PublicKey::from_bytes(pair().public_key().as_ref().try_into().unwrap()).unwrap());

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn signature_of(message: &str) -> String {
    STANDARD.encode(pair().sign(message.as_bytes()))
}

fn good() -> Value {
    signed(&json!({"agent_runtime_id": AGENT, "task_id": TASK, "timestamp": AT}))
}

/// Signs the texts of the fields, whatever they are.
fn signed(fields: &Value) -> Value {
    let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
    let message = ["agent_runtime_id", "task_id", "timestamp"].map(text).join(":");
    let mut envelope = fields.clone();
    envelope["signature"] = json!(signature_of(&message));
    envelope
}

/// Like a request: the assertion of a known agent for a known task, now.
fn accepted(presented: &str) -> bool {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    Assertion::read(presented).is_ok_and(|read| {
        let known = read.agent_runtime_id.to_string() == AGENT
            && read.task_id.is_some_and(|task| task.to_string() == TASK);
        known && within_window(read.at, now).is_ok() && read.verify(&KEY).is_ok()
    })
}

/// Other texts for a field, each signed by the agent.
fn fields() -> Vec<String> {
    let variants = |id: &str| {
        vec![
            String::new(),
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            format!(" {id}"),
            format!("{id} "),
            format!("{id}\n"),
            format!("{id}\0"),
            format!("{id}:"),
            format!("{id}:{id}"),
            id[..35].to_owned(),
            format!("{id}0"),
            id.replace('0', "\u{ff10}"),
            id.replacen('f', "g", 1),
            "00000000-0000-0000-0000-000000000000".to_owned(),
            "../../etc/passwd".to_owned(),
            "' OR 1=1 --".to_owned(),
        ]
    };
    let times = [
        "",
        "2027-01-15T08:00:00",
        "2027-01-15T08:00:00z",
        "2027-01-15t08:00:00Z",
        "2027-01-15 08:00:00Z",
        "2027-01-15T08:00Z",
        "2027-01-15T08:00:00.0Z",
        "2027-01-15T08:00:00+00:00",
        "2027-01-15T08:00:00-00:00",
        "2027-01-15T09:00:00+01:00",
        "2027-01-15T08:05:01Z",
        "2027-01-15T07:54:59Z",
        "2027-01-14T08:00:00Z",
        "2028-01-15T08:00:00Z",
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "2027-02-30T08:00:00Z",
        "2027-13-15T08:00:00Z",
        "2027-01-15T24:00:00Z",
        "2027-01-15T08:60:00Z",
        "2027-01-15T08:00:60Z",
        "+027-01-15T08:00:00Z",
        "1800000000",
        "2027-01-15T08:00:00Z ",
        " 2027-01-15T08:00:00Z",
        "2027-01-15T08:00:00Z\0",
        "2027\u{2010}01\u{2010}15T08:00Z",
        "2027-W02-5T08:00:00Z",
        "20270115T080000Z",
        "now",
    ];
    let values = [
        ("agent_runtime_id", variants(AGENT)),
        ("task_id", variants(TASK)),
        ("timestamp", times.map(str::to_owned).to_vec()),
    ];
    let mut found = Vec::new();
    for (field, texts) in values {
        for text in texts {
            let mut fields = good();
            fields[field] = json!(text);
            found.push(signed(&fields).to_string());
        }
        // The field is exchanged after it was signed.
        let mut fields = good();
        fields[field] =
            if field == "timestamp" { json!("2027-01-15T08:00:01Z") } else { json!(AGENT.replace('7', "8")) };
        found.push(fields.to_string());
    }
    let mut exchanged = good();
    (exchanged["agent_runtime_id"], exchanged["task_id"]) = (json!(TASK), json!(AGENT));
    found.push(signed(&exchanged).to_string());
    for field in ["agent_runtime_id", "task_id", "timestamp", "signature"] {
        for other in
            [json!(null), json!(7), json!([good()[field]]), json!({"x": good()[field]}), json!(false)]
        {
            let mut fields = good();
            fields[field] = other;
            found.push(fields.to_string());
        }
        let mut without = good();
        without.as_object_mut().unwrap().remove(field);
        found.push(without.to_string());
    }
    found
}

/// Signatures that are damaged, in another form, or made for another message.
fn signatures() -> Vec<String> {
    let text = good()["signature"].as_str().unwrap().to_owned();
    let bytes = STANDARD.decode(&text).unwrap();
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut carry = 0;
    let plus_order: Vec<u8> = bytes[32..]
        .iter()
        .zip(&order)
        .map(|(byte, more)| {
            let sum = u16::from(*byte) + u16::from(*more) + carry;
            carry = sum >> 8;
            sum.to_le_bytes()[0]
        })
        .collect();
    let mut forms = vec![
        String::new(),
        text.trim_end_matches('=').to_owned(),
        format!("{text}="),
        format!("{text} "),
        format!("{text}\n"),
        text.to_lowercase(),
        hex::encode(&bytes),
        URL_SAFE_NO_PAD.encode(&bytes),
        format!("{text}{text}"),
        "A".repeat(88),
        STANDARD.encode([0; 64]),
        STANDARD.encode([0xff; 64]),
        STANDARD.encode(&bytes[..63]),
        STANDARD.encode([&bytes[..], &[0]].concat()),
        STANDARD.encode([&bytes[32..], &bytes[..32]].concat()),
        STANDARD.encode([&bytes[..32], &plus_order].concat()),
        STANDARD.encode([&bytes[..32], &order].concat()),
        STANDARD.encode([&[1; 1][..], &[0; 63]].concat()),
    ];
    for bit in (0..512).step_by(8) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1;
        forms.push(STANDARD.encode(flipped));
    }
    for message in [
        String::new(),
        format!("{AGENT}:{TASK}"),
        format!("{AGENT}:{AT}"),
        format!("{TASK}:{AGENT}:{AT}"),
        format!("{AT}:{AGENT}:{TASK}"),
        format!("{AGENT}:{TASK}:{AT}\n"),
        format!("{AGENT}{TASK}{AT}"),
        format!("{AGENT}:{TASK}:{}", AT.to_lowercase()),
    ] {
        forms.push(signature_of(&message));
    }
    forms
        .into_iter()
        .map(|form| {
            let mut envelope = good();
            envelope["signature"] = json!(form);
            envelope.to_string()
        })
        .collect()
}

/// JSON that two readers could read differently, or anything but an object.
fn readings() -> Vec<Vec<u8>> {
    let text = good().to_string();
    let with = |member: &str| text.replacen('{', &format!("{{{member},"), 1).into_bytes();
    let mut found: Vec<Vec<u8>> = [
        r#""task_id":"x""#,
        r#""Task_ID":"x""#,
        r#""\u0074ask_id":"x""#,
        r#""timestamp":1"#,
        r#""x":{"y":1,"y":2}"#,
        r#""x":1e999"#,
        r#""x":-0.0"#,
        r#""x":12345678901234567890"#,
        r#""x":"\ud800""#,
        r#""x":NaN"#,
        r#""x":01"#,
        r"'x':1",
    ]
    .map(with)
    .to_vec();
    found.extend(
        [
            String::new(),
            "null".to_owned(),
            "[]".to_owned(),
            format!("[{text}]"),
            format!("{text}{text}"),
            format!("{text}x"),
            format!(" {text}"),
            format!("\u{feff}{text}"),
            text[..text.len() - 1].to_owned(),
            text.replace('"', "'"),
            format!("{{\"x\":{}1{},{}", "[".repeat(300), "]".repeat(300), &text[1..]),
            json!([AGENT, TASK, AT, good()["signature"]]).to_string(),
        ]
        .map(String::into_bytes),
    );
    found.push([&text.as_bytes()[..text.len() - 1], b",\"x\":\"\xff\"}"].concat());
    found
}

fn hostile() -> Vec<String> {
    let envelopes = [fields(), signatures()].concat().into_iter().map(String::into_bytes).chain(readings());
    let mut found: Vec<String> = envelopes.map(|envelope| URL_SAFE_NO_PAD.encode(envelope)).collect();
    let text = URL_SAFE_NO_PAD.encode(good().to_string());
    found.extend([
        good().to_string(),
        format!("{text}="),
        format!("{text} "),
        format!("{text}."),
        format!("{text},{text}"),
        format!(" {text}"),
        STANDARD.encode(good().to_string()) + "=",
        URL_SAFE_NO_PAD.encode(&text),
        "A".repeat(MAX_ENVELOPE),
        "A".repeat(MAX_ENVELOPE + 1),
        "=".repeat(100),
        text.replace('e', "\u{435}"),
    ]);
    found
}

#[test]
fn no_hostile_assertion_is_accepted() {
    assert!(accepted(&URL_SAFE_NO_PAD.encode(good().to_string())), "the base is good");
    let hostile = hostile();
    assert!(hostile.len() >= 200, "{} assertions", hostile.len());
    for presented in hostile {
        let shown = URL_SAFE_NO_PAD.decode(&presented).unwrap_or_default();
        assert!(!accepted(&presented), "{presented}\n{}", String::from_utf8_lossy(&shown));
    }
}

#[test]
fn no_hostile_assertion_takes_ten_times_as_long_as_a_good_one() {
    let good = URL_SAFE_NO_PAD.encode(good().to_string());
    let limit = fastest(20, || assert!(accepted(&good))) * 10;
    for presented in hostile() {
        // A busy machine can disturb many calls in a row, but not all.
        let calm = (0..20).any(|_| fastest(5, || assert!(!accepted(&presented))) < limit);
        assert!(calm, "{presented}: more than {limit:?}");
    }
}
