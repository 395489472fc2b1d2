//! The base URL at which an agent receives fires.

use serde::{Serialize, Serializer};
use url::{Host, Url};

use super::InvalidField;

/// Regular expression of a character of a name other than a digit. A letter may be percent-encoded.
#[cfg(feature = "openapi")]
macro_rules! letter {
    () => {
        "(?:[A-Za-z_\\u00a1-\\uffff-]|%(?:[46][1-9A-Fa-f]|[57][0-9Aa]))"
    };
}

/// Regular expression (ECMA-262) of the scheme and the authority of a URL.
#[cfg(feature = "openapi")]
macro_rules! authority {
    () => {
        concat!(
            "^[Hh][Tt][Tt][Pp][Ss]?://(?:(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}",
            "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])|\\[[0-9A-Fa-f:.]+\\]|",
            "(?:(?:[0-9]|",
            letter!(),
            ")+[.])*[0-9]*",
            letter!(),
            "(?:[0-9]|",
            letter!(),
            ")*[.]?)",
            "(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])?)?"
        )
    };
}

const FIELD: &str = "agent_callback_url";
/// Maximum length of an http or https URL, in bytes.
pub const MAX_URL: usize = 2048;
/// Regular expression (ECMA-262) of http and https URLs without credentials and fragment. The host is an IPv4 address in
/// decimal, an IPv6 address, or a name that does not end in a number.
#[cfg(feature = "openapi")]
const HTTP_URL: &str = concat!(authority!(), "(?:[/?][^\\s\\\\#\\u0000-\\u001f\\u007f-\\u009f]*)?$");
/// The same, without a query.
#[cfg(feature = "openapi")]
const BASE_URL: &str = concat!(authority!(), "(?:/[^\\s\\\\?#\\u0000-\\u001f\\u007f-\\u009f]*)?$");
/// Path of the fire endpoint, below the base URL.
const FIRE_PATH: &str = "/api/cron/fire";

/// An agent's base URL: http or https, without credentials, query or fragment. The text is kept as it was sent, except
/// that the URL of a fire endpoint is taken as its base. Its address is checked against the policy at the fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackUrl {
    text: String,
    url: Url,
    was_fire_url: bool,
}

#[cfg(feature = "openapi")]
crate::text_schema!(
    CallbackUrl,
    crate::schema::TextSchema {
        pattern: Some(BASE_URL),
        ..http_url_schema(
            "Base URL of an agent: http or https, without credentials, query and fragment. An IPv4 address is in decimal.",
            "https://agent-1.example"
        )
    }
);

impl CallbackUrl {
    /// Validates the syntax. A trailing slash and a path prefix are allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let base = base_of(text);
        let url = http_url(base).map_err(|problem| InvalidField::new(FIELD, problem))?;
        if text.len() > MAX_URL {
            return Err(InvalidField::new(FIELD, TOO_LONG));
        }
        if url.query().is_some() {
            return Err(InvalidField::new(FIELD, "must not have a query"));
        }
        Ok(Self { text: base.to_owned(), url, was_fire_url: base.len() < text.len() })
    }

    /// Parses a stored value, which was validated on insert; `None` if it is not a URL. The text is kept as it is stored.
    pub fn stored(text: String) -> Option<Self> {
        let base = base_of(&text);
        let url = Url::parse(base).ok()?;
        Some(Self { was_fire_url: base.len() < text.len(), text, url })
    }

    /// Returns true if the given text was the URL of the fire endpoint and not its base.
    pub fn was_fire_url(&self) -> bool {
        self.was_fire_url
    }

    /// The base URL, as the agent sent it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parsed URL.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

const TOO_LONG: &str = "must be at most 2048 bytes long";

/// Parses an http or https URL that every reader takes for the same address: without credentials and fragment, and with a
/// host in its usual form. The error is the problem.
pub fn http_url(text: &str) -> Result<Url, String> {
    if text.len() > MAX_URL {
        return Err(TOO_LONG.to_owned());
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must not contain white space or control characters".to_owned());
    }
    if text.contains('\\') {
        return Err("must not contain a backslash".to_owned());
    }
    let url =
        Url::parse(text).map_err(|_| "must be an absolute http(s) URL, such as https://agent.example")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be an http or https URL".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("must have a host".to_owned());
    }
    if let Some(Host::Domain(name)) = url.host()
        && name.strip_suffix('.').unwrap_or(name).split('.').any(str::is_empty)
    {
        return Err("must not have an empty label in its host".to_owned());
    }
    let Some(authority) = authority(text) else {
        return Err("must begin with `http://` or `https://`, followed by the host".to_owned());
    };
    // Empty ones, as in `https://@agent.example`, are not in the parsed URL.
    if authority.contains('@') {
        return Err("must not carry credentials".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment".to_owned());
    }
    if url.port() == Some(0) {
        return Err("must not have port 0".to_owned());
    }
    // Other forms (octal, short, full-width, with a dot at the end …) are another address, or a name, to another reader.
    if let Some(Host::Ipv4(address)) = url.host() {
        let decimal = address.to_string();
        let host = authority.split_once(':').map_or(authority, |(host, _)| host);
        if host.strip_suffix('.') == Some(decimal.as_str()) {
            return Err("must not have a dot at the end of an IPv4 address".to_owned());
        }
        if host != decimal {
            return Err(format!("must write an IPv4 address in decimal: this host is read as {address}"));
        }
    }
    Ok(url)
}

/// The schema of the URLs that [`http_url`] accepts.
#[cfg(feature = "openapi")]
pub const fn http_url_schema(description: &'static str, example: &'static str) -> crate::schema::TextSchema {
    crate::schema::TextSchema {
        description,
        max_bytes: Some(MAX_URL),
        pattern: Some(HTTP_URL),
        format: Some("uri"),
        example,
    }
}

/// Returns the text without the path of the fire endpoint at its end. Taking the base of a base changes nothing.
fn base_of(text: &str) -> &str {
    let mut base = text;
    while let Some(shorter) = base.trim_end_matches('/').strip_suffix(FIRE_PATH)
        // Otherwise the first part of the path is the host: `http://api/cron/fire`.
        && shorter.contains("://")
    {
        base = shorter;
    }
    base
}

/// Returns what is between the two slashes and the path, as the text spells it. `https:https://agent.example` has none:
/// some readers take it for the host `https`.
fn authority(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    rest.split(['/', '?', '#']).next().filter(|authority| !authority.is_empty())
}

impl Serialize for CallbackUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_with_slashes_and_prefixes_are_kept_unchanged() {
        for text in ["https://agent.example", "https://agent.example/", "http://127.0.0.1:9119/a/b/"] {
            assert_eq!(CallbackUrl::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn url_of_the_fire_endpoint_is_taken_as_its_base() {
        for (text, base) in [
            ("https://agent.example/api/cron/fire", "https://agent.example"),
            ("https://agent.example/api/cron/fire/", "https://agent.example"),
            ("https://agent.example//api/cron/fire", "https://agent.example/"),
            ("http://127.0.0.1:9119/p/work/api/cron/fire", "http://127.0.0.1:9119/p/work"),
            ("https://agent.example/api/cron/fire/api/cron/fire", "https://agent.example"),
        ] {
            let url = CallbackUrl::parse(text).unwrap();
            assert_eq!((url.as_str(), url.was_fire_url()), (base, true), "{text}");
            let again = CallbackUrl::parse(url.as_str()).unwrap();
            assert_eq!((again.as_str(), again.was_fire_url()), (base, false));
            let stored = CallbackUrl::stored(text.to_owned()).unwrap();
            assert_eq!((stored.url(), stored.was_fire_url()), (url.url(), true), "stored before this rule");
        }
        for text in [
            "https://agent.example/api/cron/fires",
            "https://agent.example/xapi/cron/fire",
            "https://agent.example/api/cron/fire/x",
            "https://agent.example/API/cron/fire",
            "http://api/cron/fire",
        ] {
            let url = CallbackUrl::parse(text).unwrap();
            assert_eq!((url.as_str(), url.was_fire_url()), (text, false));
            assert!(!CallbackUrl::stored(text.to_owned()).unwrap().was_fire_url());
        }
        assert!(CallbackUrl::parse("https:/api/cron/fire").is_err(), "a host is required");
        assert!(CallbackUrl::parse("https:///api/cron/fire").is_err());
    }

    /// URLs that are accepted, with the host that is dialled, and those that are refused: the expected answers of every
    /// way that a callback comes in.
    #[test]
    fn hosts_are_accepted_only_if_every_reader_reads_the_same() {
        let corpus: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/data/callback_hosts.json")).unwrap();
        let entries = |name: &str| corpus[name].as_array().unwrap().iter();
        assert!(entries("accepted").count() + entries("refused").count() >= 60);
        for entry in entries("accepted") {
            let url = CallbackUrl::parse(entry["url"].as_str().unwrap())
                .unwrap_or_else(|error| panic!("{entry}: {}", error.problem));
            assert_eq!(url.url().host_str(), entry["host"].as_str(), "{entry}");
            #[cfg(feature = "openapi")]
            for pattern in [BASE_URL, HTTP_URL] {
                assert!(regex::Regex::new(pattern).unwrap().is_match(url.as_str()), "{entry}: {pattern}");
            }
            assert_eq!(url.as_str(), entry["url"]);
        }
        for entry in entries("refused") {
            let Err(error) = CallbackUrl::parse(entry["url"].as_str().unwrap()) else {
                panic!("accepted: {entry}")
            };
            assert_eq!(error.field, "agent_callback_url", "{entry}");
        }
        // Stored before these rules.
        let stored = CallbackUrl::stored("https://0127.0.0.1/".to_owned()).unwrap();
        assert_eq!((stored.as_str(), stored.url().as_str()), ("https://0127.0.0.1/", "https://87.0.0.1/"));
        assert!(CallbackUrl::stored("https://agent.example:0".to_owned()).is_some());
    }

    #[test]
    fn invalid_url_is_rejected_and_names_the_field() {
        for text in [
            "",
            "agent.example",
            "ftp://agent.example",
            "https://",
            "https://u:p@agent.example",
            "https://u@agent.example",
            "https://agent.example/#f",
            "https://agent.example/?q=1",
            "https://agent.example/ a",
            "https://agent.example/\n",
            "javascript:alert(1)",
            "unix:/tmp/x",
        ] {
            let error = CallbackUrl::parse(text).expect_err(text);
            assert_eq!(error.field, "agent_callback_url");
        }
    }

    #[test]
    fn url_has_at_most_2048_bytes_the_path_of_the_fire_endpoint_included() {
        let of_length = |end: &str, length: usize| {
            let start = "https://a.example/";
            format!("{start}{}{end}", "x".repeat(length - start.len() - end.len()))
        };
        for end in ["", FIRE_PATH] {
            assert!(CallbackUrl::parse(&of_length(end, 2048)).is_ok(), "{end}");
            for length in [2049, 2050, 4096] {
                let error = CallbackUrl::parse(&of_length(end, length)).unwrap_err();
                assert_eq!(error.problem, "must be at most 2048 bytes long", "{end}");
            }
        }
        assert!(http_url(&of_length("", 2048)).is_ok());
        assert_eq!(http_url(&of_length("", 4096)), Err(TOO_LONG.to_owned()));
    }
}
