//! Where we are reached.

use std::net::SocketAddr;
use std::time::Duration;

use super::portal::issuer::PORTAL_URL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::urls::BaseUrl;
use crate::config::values;

/// Where we are reached.
#[derive(Clone, Debug)]
pub struct Http {
    /// By agents, the portal's backend and hosted schedulers.
    pub listen: SocketAddr,
    /// By Prometheus. Never the same as `listen`.
    pub metrics_listen: SocketAddr,
    /// Our base URL as seen from outside.
    pub public_url: BaseUrl,
    /// How long a connection without a request is kept open.
    pub idle_timeout: Duration,
}

settings! { Listening:
    LISTEN: Key<SocketAddr> = "listen", values::ADDRESS,
        Preset::Value("0.0.0.0:8080"),
        "Where agents, the portal's backend and hosted schedulers reach us. TLS ends in front of it.";
    METRICS_LISTEN: Key<SocketAddr> = "metrics_listen", values::ADDRESS,
        Preset::Value("0.0.0.0:9090"),
        "Where Prometheus scrapes /metrics. Not for the public.";
    PUBLIC_URL: Key<BaseUrl> = "public_url", values::BASE_URL,
        Preset::Derived { from: PORTAL_URL.setting, suffix: "", unless: None },
        "Our own base URL as seen from outside: for relay and for the JWKS. On the portal's host by default, where we are routed by path.";
    IDLE_TIMEOUT: Key<Duration> = "connection_idle_timeout", values::duration(values::s(1), values::HOUR),
        Preset::Value("75s"),
        "Idle timeout of callers' connections. Keep it above the load balancer's own, usually 60 s, so that no request meets a closing connection.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Http {
    Http {
        listen: reader.value(&LISTEN),
        metrics_listen: reader.value(&METRICS_LISTEN),
        public_url: reader.value(&PUBLIC_URL),
        idle_timeout: reader.value(&IDLE_TIMEOUT),
    }
}

pub(in crate::config) fn check(http: &Http, reader: &mut Reader<'_>) {
    reader.rule(
        &[LISTEN.setting, METRICS_LISTEN.setting],
        !clash(http.listen, http.metrics_listen),
        "cannot both have that port, and metrics are not for the public",
        "give metrics_listen another port",
    );
}

/// Whether binding both would fail or answer one in the place of the other.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    // Port 0 is any free one.
    one.port() != 0 && one.port() == other.port() && same_ip
}

#[cfg(test)]
mod tests {
    use super::clash;

    #[test]
    fn listeners_clash_on_the_same_port_of_overlapping_addresses() {
        let clashes = |one: &str, other: &str| clash(one.parse().unwrap(), other.parse().unwrap());
        assert!(clashes("0.0.0.0:8080", "0.0.0.0:8080"));
        assert!(clashes("0.0.0.0:8080", "127.0.0.1:8080"));
        assert!(clashes("[::]:8080", "0.0.0.0:8080"));
        assert!(!clashes("127.0.0.1:8080", "127.0.0.2:8080"));
        assert!(!clashes("0.0.0.0:8080", "0.0.0.0:9090"));
        assert!(!clashes("127.0.0.1:0", "127.0.0.1:0"));
    }
}
