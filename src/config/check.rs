//! Rules between settings: each is sound by itself, and together they would betray the contract.

use std::net::SocketAddr;

use nas_cron_protocol::HOSTED_CLIENT;
use url::{Host, Url};

use super::read::Reader;
use super::{BackendName, Backends, Config, PortalJwks};

/// Judges all of them.
pub(super) fn all(config: &Config, reader: &mut Reader<'_>) {
    addresses(config, reader);
    portal(reader);
    own_portal(config.portal.jwks == PortalJwks::Own, reader);
    own_audience(config, reader);
    directory(config, reader);
    introspection(config, reader);
    leases(config, reader);
    times(config, reader);
    backends(&config.backends, reader);
}

/// Those about who wakes us.
pub(super) fn backends(backends: &Backends, reader: &mut Reader<'_>) {
    reader.rule(
        &["backend"],
        match backends.first {
            BackendName::Postgres => true,
            BackendName::Qstash | BackendName::QstashDirect => reader.is_given("qstash_token"),
            BackendName::Nats => reader.is_given("nats_urls"),
        },
        "that backend is not configured",
        "set qstash_token and qstash_current_signing_key for QStash, nats_urls for NATS, or leave it at postgres",
    );
    let safe = backends.qstash.as_ref().is_none_or(|qstash| keeps_secrets(qstash.url.url()));
    reader.rule(
        &["qstash_url"],
        safe,
        "the token would be sent in the clear",
        "write an https URL (http is for loopback only)",
    );
    let keys = ["qstash_token", "qstash_current_signing_key"].map(|key| reader.is_given(key));
    reader.rule(
        &["qstash_token"],
        keys[1] || !keys[0],
        "QStash's calls could not be told from a stranger's",
        "set qstash_current_signing_key too",
    );
    reader.rule(
        &["qstash_token"],
        !keys[0] || reader.has("relay_url"),
        "QStash could not be told where to call us",
        "set relay_url, or public_url or portal_url that it is derived from",
    );
    let both = ["nats_certificate_file", "nats_key_file"].map(|key| reader.is_given(key));
    reader.rule(
        &["nats_certificate_file"],
        both[0] == both[1] || !both[0],
        "a certificate is no use without its key",
        "set nats_key_file too",
    );
    reader.rule(
        &["nats_key_file"],
        both[0] == both[1] || !both[1],
        "a key is no use without its certificate",
        "set nats_certificate_file too",
    );
}

/// Whether what is sent there cannot be read on the way.
pub(super) fn keeps_secrets(url: &Url) -> bool {
    let local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    url.scheme() == "https" || local
}

fn addresses(config: &Config, reader: &mut Reader<'_>) {
    let http = &config.http;
    reader.rule(
        &["listen", "metrics_listen"],
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

fn portal(reader: &mut Reader<'_>) {
    let both = reader.is_given("portal_jwks_url") && reader.is_given("portal_jwks_file");
    reader.rule(
        &["portal_jwks_url", "portal_jwks_file"],
        !both,
        "both are set, and the portal's keys come from one place",
        "keep the URL to have them refreshed, or the file to pin them",
    );
}

/// Those about being the agents' portal. `own`: whether this service is.
pub(super) fn own_portal(own: bool, reader: &mut Reader<'_>) {
    for key in ["portal_jwks_url", "portal_jwks_file"] {
        reader.rule(
            &["own_portal", key],
            !own || !reader.is_given(key),
            "access tokens are verified with our own keys, and no others",
            "leave it out, or set own_portal to false if another portal issues the tokens",
        );
    }
    // A key that cannot be read is told by itself, and is unsound.
    reader.rule(
        &["own_portal"],
        !own || reader.has("key_encryption_key"),
        "the agents' refresh tokens are made of the key-encryption key, and it is not set",
        "set NAS_CRON_KEY_ENCRYPTION_KEY, or NAS_CRON_KEY_ENCRYPTION_KEY_FILE, everywhere to the same key; make one \
         with: openssl rand -base64 32",
    );
}

fn own_audience(config: &Config, reader: &mut Reader<'_>) {
    let audiences = &config.portal.audiences;
    reader.rule(
        &["own_portal", "portal_audiences"],
        config.portal.jwks != PortalJwks::Own
            || audiences.is_empty()
            || audiences.iter().any(|one| one == HOSTED_CLIENT),
        "the audience of our own access tokens is not among them",
        &format!("add {HOSTED_CLIENT} to portal_audiences, or leave it out"),
    );
}

fn directory(config: &Config, reader: &mut Reader<'_>) {
    let asked = reader.is_word("directory", "lookup");
    for (key, what) in [("lookup_url", "where to ask"), ("lookup_token", "as whom to ask")] {
        reader.rule(
            &["directory"],
            !asked || reader.is_given(key),
            &format!("the portal is to be asked, and {key} does not say {what}"),
            &format!("set {key} too, or leave directory at table"),
        );
    }
    reader.rule(
        &["lookup_url"],
        asked || !reader.is_given("lookup_url"),
        "nobody would ask there, as directory is table",
        "set directory to lookup, or take lookup_url away",
    );
    reader.rule(
        &["own_portal", "directory"],
        !asked || config.portal.jwks != PortalJwks::Own,
        "this service is the portal, and its own table knows its agents",
        "leave directory at table, or set own_portal to false if another portal has the agents",
    );
    let Some(lookup) = &config.portal.lookup else { return };
    reader.rule(
        &["lookup_url"],
        keeps_secrets(&lookup.url),
        "lookup_token would be sent in the clear",
        "write an https URL (http is for loopback only)",
    );
    reader.rule(
        &["lookup_negative_ttl", "lookup_ttl"],
        lookup.negative_ttl <= lookup.ttl,
        "a no would be believed for longer than a yes, and an agent stops calling after one",
        "lower lookup_negative_ttl",
    );
    reader.rule(
        &["lookup_ttl", "lookup_stale"],
        lookup.ttl <= lookup.stale,
        "an answer would be too old for an outage before it is too old for every day",
        "raise lookup_stale or lower lookup_ttl",
    );
}

fn introspection(config: &Config, reader: &mut Reader<'_>) {
    let keys = ["introspection_url", "introspection_client_id", "introspection_client_secret"];
    let given = keys.map(|key| reader.is_given(key));
    for (key, is_given) in keys.into_iter().zip(given) {
        reader.rule(
            &[key],
            !is_given || given == [true; 3],
            "introspection takes a URL, a client and its secret",
            "set introspection_url, introspection_client_id and introspection_client_secret, or none of them",
        );
    }
    reader.rule(
        &["own_portal", "introspection_url"],
        config.portal.jwks != PortalJwks::Own || !given[0],
        "this service issues the portal's tokens itself, and has nobody to ask about them",
        "take introspection_url away (further issuers have theirs in issuers_file), or set own_portal to false if \
         another portal issues the tokens",
    );
    if let Some(introspection) = &config.portal.introspection {
        reader.rule(
            &["introspection_url"],
            keeps_secrets(&introspection.url),
            "agents' tokens would be sent in the clear",
            "write an https URL (http is for loopback only)",
        );
    }
    reader.rule(
        &["issuers_file", "portal_url"],
        config.portal.issuers.iter().all(|other| other.issuer != config.portal.url.as_str()),
        "the portal is among the further issuers, and a token could be judged by the rules of either",
        "take that table out of the file: the portal's rules are settings of their own",
    );
}

fn leases(config: &Config, reader: &mut Reader<'_>) {
    reader.rule(
        &["lease_margin"],
        config.lease_lengths().outlast_attempts_of(config.fire.timeout),
        "a lease could end before its attempt's deadline, and a second attempt start beside it",
        "set lease_margin to 1s or more",
    );
    reader.rule(
        &["lease_capacity", "in_flight_max"],
        config.lease.capacity >= config.fire.in_flight_max,
        "a replica could never have that many attempts under way, as each needs a lease",
        "raise lease_capacity or lower in_flight_max",
    );
}

fn times(config: &Config, reader: &mut Reader<'_>) {
    let (fire, retry, second) = (&config.fire, &config.retry, &config.second_fire);
    reader.rule(
        &["connect_timeout", "fire_timeout"],
        fire.connect_timeout <= fire.timeout,
        "connecting is a part of the attempt",
        "lower connect_timeout or raise fire_timeout",
    );
    reader.rule(
        &["fire_timeout", "fire_token_ttl"],
        fire.timeout <= config.keys.fire_token_ttl,
        "an agent that boots during the attempt could find its token expired",
        "lower fire_timeout or raise fire_token_ttl (at most 120s)",
    );
    reader.rule(
        &["retry_definite_base", "retry_cap"],
        retry.definite_base <= retry.cap,
        "the first wait would be longer than the longest",
        "lower retry_definite_base or raise retry_cap",
    );
    reader.rule(
        &["retry_ambiguous_floor", "retry_cap"],
        retry.ambiguous_floor <= retry.cap,
        "the least wait would be longer than the longest",
        "lower retry_ambiguous_floor or raise retry_cap",
    );
    reader.rule(
        &["retry_cap", "retry_give_up_after"],
        retry.cap <= retry.give_up_after,
        "a fire could be given up before its next attempt",
        "lower retry_cap or raise retry_give_up_after",
    );
    reader.rule(
        &["second_fire_delay", "second_fire_interval"],
        second.delay <= second.interval,
        "the second fire would wait longer than the third",
        "lower second_fire_delay or raise second_fire_interval",
    );
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
