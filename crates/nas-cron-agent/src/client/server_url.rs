//! The base URL of a server: the root of the agent API, and the key of the server's entry in the auth store.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// An http or https URL without credentials, query or fragment. Two spellings of one server are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// The URL, without a trailing slash in its path.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// True if the network path can read the requests: http to another machine.
    pub fn is_unencrypted(&self) -> bool {
        self.0.scheme() == "http"
            && match self.0.host() {
                Some(Host::Domain(name)) => name != "localhost" && !name.ends_with(".localhost"),
                Some(Host::Ipv4(address)) => !address.is_loopback(),
                Some(Host::Ipv6(address)) => !address.to_canonical().is_loopback(),
                None => true,
            }
    }
}

impl FromStr for ServerUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut url = Url::parse(text.trim())
            .map_err(|_| "must be an absolute http(s) URL, such as https://portal.example")?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err("must be an absolute http(s) URL, such as https://portal.example");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain credentials: `nas-cron cron login` stores them");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must have neither a query nor a fragment");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_server_are_equal() {
        for text in ["https://portal.example", "https://portal.example/", "HTTPS://Portal.Example:443//"] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), "https://portal.example", "{text}");
        }
        let with_path: ServerUrl = "http://127.0.0.1:8090/nas/".parse().unwrap();
        assert_eq!(with_path.to_string(), "http://127.0.0.1:8090/nas");
    }

    #[test]
    fn plain_http_to_another_machine_is_unencrypted() {
        for (text, in_the_clear) in [
            ("https://portal.example", false),
            ("http://portal.example", true),
            ("http://192.0.2.1:8090", true),
            ("http://[2001:db8::1]", true),
            ("http://localhost.portal.example", true),
            ("http://localhost:8090", false),
            ("http://portal.localhost", false),
            ("http://127.1.2.3", false),
            ("http://[::1]:8090", false),
            ("http://[::ffff:127.0.0.1]", false),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().is_unencrypted(), in_the_clear, "{text}");
        }
    }

    #[test]
    fn invalid_base_url_is_rejected_with_the_reason() {
        for (text, why) in [
            ("portal.example", "absolute"),
            ("ftp://portal.example", "absolute"),
            ("https://u:p@portal.example", "credentials"),
            ("https://portal.example/?a=b", "query"),
            ("https://portal.example/#a", "fragment"),
        ] {
            assert!(text.parse::<ServerUrl>().unwrap_err().contains(why), "{text}");
        }
    }
}
