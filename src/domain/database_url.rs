//! Database URLs that name one server or several, as libpq writes them.
//!
//! `postgres://user@a:5432,b:5433/nas_cron?target_session_attrs=read-write`, or the hosts and ports as parameters:
//! `postgres:///nas_cron?host=a,b&port=5432,5433`. The driver knows one host, so each gets a URL of its own.

use url::form_urlencoded::Serializer;

/// Supported values of `target_session_attrs`. The service always writes, so libpq's values that select a standby are
/// rejected.
const TARGETS: &[&str] = &["any", "read-write", "primary"];

/// A URL in its parts, as written.
struct Parts<'u> {
    scheme: &'u str,
    /// User and password, up to the `@`; may be empty.
    credentials: &'u str,
    hosts: &'u str,
    path: &'u str,
    query: &'u str,
}

impl<'u> Parts<'u> {
    fn of(url: &'u str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme: begin with postgres://")?;
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match before_query.find('/') {
            Some(at) => before_query.split_at(at),
            None => (before_query, ""),
        };
        // The last `@`: a password may contain one.
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        Ok(Self { scheme, credentials, hosts, path, query })
    }

    /// Returns the parameters, in their order.
    fn parameters(&self) -> impl Iterator<Item = (&'u str, &'u str)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// True if the URL has a user, before the host or as a parameter.
    fn names_user(&self) -> bool {
        let user = self.credentials.split(':').next().unwrap_or_default();
        !user.is_empty() || self.parameters().any(|(name, value)| name == "user" && !value.is_empty())
    }
}

/// Returns `url` with the user of `default` if it names none. Without a default the driver would invent a user.
pub fn with_user(url: &str, default: impl FnOnce() -> Result<String, String>) -> Result<String, String> {
    if Parts::of(url)?.names_user() {
        return Ok(url.to_owned());
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    let user = Serializer::new(String::new()).append_pair("user", &default()?).finish();
    Ok(format!("{url}{separator}{user}"))
}

/// Returns one URL for each server that `url` names, in its order. The error states the reason and contains no secrets.
pub fn of_each_server(url: &str) -> Result<Vec<String>, String> {
    let written = Parts::of(url)?;
    let mut parameters: Vec<(&str, &str)> = Vec::new();
    for (name, value) in written.parameters() {
        if name != "target_session_attrs" {
            parameters.push((name, value));
        } else if !TARGETS.contains(&value) {
            return Err(format!(
                "unsupported target_session_attrs={value}: the service needs a server that it can write to; use read-write"
            ));
        }
    }
    let list = |name: &str| -> Vec<&str> {
        let found = parameters.iter().find(|(one, _)| *one == name).map(|(_, value)| *value);
        found.map(|value| value.split(',').collect()).unwrap_or_default()
    };
    let (in_authority, named, ports): (Vec<&str>, _, _) =
        (written.hosts.split(',').collect(), list("host"), list("port"));
    let count = in_authority.len().max(named.len());
    if ports.len() > 1 && ports.len() != count {
        return Err(format!(
            "it names {count} hosts and {} ports: name one port for each host, or one for all",
            ports.len()
        ));
    }
    let of = |values: &[&str], number: usize| -> String {
        values.get(number).or_else(|| values.first()).copied().unwrap_or_default().to_owned()
    };
    Ok((0..count)
        .map(|number| {
            let mut query: Vec<_> = parameters
                .iter()
                .map(|(name, value)| match *name {
                    "host" => format!("host={}", of(&named, number)),
                    "port" => format!("port={}", of(&ports, number)),
                    name => format!("{name}={value}"),
                })
                .collect();
            let host = of(&in_authority, number);
            let authority = match written.credentials {
                "" => host,
                // libpq allows a user without a host, a URL does not.
                credentials if host.is_empty() => {
                    query.extend(credentials_as_parameters(credentials));
                    host
                }
                credentials => format!("{credentials}@{host}"),
            };
            let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
            format!("{}://{authority}{}{query}", written.scheme, written.path)
        })
        .collect())
}

/// Returns `user:password` as parameters. The escapes stay; two characters have a meaning of their own there.
fn credentials_as_parameters(credentials: &str) -> Vec<String> {
    let pairs = ["user", "password"].into_iter().zip(credentials.splitn(2, ':'));
    let named = pairs.filter(|(_, value)| !value.is_empty());
    named.map(|(name, value)| format!("{name}={}", value.replace('+', "%2B").replace('&', "%26"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_gets_its_own_url() {
        for (url, expected) in [
            ("postgres://u:p@a/db", vec!["postgres://u:p@a/db"]),
            ("postgres://u:p%40@a:1,b:2/db", vec!["postgres://u:p%40@a:1/db", "postgres://u:p%40@b:2/db"]),
            ("postgres://u:p@x@a,[::1]:2/db", vec!["postgres://u:p@x@a/db", "postgres://u:p@x@[::1]:2/db"]),
            (
                "postgresql://a,b/db?sslmode=require&target_session_attrs=read-write",
                vec!["postgresql://a/db?sslmode=require", "postgresql://b/db?sslmode=require"],
            ),
            (
                "postgres:///db?host=a,b&port=1,2",
                vec!["postgres:///db?host=a&port=1", "postgres:///db?host=b&port=2"],
            ),
            (
                "postgres:///db?host=a,b&port=1",
                vec!["postgres:///db?host=a&port=1", "postgres:///db?host=b&port=1"],
            ),
            ("postgres://a", vec!["postgres://a"]),
            ("postgres:///db", vec!["postgres:///db"]),
            ("postgres://u@/db?host=/s", vec!["postgres:///db?host=/s&user=u"]),
            ("postgres://u%40x:a+b&c@/db", vec!["postgres:///db?user=u%40x&password=a%2Bb%26c"]),
        ] {
            assert_eq!(of_each_server(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn url_without_a_user_gets_the_default_one() {
        for (url, expected) in [
            ("postgres:///db", "postgres:///db?user=m%40x"),
            ("postgres://a,b/db?port=1", "postgres://a,b/db?port=1&user=m%40x"),
            ("postgres://:secret@a/db", "postgres://:secret@a/db?user=m%40x"),
            ("postgres://@a/db?user=", "postgres://@a/db?user=&user=m%40x"),
            ("postgres://u@a/db", "postgres://u@a/db"),
            ("postgres:///db?user=u", "postgres:///db?user=u"),
        ] {
            assert_eq!(with_user(url, || Ok("m@x".to_owned())).unwrap(), expected);
        }
        assert_eq!(with_user("postgres:///db", || Err("why".to_owned())), Err("why".to_owned()));
    }

    #[test]
    fn url_for_a_standby_or_with_too_few_ports_is_rejected_with_the_reason() {
        for (url, reason) in [
            ("postgres://a,b/db?target_session_attrs=standby", "use read-write"),
            ("postgres:///db?host=a,b,c&port=1,2", "3 hosts and 2 ports"),
            ("a,b", "no scheme"),
        ] {
            let error = of_each_server(url).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
