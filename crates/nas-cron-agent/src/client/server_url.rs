//! The base URL of a server: where hop 1 is, and the name under which the auth store keeps what belongs to it.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// http or https, without credentials, query and fragment. Two spellings of one server are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// For clients of other kinds.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Whether what is sent there can be read on the way: http, and to another machine.
    pub fn is_in_the_clear(&self) -> bool {
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
            return Err("must not carry credentials; `nas-cron cron login` keeps them");
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
    fn one_server_has_one_name() {
        for text in ["https://portal.example", "https://portal.example/", "HTTPS://Portal.Example:443//"] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), "https://portal.example", "{text}");
        }
        let with_path: ServerUrl = "http://127.0.0.1:8090/nas/".parse().unwrap();
        assert_eq!(with_path.to_string(), "http://127.0.0.1:8090/nas");
    }

    #[test]
    fn plain_http_is_recognised() {
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
            assert_eq!(text.parse::<ServerUrl>().unwrap().is_in_the_clear(), in_the_clear, "{text}");
        }
    }

    #[test]
    fn an_invalid_base_url_is_refused_with_the_reason() {
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
