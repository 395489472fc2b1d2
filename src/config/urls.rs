//! URLs in settings: which are accepted, and how they are shown without credentials.

use url::{Host, Url};

use super::problem::Wrong;
use crate::domain::database_url::of_each_server;

/// An absolute http(s) URL that paths are appended to, kept byte for byte as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    text: String,
    url: Url,
}

impl BaseUrl {
    /// Returns the URL as written. Tokens carry it as `iss`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the parsed URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Appends `path`, which begins with a slash. A slash at the end of the base is not doubled.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text.strip_suffix('/').unwrap_or(&self.text))
    }
}

/// Parses an absolute http(s) URL without credentials and fragment.
pub(super) fn url(text: &str) -> Result<Url, Wrong> {
    let fix = "set an absolute URL such as https://portal.example/path";
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Wrong::new("contains white space", fix));
    }
    let url = Url::parse(text).map_err(|_| Wrong::new("is not an absolute URL", fix))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Wrong::new("is not an http(s) URL", fix));
    }
    // `https:host` and `https:/host` parse too, but the text would differ from the URL that is called.
    if !text.get(url.scheme().len()..).is_some_and(|rest| rest.starts_with("://")) {
        return Err(Wrong::new("is not an absolute URL", fix));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new(
            "contains credentials, which would be published",
            "remove everything before the @",
        ));
    }
    if url.fragment().is_some() {
        return Err(Wrong::new("contains a fragment", "remove the # and everything after it"));
    }
    Ok(url)
}

/// Parses a URL that paths are appended to.
pub(super) fn base_url(text: &str) -> Result<BaseUrl, Wrong> {
    let url = url(text)?;
    if url.query().is_some() {
        return Err(Wrong::new(
            "contains a query",
            "remove the ? and everything after it, since paths are appended",
        ));
    }
    Ok(BaseUrl { text: text.to_owned(), url })
}

/// Returns the URL with credentials replaced by `***`, also if its scheme is missing.
pub(super) fn without_credentials(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
    authority.rfind('@').map_or_else(|| text.to_owned(), |at| format!("{scheme}***{}", &rest[at..]))
}

/// Checks that the URL of a NATS server has no credentials, which would be printed with it. The client parses the rest.
pub(super) fn nats_server(text: &str) -> Result<String, Wrong> {
    if without_credentials(text) == text {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            "contains credentials",
            "set nats_credentials_file, and remove everything before the @",
        ))
    }
}

/// Checks the form of a Postgres URL with one host or several. The driver parses it again.
pub(super) fn database_url(text: &str) -> Result<String, Wrong> {
    let fix = "set a URL such as postgres://user:password@host:5432/database, with special characters percent-encoded";
    for server in
        of_each_server(text).map_err(|why| Wrong::new(format!("is an invalid database URL ({why})"), fix))?
    {
        let url = Url::parse(&server).map_err(|error| Wrong::new(format!("is not a URL ({error})"), fix))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(Wrong::new("is not a Postgres URL", fix));
        }
    }
    Ok(text.to_owned())
}

/// True if data sent to this URL cannot be read in transit: https, or a loopback address.
pub(super) fn keeps_secrets(url: &Url) -> bool {
    let local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    url.scheme() == "https" || local
}

/// Placeholder for an invalid URL.
pub(super) fn stand_in() -> BaseUrl {
    base_url("https://stand-in.invalid").expect("the stand-in is a URL")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_kept_byte_for_byte_and_joined_with_one_slash() {
        for text in ["https://Portal.example", "https://portal.example/", "http://portal.example:80/a/b/"] {
            let base = base_url(text).unwrap();
            assert_eq!(base.as_str(), text);
            assert_eq!(base.join("/x"), format!("{}/x", text.trim_end_matches('/')));
        }
    }

    #[test]
    fn invalid_base_urls_are_rejected() {
        for text in [
            "",
            "portal.example",
            "//portal.example",
            "ftp://portal.example",
            "https:portal.example",
            "https:/portal.example",
            "https://",
            "https://portal.example?a=b",
            "https://portal.example?",
            "https://portal.example#",
            "https://user@portal.example",
            "https://user:pass@portal.example",
            " https://portal.example",
            "https://portal.example/\n",
        ] {
            assert!(base_url(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn credentials_are_removed_from_shown_urls() {
        assert_eq!(without_credentials("https://u:p@ss@host/x@y"), "https://***@host/x@y");
        assert_eq!(without_credentials("https://host/x@y"), "https://host/x@y");
        assert_eq!(without_credentials("postgres://u:p@host?x"), "postgres://***@host?x");
        assert_eq!(without_credentials("u:p@host:4222"), "***@host:4222");
        assert_eq!(without_credentials("host/x@y"), "host/x@y");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}") {
            let _ = (url(&text), base_url(&text), database_url(&text), nats_server(&text));
            let _ = without_credentials(&text);
        }

        #[test]
        fn every_base_url_keeps_its_text(path in "(/[a-zA-Z0-9._~-]{0,8}){0,3}") {
            let text = format!("https://portal.example{path}");
            let base = base_url(&text).unwrap();
            prop_assert_eq!(base.as_str(), text);
        }
    }
}
