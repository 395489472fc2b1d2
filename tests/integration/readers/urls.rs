//! Callback URLs: every reader calls the same host.

use std::net::IpAddr;

use nas_cron_protocol::CallbackUrl;
use percent_encoding::percent_decode_str;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::{node, python};

/// Returns a text that is made of valid and of odd parts.
fn some_url() -> String {
    let labels = [
        "agent",
        "example",
        "a",
        "1",
        "127",
        "0x7f",
        "0127",
        "bücher",
        "xn--bcher-kva",
        "%61",
        "%2e",
        "%00",
        "_",
        "-",
        "ß",
        "\u{ff11}",
        "\u{2460}",
        "\u{ad}",
        "\u{212a}",
        "*",
        "~",
        "a b",
    ];
    let hosts = [
        "127.0.0.1",
        "2130706433",
        "127.1",
        "0x7f.0.0.1",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "[::1%25eth0]",
        "[v1.x]",
        "[::1",
        "::1]",
        "",
        ".",
        "agent.example.",
        "agent..example",
        "agent\u{3002}example",
        "agent.example\u{ff0e}",
        "1.2.3.4.5",
        "256.0.0.1",
    ];
    let parts: [&[&str]; 5] = [
        &[
            "https://",
            "https://",
            "http://",
            "HTTPS://",
            "https:/",
            "https:",
            "https:///",
            "ftp://",
            "https:\\\\",
            " https://",
        ],
        &["", "", "", "", "u@", "u:p@", "@", "agent.example@", "agent.example:443@"],
        &["", "", "", ":443", ":80", ":8443", ":", ":0", ":65536", ":8x", ":08"],
        &[
            "",
            "",
            "/",
            "/p",
            "/a/../b",
            "/api/cron/fire",
            "/%2e%2e/",
            "\\x",
            "/@evil.example",
            "//evil.example/",
            ";x",
        ],
        &["", "", "", "", "?q", "#f", "#@evil.example", "\t", "\n", "\u{0}"],
    ];
    let pick = |from: &[&str]| (*from.choose(&mut rand::rng()).expect("not empty")).to_owned();
    let host = match rand::random_range(0..4) {
        0 => pick(&hosts),
        1 => pick(&labels),
        2 => format!("{}.{}", pick(&labels), pick(&labels)),
        _ => format!("{}.{}.example", pick(&labels), pick(&labels)),
    };
    [pick(parts[0]), pick(parts[1]), host, pick(parts[2]), pick(parts[3]), pick(parts[4])].concat()
}

/// Returns the host in the form in which hosts are compared.
fn comparable(host: &str) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => percent_decode_str(bare).decode_utf8_lossy().to_lowercase(),
    }
}

#[tokio::test]
async fn accepted_urls_have_the_same_host_and_port_for_readers_of_both_standards() {
    let corpus: Value = serde_json::from_str(include_str!("../../data/callback_hosts.json")).unwrap();
    let listed = ["accepted", "refused"].into_iter().flat_map(|name| corpus[name].as_array().unwrap());
    let mut texts: Vec<String> = listed.map(|entry| entry["url"].as_str().unwrap().to_owned()).collect();
    texts.extend((0..20_000).map(|_| some_url()));
    let accepted: Vec<CallbackUrl> = texts.iter().filter_map(|text| CallbackUrl::parse(text).ok()).collect();
    assert!(accepted.len() >= 200, "{} of {}", accepted.len(), texts.len());

    let asked = json!({"urls": accepted.iter().map(CallbackUrl::as_str).collect::<Vec<_>>()});
    let (python, node) = tokio::join!(python(&asked), node(&asked));
    let (mut by_urllib, mut by_rfc3986) = (0, 0);
    for (at, callback) in accepted.iter().enumerate() {
        let (text, url) = (callback.as_str(), callback.url());
        let host = url.host_str().expect("a host");
        let theirs = &node["urls"][at];
        let ours = json!({"scheme": url.scheme(), "host": host, "port": url.port()});
        assert_eq!(*theirs, ours, "{text}, by the WHATWG");
        // The older standard knows no names beyond ASCII.
        if !text.is_ascii() {
            continue;
        }
        for (reader, theirs, count) in [
            ("urllib", &python["urls"][at][0], &mut by_urllib),
            ("rfc3986", &python["urls"][at][1], &mut by_rfc3986),
        ] {
            let Some(theirs_host) = theirs["host"].as_str() else { continue };
            assert_eq!(comparable(theirs_host), comparable(host), "{text}, by {reader}");
            let port = theirs["port"].as_u64().or_else(|| url.port_or_known_default().map(u64::from));
            assert_eq!(port, url.port_or_known_default().map(u64::from), "{text}, by {reader}");
            assert_eq!(theirs["scheme"], url.scheme(), "{text}, by {reader}");
            *count += 1;
        }
    }
    assert!(by_urllib >= 100 && by_rfc3986 >= 100, "{by_urllib}, {by_rfc3986}");
}
