//! Parsing of values: one pure function per kind of setting. Errors never quote the value, which may be a secret.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use ipnet::IpNet;
use nas_cron_base::duration::{self, NotADuration};
use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::problem::Wrong;

/// Parses a token that is sent in a header.
pub(super) fn header(text: &str) -> Result<String, Wrong> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            "contains characters that are not allowed in a header",
            "use visible ASCII characters without spaces",
        ))
    }
}

/// Parses an IP address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    SocketAddr::from_str(text).map_err(|_| {
        Wrong::new(
            "is not a listen address",
            "set an IP address and a port, such as 0.0.0.0:8080 or [::]:8080",
        )
    })
}

/// Parses a whole number from `min` to `max`.
pub(super) fn count(text: &str, min: u64, max: u64) -> Result<u64, Wrong> {
    let fix = || format!("set a whole number from {min} to {max}");
    let count = u64::from_str(text).map_err(|_| Wrong::new("is not a whole number", fix()))?;
    match count {
        _ if count < min => Err(Wrong::new("is too small", fix())),
        _ if count > max => Err(Wrong::new("is too large", fix())),
        _ => Ok(count),
    }
}

/// Parses a duration from `min` to `max`.
pub(super) fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration, Wrong> {
    let fix = || {
        let (min, max) = (duration::format(min), duration::format(max));
        format!("set a duration from {min} to {max}, such as 500ms, 30s, 5m, 12h or 90d")
    };
    let duration = duration::parse(text).map_err(|problem| {
        let problem = match problem {
            NotADuration::NoUnit => "is a duration without a unit",
            NotADuration::NoFixedLength => "uses months or years, whose length varies (a minute is m, not M)",
            NotADuration::Negative => "is negative",
            NotADuration::TooLong => "is too long",
            NotADuration::Malformed => "is not a duration",
        };
        Wrong::new(problem, fix())
    })?;
    match duration {
        _ if duration < min => Err(Wrong::new("is too short", fix())),
        _ if duration > max => Err(Wrong::new("is too long", fix())),
        _ => Ok(duration),
    }
}

/// Parses a number from 0 to 1.
pub(super) fn ratio(text: &str) -> Result<f64, Wrong> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| Wrong::new("is not a number from 0 to 1", "set a share such as 0.1 or 1"))
}

/// Parses headers: `name=value`, with commas or line breaks between them, and values percent-encoded, as in
/// `OTEL_EXPORTER_OTLP_HEADERS`. All are marked as sensitive.
pub(super) fn headers(text: &str) -> Result<HeaderMap, Wrong> {
    // No part of the text is shown: it is a secret.
    let wrong = |problem| Wrong::new(problem, "set headers such as authorization=Bearer%20TOKEN,x-tenant=a");
    let mut headers = HeaderMap::new();
    for header in text.split([',', '\n']).map(str::trim).filter(|header| !header.is_empty()) {
        let (name, value) = header.split_once('=').ok_or_else(|| wrong("has a header without ="))?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong("has an invalid header name"))?;
        let value: Cow<'_, [u8]> = percent_decode_str(value.trim()).into();
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| wrong("has an invalid header value"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Parses a boolean.
pub(super) fn switch(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Wrong::new("is not a boolean", "set true or false")),
    }
}

/// Returns the one of `words` that equals the text, ignoring case.
pub(super) fn choice(text: &str, words: &'static [&'static str]) -> Result<&'static str, Wrong> {
    // Case and the kind of separators do not matter: QStash's own tools spell a region US_EAST_1.
    let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    words.iter().copied().find(|word| plain(word) == plain(text)).ok_or_else(|| {
        Wrong::new(
            "is not a known value",
            match words {
                [one, other] => format!("set {one} or {other}"),
                several => format!("set one of {}", several.join(", ")),
            },
        )
    })
}

/// Parses a network. A bare address is a network of one host.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Ok(IpNet::from(address));
    }
    let network = IpNet::from_str(text).map_err(|_| {
        Wrong::new("is not a network", "set addresses and networks such as 10.0.0.0/8, 192.0.2.7 or fd00::/8")
    })?;
    if network == network.trunc() {
        Ok(network)
    } else {
        Err(Wrong::new(
            "has host bits set",
            format!("set {} for the network or {} for the single address", network.trunc(), network.addr()),
        ))
    }
}

/// Parses a SHA-256 hash in hex.
pub(super) fn hash(text: &str) -> Result<[u8; 32], Wrong> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).map_err(|_| {
        Wrong::new(
            "is not a SHA-256 hash in hex (64 digits)",
            "set the token's hash, not the token: printf %s \"$TOKEN\" | sha256sum",
        )
    })?;
    Ok(hash)
}

/// Advice on a missing or invalid key-encryption key. The configuration does not show if a database has encrypted keys, and
/// a new key-encryption key beside them would stop the service.
pub(super) const KEY_ENCRYPTION_KEY_FIX: &str = "set NAS_CRON_KEY_ENCRYPTION_KEY or NAS_CRON_KEY_ENCRYPTION_KEY_FILE to the same key on every replica; only for a new \
     database, generate one with: openssl rand -base64 32";

/// Parses 32 bytes in base64, in either alphabet, with or without padding.
pub(super) fn key(text: &str) -> Result<[u8; 32], Wrong> {
    let fix = KEY_ENCRYPTION_KEY_FIX;
    let bytes = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
        .ok_or_else(|| Wrong::new("is not base64", fix))?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| Wrong::new(format!("is {length} bytes long instead of 32"), fix))
}

/// Checks the directives of a log filter.
pub(super) fn log_filter(text: &str) -> Result<String, Wrong> {
    // The parser slices at byte positions and panics inside a multi-byte character (tracing-subscriber 0.3.23).
    if !text.is_ascii() {
        let fix = "set a filter such as info or info,nas_cron::fire=debug";
        return Err(Wrong::new("is not a valid log filter (non-ASCII characters)", fix));
    }
    tracing_subscriber::EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| {
        Wrong::new(
            format!("is not a valid log filter ({error})"),
            "set a filter such as info or info,nas_cron::fire=debug",
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bare_address_is_a_network_of_one() {
        assert_eq!(network("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        let wrong = network("10.1.2.3/8").unwrap_err();
        assert_eq!(wrong.fix, "set 10.0.0.0/8 for the network or 10.1.2.3 for the single address");
        for text in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/8/8"] {
            assert!(network(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_stay_within_bounds() {
        let (min, max) = (Duration::from_mins(1), Duration::from_mins(2));
        assert_eq!(duration("1m 30s", min, max).unwrap(), Duration::from_secs(90));
        assert_eq!(duration("60s", min, max).unwrap(), min);
        assert_eq!(duration("2min", min, max).unwrap(), max);
        for (text, wrong) in [
            ("59s", "is too short"),
            ("120001ms", "is too long"),
            ("90", "is a duration without a unit"),
            ("", "is not a duration"),
            ("soon", "is not a duration"),
            ("-90s", "is negative"),
            ("1M", "uses months or years, whose length varies (a minute is m, not M)"),
        ] {
            assert_eq!(duration(text, min, max).unwrap_err().wrong, wrong, "{text:?}");
        }
    }

    #[test]
    fn keys_are_32_bytes_in_base64() {
        let bytes = [0xfb; 32];
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            assert_eq!(key(&engine.encode(bytes)).unwrap(), bytes);
        }
        assert_eq!(key(&STANDARD.encode([0; 31])).unwrap_err().wrong, "is 31 bytes long instead of 32");
        assert_eq!(key("not base64!").unwrap_err().wrong, "is not base64");
    }

    #[test]
    fn choices_booleans_counts_and_filters_are_checked() {
        assert_eq!(choice("es256", &["ES256", "RS256"]).unwrap(), "ES256");
        assert_eq!(choice("US_EAST_1", &["eu-central-1", "us-east-1"]).unwrap(), "us-east-1");
        assert_eq!(choice("HS256", &["ES256", "RS256"]).unwrap_err().fix, "set ES256 or RS256");
        assert!(switch("on").unwrap() && !switch("0").unwrap() && switch("maybe").is_err());
        assert_eq!(count("4", 4, 5).unwrap(), 4);
        assert_eq!(count("3", 4, 5).unwrap_err().fix, "set a whole number from 4 to 5");
        assert_eq!(count("6", 4, 5).unwrap_err().wrong, "is too large");
        assert_eq!(count("-1", 4, 5).unwrap_err().wrong, "is not a whole number");
        assert!(log_filter("info,nas_cron=debug").is_ok() && log_filter("nas_cron=loud").is_err());
        assert!(log_filter("\u{20000}[").is_err(), "where the parser itself would panic");
    }

    #[test]
    fn headers_are_pairs_with_percent_encoded_values() {
        let headers = headers("authorization=Bearer%20a%3D%3D, x-tenant = b\nx-more=c=d").unwrap();
        assert_eq!(headers["authorization"], "Bearer a==");
        assert_eq!(
            (&headers["x-tenant"], &headers["x-more"]),
            (&"b".parse().unwrap(), &"c=d".parse().unwrap())
        );
        assert!(headers.values().all(HeaderValue::is_sensitive));
        for (text, problem) in [
            ("secret", "has a header without ="),
            ("a b=secret", "has an invalid header name"),
            ("a=secret%0A", "has an invalid header value"),
        ] {
            let wrong = super::headers(text).unwrap_err();
            assert_eq!(wrong.wrong, problem);
            assert!(!format!("{wrong:?}").contains("secret"));
        }
    }

    #[test]
    fn ratios_are_from_0_to_1() {
        let shown = ["0", "0.25", "1"].map(|text| ratio(text).unwrap().to_string());
        assert_eq!(shown, ["0", "0.25", "1"]);
        for text in ["", "-0.1", "1.1", "NaN", "10%"] {
            assert!(ratio(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_hashes_round_trip(text in ".{0,80}", bytes: [u8; 32]) {
            let _ = (address(&text), network(&text));
            let _ = (ratio(&text), headers(&text), hash(&text), key(&text), log_filter(&text), duration(&text, Duration::ZERO, Duration::MAX));
            prop_assert_eq!(hash(&hex::encode(bytes)).unwrap(), bytes);
            prop_assert_eq!(hash(&hex::encode_upper(bytes)).unwrap(), bytes);
        }

        #[test]
        fn no_log_filter_panics(text in "[a-z:=,\\[\\]{}\"#/ 0-9]{0,24}") {
            let _ = log_filter(&text);
        }
    }
}
