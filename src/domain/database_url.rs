//! Database URLs that name one server or several, as libpq writes them.
//!
//! `postgres://user@a:5432,b:5433/nas_cron?target_session_attrs=read-write`, or the hosts and ports as parameters:
//! `postgres:///nas_cron?host=a,b&port=5432,5433`. The driver knows one host, so each gets a URL of its own.

/// Supported values of `target_session_attrs`. The service always writes, so libpq's values that select a standby are
/// rejected.
const TARGETS: &[&str] = &["any", "read-write", "primary"];

/// Returns one URL for each server that `url` names, in its order. The error states the reason and contains no secrets.
pub fn of_each_server(url: &str) -> Result<Vec<String>, String> {
    let (scheme, rest) = url.split_once("://").ok_or("it has no scheme: begin with postgres://")?;
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match before_query.find('/') {
        Some(at) => before_query.split_at(at),
        None => (before_query, ""),
    };
    // The last `@`: a password may contain one.
    let (user, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    let mut parameters: Vec<(&str, &str)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
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
        (hosts.split(',').collect(), list("host"), list("port"));
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
            let query: Vec<_> = parameters
                .iter()
                .map(|(name, value)| match *name {
                    "host" => format!("host={}", of(&named, number)),
                    "port" => format!("port={}", of(&ports, number)),
                    name => format!("{name}={value}"),
                })
                .collect();
            let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
            format!("{scheme}://{user}{}{path}{query}", of(&in_authority, number))
        })
        .collect())
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
        ] {
            assert_eq!(of_each_server(url).unwrap(), expected, "{url}");
        }
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
