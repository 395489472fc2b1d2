//! The cases: signatures and bodies, at one frozen instant.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use ring::{digest, hmac};
use serde_json::{Value, json};

pub const CURRENT: &str = "sig_current_0123456789abcdefghijklmnop";
pub const NEXT: &str = "sig_next_0123456789abcdefghijklmnopqrst";
pub const URL: &str = "https://portal.example/api/agent-cron/relay";
/// Between two seconds.
pub const NOW_MS: i64 = NOW * 1000 + 500;

const NOW: i64 = 1_800_000_000;
const BODY: &[u8] = br#"{"instance_id":"inst-1","job_id":"job-1","schedule_id":"s","fire_at":"now"}"#;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

const LENIENT_NODE: &str = "Python checks the alphabet, Node skips other characters";
const TYPES_IN_NODE: &str = "Python converts it to a number, Node requires one";
const REQUIRED_IN_PYTHON: &str = "required by Python only";
const CHECKED_IN_PYTHON: &str = "checked by Python only";
const ALWAYS_BOUND: &str = "the service always requires the URL that is published to";
const AMBIGUOUS: &str = "stricter than both: readers could read it differently, and QStash never writes it";
const STRICT_JSON: &str = "stricter than both: not JSON by RFC 8259, and QStash never writes it";

/// One line of the table.
pub struct Case {
    pub name: String,
    pub signature: String,
    pub body: Vec<u8>,
    /// True if the receivers get the URL.
    pub bound: bool,
    /// True if the service must accept it.
    pub good: bool,
    /// The reason why the receivers differ, or why the service is stricter than both.
    pub reason: Option<&'static str>,
}

impl Case {
    /// Creates a case that all must refuse.
    pub fn new(name: &str, signature: impl Into<String>, body: &[u8]) -> Self {
        let signature = signature.into();
        Self { name: name.to_owned(), signature, body: body.to_vec(), bound: true, good: false, reason: None }
    }

    fn good(self) -> Self {
        Self { good: true, ..self }
    }

    fn because(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    fn unbound(self) -> Self {
        Self { bound: false, ..self }
    }
}

fn mac(algorithm: hmac::Algorithm, key: &str, signed: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), signed.as_bytes()).as_ref().to_vec()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs two encoded parts.
fn seal(key: &str, header: &str, payload: &str) -> String {
    let signed = format!("{header}.{payload}");
    let tag = mac(hmac::HMAC_SHA256, key, &signed);
    format!("{signed}.{}", encode(tag))
}

fn token(header: &str, payload: impl AsRef<[u8]>) -> String {
    seal(CURRENT, &encode(header), &encode(payload))
}

fn hash(body: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, body)
}

fn claims() -> Value {
    json!({
        "iss": "Upstash", "sub": URL, "exp": NOW + 300, "nbf": NOW, "iat": NOW, "jti": "jwt_1",
        "body": URL_SAFE.encode(hash(BODY)),
    })
}

fn claimed(claims: &Value) -> String {
    token(HEADER, claims.to_string())
}

fn good_token() -> String {
    claimed(&claims())
}

/// Returns a token with a changed claim.
fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    claimed(&claims)
}

/// Like [`with`], for a value that [`Value`] cannot represent.
fn with_raw(name: &str, value: &str) -> String {
    let mut claims = claims();
    claims[name] = json!("@");
    token(HEADER, claims.to_string().replace("\"@\"", value))
}

fn without(name: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claimed(&claims)
}

/// Returns all cases.
pub fn all() -> Vec<Case> {
    let groups =
        [keys(), headers(), times(), issuers_and_subjects(), bodies(), forms(), json_forms(), others()];
    groups.into_iter().flatten().collect()
}

fn keys() -> Vec<Case> {
    let payload = encode(claims().to_string());
    let under = |key: &str| seal(key, &encode(HEADER), &payload);
    vec![
        Case::new("key: current", under(CURRENT), BODY).good(),
        Case::new("key: next", under(NEXT), BODY).good(),
        Case::new("key: another", under("sig_other"), BODY),
        Case::new("key: none", under(""), BODY),
        Case::new("key: current with a line break", under(&format!("{CURRENT}\n")), BODY),
        Case::new("key: current in upper case", under(&CURRENT.to_uppercase()), BODY),
        Case::new("key: both together", under(&format!("{CURRENT}{NEXT}")), BODY),
    ]
}

fn headers() -> Vec<Case> {
    let payload = claims().to_string();
    let signed_with = |name: &str, algorithm| {
        let signed = format!("{}.{}", encode(format!(r#"{{"alg":"{name}"}}"#)), encode(&payload));
        let tag = mac(algorithm, CURRENT, &signed);
        format!("{signed}.{}", encode(tag))
    };
    let header = |header: &str| token(header, &payload);
    let unsigned = |alg: &str| format!("{}.{}.", encode(format!(r#"{{"alg":"{alg}"}}"#)), encode(&payload));
    let only_in_python = "Python allows only HS256, Node every HMAC";
    vec![
        Case::new("alg: none, without a signature", unsigned("none"), BODY),
        Case::new("alg: None, without a signature", unsigned("None"), BODY),
        Case::new("alg: none, signed with HS256", header(r#"{"alg":"none"}"#), BODY),
        Case::new("alg: HS512, signed with HS512", signed_with("HS512", hmac::HMAC_SHA512), BODY)
            .because(only_in_python),
        Case::new("alg: HS384, signed with HS384", signed_with("HS384", hmac::HMAC_SHA384), BODY)
            .because(only_in_python),
        Case::new("alg: HS512, signed with HS256", header(r#"{"alg":"HS512"}"#), BODY),
        Case::new("alg: HS256, signed with HS512", signed_with("HS256", hmac::HMAC_SHA512), BODY),
        Case::new("alg: RS256, signed with HS256", header(r#"{"alg":"RS256"}"#), BODY),
        Case::new("alg: ES256, signed with HS256", header(r#"{"alg":"ES256"}"#), BODY),
        Case::new("alg: EdDSA, signed with HS256", header(r#"{"alg":"EdDSA"}"#), BODY),
        Case::new("alg: missing", header(r#"{"typ":"JWT"}"#), BODY),
        Case::new("alg: null", header(r#"{"alg":null}"#), BODY),
        Case::new("alg: a number", header(r#"{"alg":256}"#), BODY),
        Case::new("alg: in a list", header(r#"{"alg":["HS256"]}"#), BODY),
        Case::new("alg: hs256", header(r#"{"alg":"hs256"}"#), BODY),
        Case::new("alg: a trailing space", header(r#"{"alg":"HS256 "}"#), BODY),
        Case::new("alg: twice, the last one right", header(r#"{"alg":"none","alg":"HS256"}"#), BODY)
            .because(AMBIGUOUS),
        Case::new("alg: twice, the last one none", header(r#"{"alg":"HS256","alg":"none"}"#), BODY),
        Case::new("typ: missing", header(r#"{"alg":"HS256"}"#), BODY).good(),
        Case::new("typ: another", header(r#"{"alg":"HS256","typ":"at+jwt"}"#), BODY).good(),
        Case::new("kid: a text", header(r#"{"alg":"HS256","kid":"a"}"#), BODY).good(),
        Case::new("kid: a number", header(r#"{"alg":"HS256","kid":1}"#), BODY).because(CHECKED_IN_PYTHON),
        Case::new("crit: unknown", header(r#"{"alg":"HS256","crit":["x"],"x":1}"#), BODY),
        Case::new("crit: empty", header(r#"{"alg":"HS256","crit":[]}"#), BODY),
        Case::new("crit: b64, which is true", header(r#"{"alg":"HS256","crit":["b64"],"b64":true}"#), BODY)
            .because("stricter than both: no extension is supported, and QStash uses none"),
        Case::new("b64: false, not critical", header(r#"{"alg":"HS256","b64":false}"#), BODY)
            .because(CHECKED_IN_PYTHON),
        Case::new("b64: false, critical", header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#), BODY),
    ]
}

fn times() -> Vec<Case> {
    let exp = |value: Value| with("exp", value);
    let nbf = |value: Value| with("nbf", value);
    let iat = |value: Value| with("iat", value);
    vec![
        Case::new("exp: a second ago", exp(json!(NOW - 1)), BODY),
        Case::new("exp: this second", exp(json!(NOW)), BODY),
        Case::new("exp: the next second", exp(json!(NOW + 1)), BODY).good(),
        Case::new("exp: long ago", exp(json!(0)), BODY),
        Case::new("exp: before 1970", exp(json!(-1)), BODY),
        Case::new("exp: in this second, with a fraction", exp(json!(f64::from(1_800_000_000) + 0.75)), BODY)
            .because("Python truncates the fraction"),
        Case::new("exp: too large for 64 bits", with_raw("exp", "99999999999999999999"), BODY)
            .because(AMBIGUOUS),
        Case::new("exp: 1e300", with_raw("exp", "1e300"), BODY).good(),
        Case::new("exp: 1e400", with_raw("exp", "1e400"), BODY).because("infinite: an error in Python"),
        Case::new("exp: NaN", with_raw("exp", "NaN"), BODY),
        Case::new("exp: a text", exp(json!("1800000300")), BODY).because(TYPES_IN_NODE),
        Case::new("exp: true", exp(json!(true)), BODY),
        Case::new("exp: null", exp(Value::Null), BODY),
        Case::new("exp: missing", without("exp"), BODY).because(REQUIRED_IN_PYTHON),
        Case::new("nbf: this second", nbf(json!(NOW)), BODY).good(),
        Case::new("nbf: the next second", nbf(json!(NOW + 1)), BODY),
        Case::new("nbf: in a minute", nbf(json!(NOW + 60)), BODY),
        Case::new("nbf: in this second, past", nbf(json!(f64::from(1_800_000_000) + 0.25)), BODY)
            .because("Node counts whole seconds of now"),
        Case::new("nbf: before 1970", nbf(json!(-1)), BODY).good(),
        Case::new("nbf: a text", nbf(json!("1800000000")), BODY).because(TYPES_IN_NODE),
        Case::new("nbf: false", nbf(json!(false)), BODY).because(TYPES_IN_NODE),
        Case::new("nbf: null", nbf(Value::Null), BODY),
        Case::new("nbf: missing", without("nbf"), BODY).because(REQUIRED_IN_PYTHON),
        Case::new("iat: missing", without("iat"), BODY).good(),
        Case::new("iat: the next second", iat(json!(NOW + 1)), BODY).because(CHECKED_IN_PYTHON),
        Case::new("iat: a text", iat(json!("1800000000")), BODY).because(TYPES_IN_NODE),
        Case::new("iat: null", iat(Value::Null), BODY),
        Case::new("iat: long ago", iat(json!(0)), BODY).good(),
    ]
}

fn issuers_and_subjects() -> Vec<Case> {
    let iss = |value: Value| with("iss", value);
    let sub = |value: Value| with("sub", value);
    vec![
        Case::new("iss: upstash", iss(json!("upstash")), BODY),
        Case::new("iss: a trailing space", iss(json!("Upstash ")), BODY),
        Case::new("iss: empty", iss(json!("")), BODY),
        Case::new("iss: in a list", iss(json!(["Upstash"])), BODY),
        Case::new("iss: null", iss(Value::Null), BODY),
        Case::new("iss: missing", without("iss"), BODY),
        Case::new("iss: as Iss", token(HEADER, claims().to_string().replace("\"iss\"", "\"Iss\"")), BODY),
        Case::new("sub: another host", sub(json!("https://other.example/api/agent-cron/relay")), BODY),
        Case::new("sub: a trailing slash", sub(json!(format!("{URL}/"))), BODY),
        Case::new("sub: with a query", sub(json!(format!("{URL}?a=b"))), BODY),
        Case::new("sub: http for https", sub(json!(URL.replace("https", "http"))), BODY),
        Case::new("sub: the host in upper case", sub(json!(URL.replace("portal", "PORTAL"))), BODY),
        Case::new("sub: in a list", sub(json!([URL])), BODY),
        Case::new("sub: null", sub(Value::Null), BODY),
        Case::new("sub: a number", sub(json!(1)), BODY),
        Case::new("sub: missing", without("sub"), BODY),
        Case::new("sub: missing, URL not given", without("sub"), BODY).unbound().because(REQUIRED_IN_PYTHON),
        Case::new("sub: right, URL not given", good_token(), BODY).unbound().good(),
        Case::new("sub: another, URL not given", sub(json!("https://other.example/")), BODY)
            .unbound()
            .because(ALWAYS_BOUND),
    ]
}

fn bodies() -> Vec<Case> {
    let of = |body: &[u8]| with("body", json!(URL_SAFE.encode(hash(body))));
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000_000)).into_bytes();
    let raw = b"{\"a\":\"\xff\"}";
    let replaced = String::from_utf8_lossy(raw).into_owned().into_bytes();
    // A body whose hash the two alphabets encode differently.
    let two_spellings = (0_u32..1_000)
        .map(|number| number.to_string().into_bytes())
        .find(|body| URL_SAFE.encode(hash(body)) != STANDARD.encode(hash(body)))
        .unwrap();
    let standard = with("body", json!(STANDARD.encode(hash(&two_spellings))));
    vec![
        Case::new("body: hash with padding", good_token(), BODY).good(),
        Case::new("body: hash without padding", with("body", json!(encode(hash(BODY)))), BODY).good(),
        Case::new("body: hash with too much padding", with("body", json!(encode(hash(BODY)) + "====")), BODY)
            .good(),
        Case::new(
            "body: hash with padding before it",
            with("body", json!("=".to_owned() + &encode(hash(BODY)))),
            BODY,
        ),
        Case::new("body: hash in standard base64", standard, &two_spellings),
        Case::new("body: hash in hexadecimal", with("body", json!(hex::encode(hash(BODY)))), BODY),
        Case::new("body: hash of another body", of(b"{}"), BODY),
        Case::new("body: hash empty", with("body", json!("")), BODY),
        Case::new("body: hash null", with("body", Value::Null), BODY),
        Case::new("body: hash a number", with("body", json!(1)), BODY),
        Case::new("body: hash in a list", with("body", json!([URL_SAFE.encode(hash(BODY))])), BODY),
        Case::new("body: hash missing", without("body"), BODY),
        Case::new("body: a byte changed", good_token(), &BODY.to_ascii_uppercase()),
        Case::new("body: a trailing line break", good_token(), &[BODY, b"\n"].concat()),
        Case::new("body: cut off", good_token(), &BODY[..BODY.len() - 1]),
        Case::new("body: empty, and signed", of(b""), b"").good(),
        Case::new("body: empty, with the signature of another body", good_token(), b""),
        Case::new("body: 1 MB", of(&large), &large).good(),
        Case::new(
            "body: other scripts",
            of("{\"ü\":\"日本 🦀\"}".as_bytes()),
            "{\"ü\":\"日本 🦀\"}".as_bytes(),
        )
        .good(),
        Case::new("body: a NUL in it", of(b"a\0b"), b"a\0b").good(),
        Case::new("body: a byte order mark", of(b"\xef\xbb\xbf{}"), b"\xef\xbb\xbf{}").good(),
        Case::new("body: not UTF-8", of(raw), raw),
        Case::new("body: not UTF-8, hash of its lossy conversion", of(&replaced), raw)
            .because("Python rejects such text, Node replaces the invalid bytes"),
    ]
}

fn forms() -> Vec<Case> {
    let good = good_token();
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, tag) = (parts[0], parts[1], parts[2]);
    let padded = |part: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(part).unwrap());
    // The last of 43 characters has four bits of the hash and two unused bits.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(&tag[tag.len() - 1..]).unwrap();
    let sloppy_tag = format!("{}{}", &tag[..tag.len() - 1], &alphabet[last + 1..last + 2]);
    // A signature that the two alphabets encode differently.
    let (two_spellings, two_spelling_tag) = (0..1_000)
        .map(|number| with("jti", json!(format!("jwt_{number}"))))
        .map(|token| (token.clone(), URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap()))
        .find(|(_, tag)| STANDARD.encode(tag) != URL_SAFE.encode(tag))
        .unwrap();
    let two_spellings = two_spellings.rsplit_once('.').unwrap().0.to_owned();
    let standard = format!("{two_spellings}.{}", STANDARD.encode(two_spelling_tag).trim_end_matches('='));
    // Append spaces until the length requires padding.
    let blanks = (1..=2).map(|count| claims().to_string() + &" ".repeat(count));
    let padded_payload = blanks.map(|text| URL_SAFE.encode(text)).find(|text| text.ends_with('=')).unwrap();
    let half_padded_payload = (1..=3)
        .map(|count| URL_SAFE.encode(claims().to_string() + &" ".repeat(count)))
        .find_map(|text| text.strip_suffix("==").map(|text| format!("{text}=")))
        .unwrap();
    let half_padded = format!("{header}.{payload}.{}", tag.to_owned() + "==");
    vec![
        Case::new("form: empty", "", BODY),
        Case::new("form: a word", "signature", BODY),
        Case::new("form: two dots", "..", BODY),
        Case::new("form: two parts", format!("{header}.{payload}"), BODY),
        Case::new("form: four parts", format!("{good}.{tag}"), BODY),
        Case::new("form: a leading empty part", format!(".{good}"), BODY),
        Case::new("form: a trailing dot", format!("{good}."), BODY),
        Case::new("form: a leading space", format!(" {good}"), BODY),
        Case::new("form: a trailing space", format!("{good} "), BODY).because(LENIENT_NODE),
        Case::new("form: a trailing line break", format!("{good}\n"), BODY).because(LENIENT_NODE),
        Case::new("form: a space in the middle", good.replacen('.', ". ", 1), BODY),
        Case::new("form: Bearer prefix", format!("Bearer {good}"), BODY),
        Case::new("form: in quotes", format!("\"{good}\""), BODY),
        Case::new("form: twice, with a comma", format!("{good},{good}"), BODY),
        Case::new("form: letters of another script", format!("{good}é"), BODY).because(LENIENT_NODE),
        Case::new("signature: empty", format!("{header}.{payload}."), BODY),
        Case::new("signature: cut off", good[..good.len() - 4].to_owned(), BODY),
        Case::new("signature: two of them", format!("{good}{tag}"), BODY),
        Case::new("signature: not base64", format!("{header}.{payload}.!!!"), BODY),
        Case::new("signature: trailing junk", format!("{good}!"), BODY).because(LENIENT_NODE),
        Case::new("signature: junk in it", format!("{header}.{payload}.{}*{}", &tag[..9], &tag[9..]), BODY)
            .because(LENIENT_NODE),
        Case::new(
            "signature: another spelling of the last bits",
            format!("{header}.{payload}.{sloppy_tag}"),
            BODY,
        )
        .because("Python accepts only the canonical form"),
        Case::new("signature: in standard base64", standard, BODY).because(LENIENT_NODE),
        Case::new("signature: with padding", format!("{header}.{payload}.{}", padded(tag)), BODY).good(),
        Case::new("signature: with too much padding", half_padded, BODY)
            .because("Python accepts only complete padding"),
        Case::new(
            "signature: of the payload only",
            format!("{header}.{payload}.{}", encode(mac(hmac::HMAC_SHA256, CURRENT, payload))),
            BODY,
        ),
        Case::new("payload: with padding, signed", seal(CURRENT, header, &padded_payload), BODY).good(),
        Case::new("payload: half of its padding, signed", seal(CURRENT, header, &half_padded_payload), BODY)
            .because("Python accepts only complete padding"),
        Case::new("payload: not base64, signed", seal(CURRENT, header, "!!!"), BODY),
        Case::new("payload: trailing junk, signed", seal(CURRENT, header, &format!("{payload}!")), BODY)
            .because(LENIENT_NODE),
        Case::new("header: not base64, signed", seal(CURRENT, "!!!", payload), BODY),
        Case::new(
            "header: changed, not signed",
            format!("{}.{payload}.{tag}", encode(r#"{"alg":"HS256"}"#)),
            BODY,
        ),
        Case::new("payload: changed, not signed", format!("{header}.{}.{tag}", encode("{}")), BODY),
    ]
}

fn json_forms() -> Vec<Case> {
    let text = claims().to_string();
    let twice = |first: &str| token(HEADER, text.replacen('{', &format!("{{{first},"), 1));
    let last = |last: &str| token(HEADER, format!("{},{last}}}", &text[..text.len() - 1]));
    let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = format!("\"deep\":{}{}", "[".repeat(300), "]".repeat(300));
    let invalid = {
        let mut bytes = format!("{},\"x\":\"@\"}}", &text[..text.len() - 1]).into_bytes();
        let at = bytes.iter().rposition(|byte| *byte == b'@').unwrap();
        bytes[at] = 0xff;
        token(HEADER, bytes)
    };
    vec![
        Case::new("header: not JSON", token("alg=HS256", &text), BODY),
        Case::new("header: a list", token(r#"["alg","HS256"]"#, &text), BODY),
        Case::new("header: empty", seal(CURRENT, "", &encode(&text)), BODY),
        Case::new("payload: not JSON", token(HEADER, "iss=Upstash"), BODY),
        Case::new("payload: a list", token(HEADER, format!("[{text}]")), BODY),
        Case::new("payload: a text", token(HEADER, "\"Upstash\""), BODY),
        Case::new("payload: null", token(HEADER, "null"), BODY),
        Case::new("payload: empty", token(HEADER, ""), BODY),
        Case::new("payload: without claims", token(HEADER, "{}"), BODY),
        Case::new("payload: trailing data", token(HEADER, format!("{text}{{}}")), BODY),
        Case::new("payload: cut off", token(HEADER, &text[..text.len() - 1]), BODY),
        Case::new("payload: spaces and line breaks", token(HEADER, format!(" \n{text}\t ")), BODY).good(),
        Case::new(
            "payload: names with escapes",
            token(HEADER, text.replace("\"iss\"", "\"\\u0069ss\"")),
            BODY,
        )
        .good(),
        Case::new("payload: exp twice, the last one right", twice(r#""exp":0"#), BODY).because(AMBIGUOUS),
        Case::new("payload: exp twice, the last one expired", last(r#""exp":0"#), BODY),
        Case::new("payload: sub twice, the last one right", twice(r#""sub":"x""#), BODY).because(AMBIGUOUS),
        Case::new("payload: sub twice, the last one wrong", last(r#""sub":"x""#), BODY),
        Case::new("payload: body twice, the last one wrong", last(r#""body":"x""#), BODY),
        Case::new("payload: an unknown claim", last(r#""x":{"y":[1,null]}"#), BODY).good(),
        Case::new(
            "payload: a comma too many",
            token(HEADER, format!("{},}}", &text[..text.len() - 1])),
            BODY,
        ),
        Case::new("payload: a comment", token(HEADER, format!("{text}//")), BODY),
        Case::new("payload: not UTF-8", invalid, BODY)
            .because("Python rejects such text, Node replaces the invalid bytes"),
        Case::new("payload: UTF-16", token(HEADER, utf_16), BODY).because("Python guesses the encoding"),
        Case::new("payload: a byte order mark", token(HEADER, format!("\u{feff}{text}")), BODY)
            .because(STRICT_JSON),
        Case::new("payload: half a surrogate pair", last(r#""x":"\ud800""#), BODY).because(STRICT_JSON),
        Case::new("payload: 300 lists deep", last(&deep), BODY)
            .because("stricter than both: the service reads 64 levels, and QStash writes one"),
    ]
}

fn others() -> Vec<Case> {
    let aud = |value: Value| with("aud", value);
    let long = "x".repeat(20_000);
    vec![
        Case::new("aud: another", aud(json!("agent:inst-1")), BODY).because(CHECKED_IN_PYTHON),
        Case::new("aud: in a list", aud(json!(["Upstash"])), BODY).because(CHECKED_IN_PYTHON),
        Case::new("aud: empty", aud(json!("")), BODY).good(),
        Case::new("aud: an empty list", aud(json!([])), BODY).good(),
        Case::new("aud: null", aud(Value::Null), BODY).good(),
        Case::new("aud: zero", aud(json!(0)), BODY).good(),
        Case::new("jti: missing", without("jti"), BODY).good(),
        Case::new("jti: a number", with("jti", json!(1)), BODY).because(CHECKED_IN_PYTHON),
        Case::new("jti: null", with("jti", Value::Null), BODY).because(CHECKED_IN_PYTHON),
        Case::new("jti: 20,000 characters", with("jti", json!(long)), BODY).good(),
    ]
}
