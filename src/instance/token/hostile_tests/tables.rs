//! The hostile tokens.

#![expect(clippy::too_many_lines, reason = "tables")]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nas_cron_jwt::testing::{Signing, jwks};
use serde_json::{Value, json};

use super::{Hostile, ISSUER, NOW, encoded, good_claims, sign};
use crate::instance::token::MAX_TOKEN_LENGTH;

/// Headers that name another algorithm than that of the key, or that carry what must not count.
pub(super) fn headers(portal: &Signing, stranger: &Signing) -> Vec<Hostile> {
    let (claims, own) = (good_claims().to_string(), format!("{:?}", portal.algorithm));
    let named = |what: &str, header: &Value, by: &Signing| {
        (format!("{own}, header {what}: {header:.80}"), sign(by, header.to_string(), &claims))
    };
    let algorithms = [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        " ",
        "HS256",
        "HS384",
        "HS512",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES512",
        "ES256K",
        "EdDSA",
        "Ed25519",
        "Ed448",
        "RSA-OAEP",
        "dir",
        "A128KW",
        "ML-DSA-44",
        "rs256",
        "eddsa",
        "ES256 ",
        "ES256\u{0}",
    ];
    let mut found: Vec<_> = algorithms
        .into_iter()
        .filter(|alg| *alg != own)
        .map(|alg| named("alg", &json!({"alg": alg, "kid": "k"}), portal))
        .collect();
    let with = |name: &str, value: Value| {
        let mut header = json!({"alg": own, "kid": "k"});
        header[name] = value;
        header
    };
    for alg in [json!(null), json!(1), json!([own]), json!({"x": own}), json!(true)] {
        found.push(named("type", &with("alg", alg), portal));
    }
    for crit in [json!([]), json!(["exp"]), json!(["b64"]), json!(null), json!("exp"), json!({})] {
        found.push(named("crit", &with("crit", crit), portal));
    }
    for b64 in [json!(false), json!(true), json!(null)] {
        found.push(named("b64", &with("b64", b64), portal));
    }
    for kid in [
        json!("other"),
        json!("K"),
        json!(" k"),
        json!("k\u{0}"),
        json!(""),
        json!("../../../../dev/null"),
        json!("' OR 1=1 --"),
        json!("https://evil.example/key"),
        json!("k".repeat(4_000)),
        json!(7),
        json!(["k"]),
        json!({"k": 1}),
        json!(true),
    ] {
        found.push(named("kid", &with("kid", kid), portal));
    }
    // Keys that a stranger sends with the token (RFC 8725, 3.10): all are signed with them.
    let key = serde_json::to_value(stranger.jwk()).unwrap();
    for (name, value) in [
        ("jwk", key.clone()),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/certificate.pem")),
        ("x5c", json!([STANDARD.encode(key.to_string())])),
        ("x5t", json!("AAAA")),
        ("typ", json!("JWT")),
    ] {
        found.push(named("of a stranger", &with(name, value), stranger));
    }
    for raw in [
        format!(r#"{{"kid":"k","alg":"none","alg":"{own}"}}"#),
        format!(r#"{{"kid":"k","alg":"{own}","alg":"none"}}"#),
        format!(r#"{{"kid":"k","alg":"{own}","Alg":"none"}}"#),
        format!(r#"{{"kid":"x","kid":"k","alg":"{own}"}}"#),
        format!(r#"{{"kid":"k","alg":"{own}"}}{{}}"#),
        format!(r#" {{"kid":"k","alg":"{own}"}}"#),
        format!("\u{feff}{{\"kid\":\"k\",\"alg\":\"{own}\"}}"),
        format!(r#"[{{"kid":"k","alg":"{own}"}}]"#),
        format!(r"{{'kid':'k','alg':'{own}'}}"),
        r#"{"kid":"k"}"#.to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        String::new(),
        "{".repeat(2_000),
        format!(r#"{{"x":{}1{},"alg":"{own}"}}"#, "[".repeat(500), "]".repeat(500)),
    ] {
        found.push((format!("{own}, header {raw:.60}"), sign(portal, &raw, &claims)));
    }
    found
}

/// Signatures that are damaged, encoded in another way, or made for something else.
pub(super) fn signatures(portal: &Signing, stranger: &Signing) -> Vec<Hostile> {
    let good = portal.sign(&good_claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (length, half) = (bytes.len(), bytes.len() / 2);
    let mut texts: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("padded", format!("{signature}=")),
        ("padded twice", format!("{signature}==")),
        ("with a space", format!("{signature} ")),
        ("after a space", format!(" {signature}")),
        ("with a line break", format!("{signature}\n")),
        ("with a NUL", format!("{signature}\0")),
        ("in hexadecimal", hex::encode(&bytes)),
        ("twice", format!("{signature}{signature}")),
        ("with another part", format!("{signature}.{signature}")),
        ("not base64", "!".repeat(signature.len())),
        ("of another key", stranger.sign(&good_claims()).rsplit_once('.').unwrap().1.to_owned()),
    ];
    let other = sign(portal, r#"{"alg":"none"}"#, "{}");
    texts.push(("of another message", other.rsplit_once('.').unwrap().1.to_owned()));
    let flipped = |at: usize, bit: u8| {
        let mut other = bytes.clone();
        other[at] ^= bit;
        other
    };
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("without its first byte", bytes[1..].to_vec()),
        ("without its last byte", bytes[..length - 1].to_vec()),
        ("with a zero before it", [&[0], &bytes[..]].concat()),
        ("with a zero after it", [&bytes[..], &[0]].concat()),
        ("of zeros", vec![0; length]),
        ("of ones", vec![0xff; length]),
        ("of one zero", vec![0]),
        ("of 4096 bytes", vec![7; 4096]),
        ("with a flipped first bit", flipped(0, 0x80)),
        ("with a flipped middle bit", flipped(half, 1)),
        ("with a flipped last bit", flipped(length - 1, 1)),
        ("with exchanged halves", [&bytes[half..], &bytes[..half]].concat()),
        ("with a first half of zeros", [&vec![0; half], &bytes[half..]].concat()),
        ("with a second half of zeros", [&bytes[..half], &vec![0; length - half]].concat()),
        ("with r = 1 and s = 1", [&vec![0; half - 1][..], &[1], &vec![0; half - 1], &[1]].concat()),
        // ASN.1, as TLS has it.
        ("in DER", [&[0x30, 0x44, 2, 32], &bytes[..half], &[2, 32], &bytes[half..]].concat()),
        ("with the order of the group as s", [&bytes[..half], &order].concat()),
        ("as the HMAC with the public key", {
            let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &jwks([portal]));
            ring::hmac::sign(&secret, message.as_bytes()).as_ref().to_vec()
        }),
        ("as the hash of the message", {
            ring::digest::digest(&ring::digest::SHA256, message.as_bytes()).as_ref().to_vec()
        }),
    ];
    texts.extend(forms.into_iter().map(|(what, bytes)| (what, encoded(bytes))));
    texts
        .into_iter()
        .map(|(what, signature)| {
            (format!("{:?}, signature {what}", portal.algorithm), format!("{message}.{signature}"))
        })
        .collect()
}

/// Texts other than a token of three parts.
pub(super) fn forms(portal: &Signing) -> Vec<Hostile> {
    let good = portal.sign(&good_claims());
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let mut other = good_claims();
    other["client_id"] = json!("agent:i2");
    let other = portal.sign(&other);
    let [_, other_claims, other_signature] = other.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let flattened = json!({"protected": header, "payload": claims, "signature": signature});
    [
        ("empty", String::new()),
        ("dots", "..".to_owned()),
        ("more dots", "....".to_owned()),
        ("one part", header.to_owned()),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{good}.{signature}")),
        ("four parts, the last one empty", format!("{good}.")),
        ("a dot before it", format!(".{good}")),
        ("no header", format!(".{claims}.{signature}")),
        ("no claims", format!("{header}..{signature}")),
        ("no signature", format!("{header}.{claims}.")),
        ("encrypted: five parts", format!("{header}.{claims}.{claims}.{claims}.{signature}")),
        ("other claims", format!("{header}.{other_claims}.{signature}")),
        ("another signature", format!("{header}.{claims}.{other_signature}")),
        ("parts exchanged", format!("{claims}.{header}.{signature}")),
        ("a padded header", format!("{header}=.{claims}.{signature}")),
        ("padded claims", format!("{header}.{claims}=.{signature}")),
        ("a space in the header", format!("{header} .{claims}.{signature}")),
        ("a line break in the claims", format!("{header}.{claims}\n.{signature}")),
        ("a comma in the claims", format!("{header}.{claims},.{signature}")),
        ("a space before it", format!(" {good}")),
        ("a line break after it", format!("{good}\n")),
        ("quoted", format!("\"{good}\"")),
        ("with its scheme", format!("Bearer {good}")),
        ("percent-encoded", good.replace('.', "%2E")),
        ("with other dots", good.replace('.', "\u{ff0e}")),
        ("in upper case", good.to_uppercase()),
        ("twice", format!("{good}{good}")),
        ("the JSON serialization", flattened.to_string()),
        ("the JSON serialization, encoded", encoded(flattened.to_string())),
        ("encoded twice", encoded(&good)),
        ("a token in a token", sign(portal, r#"{"alg":"ES256","kid":"k","cty":"JWT"}"#, &good)),
        ("longer than any token", format!("{header}.{}.{signature}", "A".repeat(MAX_TOKEN_LENGTH))),
        ("many dots", ".".repeat(MAX_TOKEN_LENGTH)),
        ("many letters", "A".repeat(MAX_TOKEN_LENGTH)),
    ]
    .into_iter()
    .map(|(what, token)| (format!("{:?}, {what}", portal.algorithm), token))
    .collect()
}

/// Claims that break a rule, or that readers could read differently.
pub(super) fn claims(portal: &Signing) -> Vec<Hostile> {
    let header = json!({"alg": format!("{:?}", portal.algorithm), "kid": "k"}).to_string();
    let mut found = Vec::new();
    let mut add = |what: &str, claims: &str| {
        found.push((
            format!("{:?}, claims {what}: {claims:.90}", portal.algorithm),
            sign(portal, &header, claims),
        ));
    };
    let odd = [json!(null), json!(7), json!([]), json!({}), json!(true)];
    for (name, values) in [
        (
            "iss",
            vec![
                json!("https://portal.example/"),
                json!("https://PORTAL.example"),
                json!("http://portal.example"),
                json!(" https://portal.example"),
                json!("https://portal.example\u{0}"),
                json!("https://portal.example.evil"),
                json!(""),
                json!([ISSUER]),
                json!({"iss": ISSUER}),
            ],
        ),
        (
            "exp",
            vec![
                json!(0),
                json!(-1),
                json!(NOW - 30),
                json!(NOW - 86_400),
                json!((NOW + 60).to_string()),
                json!(f64::MAX),
                json!([NOW + 60]),
                json!(""),
                json!(i64::MAX),
                json!(i64::MIN),
                json!(u64::MAX),
            ],
        ),
        ("nbf", vec![json!(NOW + 31), json!(NOW + 86_400), json!(f64::MAX), json!((NOW - 5).to_string())]),
        ("iat", vec![json!(NOW + 31), json!(NOW + 86_400), json!(f64::MAX), json!((NOW - 5).to_string())]),
        (
            "aud",
            vec![
                json!("Cron"),
                json!("cron "),
                json!("other"),
                json!(["other"]),
                json!([["cron"]]),
                json!(["cron", 1]),
                json!({"cron": true}),
                json!(""),
                json!("agent:"),
                json!("agent:*"),
                json!("agent:i2"),
                json!("*"),
            ],
        ),
        ("org_id", vec![json!("o2"), json!("O1"), json!("o1 "), json!(""), json!(["o1"])]),
        ("client_id", vec![json!(["agent:i1"]), json!(7), json!({})]),
        ("sid", vec![json!(["s1"]), json!(7), json!({})]),
        ("purpose", vec![json!("cron_fire"), json!("")]),
    ] {
        for value in values {
            let mut claims = good_claims();
            claims[name] = value;
            add(name, &claims.to_string());
        }
        if matches!(name, "iss" | "exp" | "aud" | "purpose") {
            for value in &odd {
                let mut claims = good_claims();
                claims[name] = value.clone();
                add(name, &claims.to_string());
            }
        }
        if matches!(name, "iss" | "exp" | "aud") {
            let mut claims = good_claims();
            claims.as_object_mut().unwrap().remove(name);
            add("without", &claims.to_string());
        }
    }
    let text = good_claims().to_string();
    let after = |more: &str| format!("{}{more}}}", &text[..text.len() - 1]);
    for more in [
        r#","client_id":"agent:i2""#,
        r#","org_id":"o1""#,
        r#","exp":1"#,
        r#","exp":9999999999"#,
        r#","iss":"x""#,
        r#","\u0065xp":9999999999"#,
        r#","Exp":9999999999"#,
        r#","AUD":"cron""#,
        r#","Client_ID":"agent:i2""#,
        r#","purpose":null"#,
        r#","x":{"y":1,"y":2}"#,
        r#","x":1e999"#,
        r#","x":-0.0"#,
        r#","x":12345678901234567890"#,
        r#","x":"\ud800""#,
        r#","x":0123"#,
        r#","x":NaN"#,
        r#","x":undefined"#,
        r#","x":1,"#,
        r#",/* */"x":1"#,
    ] {
        add("and", &after(more));
    }
    for whole in [
        "",
        "null",
        "[]",
        "\"x\"",
        "{",
        "{}",
        "{}{}",
        &format!("[{text}]"),
        &format!("{text}x"),
        &format!(" {text}"),
        &format!("\u{feff}{text}"),
        &format!("{{\"x\":{}", "[".repeat(4_000)),
        &text.replace('"', "'"),
    ] {
        add("as a whole", whole);
    }
    let invalid = [&text.as_bytes()[..text.len() - 1], b",\"x\":\"\xff\"}"].concat();
    found.push(("invalid UTF-8".to_owned(), sign(portal, &header, &invalid)));
    found
}
