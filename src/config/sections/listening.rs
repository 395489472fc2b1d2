//! Listeners and the public URL.

use std::net::SocketAddr;
use std::time::Duration;

use super::portal::issuer::PORTAL_URL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, OptionalKey, settings};
use crate::config::urls::BaseUrl;
use crate::config::values;

/// Listeners and the public URL.
#[derive(Clone, Debug)]
pub struct Http {
    /// Address for agents, the portal backend and external scheduler backends.
    pub listen: SocketAddr,
    /// Address for Prometheus. Never the same as `listen`.
    pub metrics_listen: SocketAddr,
    /// Address for the admin API, if it is not on `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// Base URL of this service as seen from outside.
    pub public_url: BaseUrl,
    /// Time after which a connection without a request is closed.
    pub idle_timeout: Duration,
}

settings! { Listening:
    LISTEN: Key<SocketAddr> = "listen", values::ADDRESS,
        Preset::Value("0.0.0.0:8080"),
        "Listen address for agents, the portal backend and external scheduler backends. TLS is terminated in front of it.";
    METRICS_LISTEN: Key<SocketAddr> = "metrics_listen", values::ADDRESS,
        Preset::Value("0.0.0.0:9090"),
        "Listen address for Prometheus (/metrics). Do not expose it publicly.";
    ADMIN_LISTEN: OptionalKey<SocketAddr> = "admin_listen", values::ADDRESS,
        Preset::Unset { means: "on listen", example: "127.0.0.1:8081" },
        "Listen address of the admin API and the operators' page. If it is set, both are served only there; otherwise the admin API is on listen, and there is no operators' page.";
    PUBLIC_URL: Key<BaseUrl> = "public_url", values::BASE_URL,
        Preset::Derived { from: PORTAL_URL.setting, suffix: "", unless: None },
        "Base URL of this service as seen from outside, used for the relay and the JWKS. The default assumes that the portal's host routes nas-cron's paths to it.";
    IDLE_TIMEOUT: Key<Duration> = "connection_idle_timeout", values::duration(values::s(1), values::HOUR),
        Preset::Value("75s"),
        "Idle timeout of inbound connections. Keep it longer than the load balancer's idle timeout, usually 60 s, so that no request is sent on a closing connection.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Http {
    Http {
        listen: reader.value(&LISTEN),
        metrics_listen: reader.value(&METRICS_LISTEN),
        admin_listen: reader.optional(&ADMIN_LISTEN),
        public_url: reader.value(&PUBLIC_URL),
        idle_timeout: reader.value(&IDLE_TIMEOUT),
    }
}

pub(in crate::config) fn check(http: &Http, reader: &mut Reader<'_>) {
    reader.rule(
        &[LISTEN.setting, METRICS_LISTEN.setting],
        !clash(http.listen, http.metrics_listen),
        "both use the same port, and metrics must not be public",
        "give metrics_listen another port",
    );
    for (setting, other) in [(LISTEN.setting, http.listen), (METRICS_LISTEN.setting, http.metrics_listen)] {
        reader.rule(
            &[setting, ADMIN_LISTEN.setting],
            !http.admin_listen.is_some_and(|admin| clash(admin, other)),
            "both use the same port",
            "give admin_listen another port, or leave it out to serve the admin API on listen",
        );
    }
}

/// True if the listeners could not both be bound, or one would receive the other's requests.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    // Port 0 means any free port.
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
