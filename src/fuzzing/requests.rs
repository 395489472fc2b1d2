//! Values in requests: times, URLs, addresses, traces, JSON.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

use chrono::{DateTime, Datelike};
use ipnet::IpNet;
use nas_cron_protocol::{CallbackUrl, FireAt, NotAfter};
use url::Host;

use crate::domain::trace_context::TraceContext;
use crate::fire::address_policy::AddressPolicy;
use crate::fire::client::fire_url;

/// A time.
pub fn fire_at(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(at) = FireAt::parse(text) else { return };
    let instant = at.instant();
    assert_eq!(at.as_str(), text);
    assert!((1970..=9999).contains(&instant.year()), "{text}: {instant}");
    assert_eq!(instant.timestamp_subsec_nanos() % 1_000, 0, "{text}: {instant}");
    if let Ok(theirs) = DateTime::parse_from_rfc3339(text) {
        // Rounded up to the microsecond; chrono cuts off what is finer than a nanosecond.
        let later = instant.signed_duration_since(theirs).num_nanoseconds();
        assert!(
            later.is_some_and(|later| (0..=1_000).contains(&later)),
            "{text}: {instant}, chrono: {theirs}"
        );
    }
    assert!(NotAfter::parse(text, &at).is_ok(), "{text} is not before itself");
}

/// The URL of an agent. An accepted one has one host for every reader, and is dialled only at a public address.
pub fn callback_url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(callback) = CallbackUrl::parse(text) else { return };
    let url = callback.url();
    let again = CallbackUrl::parse(callback.as_str()).expect("a base is accepted, too");
    assert_eq!((again.as_str(), again.url()), (callback.as_str(), url));

    // RFC 3986, 3.2: the authority ends at a slash, a question mark or a number sign.
    let authority = callback.as_str().split_once("://").expect("a scheme").1;
    let authority = authority.split(['/', '?', '#']).next().expect("an authority");
    assert!(!authority.contains('@'), "credentials in {text}");
    let host = match authority.strip_prefix('[') {
        Some(literal) => literal.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.expect("a host");
    match url.host().expect("a host") {
        Host::Ipv6(ip) => assert_eq!(host.parse(), Ok(ip)),
        Host::Ipv4(ip) => assert_eq!(host, ip.to_string()),
        // Other names are converted: IDNA, and percent-encoded letters.
        Host::Domain(name) if host.is_ascii() && !host.contains('%') => {
            assert!(host.eq_ignore_ascii_case(name), "{host} is read as {name}");
        }
        Host::Domain(name) => assert!(name.is_ascii(), "{name}"),
    }

    let fire = fire_url(url);
    assert_eq!((fire.host(), fire.port()), (url.host(), url.port()));
    assert!(fire.path().ends_with("/api/cron/fire") && fire.query().is_none(), "{fire}");
    if AddressPolicy::default().check_url(url).is_ok() {
        assert_eq!(url.scheme(), "https");
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        assert!(!ip.is_some_and(is_internal), "{url} would be dialled");
    }
}

/// An address of 16 bytes, or of 4, and perhaps an allowed network: its prefix and its address.
pub fn address(data: &[u8]) {
    let Some((ip, rest)) = split_address(data) else { return };
    let network =
        rest.split_first().and_then(|(prefix, rest)| IpNet::new(split_address(rest)?.0, *prefix).ok());
    assert!(!(AddressPolicy::default().permits(ip) && is_internal(ip)), "{ip} would be dialled");
    if let Some(network) = network {
        let policy = AddressPolicy::new(vec![network]);
        assert!(!policy.allow_lists(ip) || policy.permits(ip), "{ip} is in {network}");
        if policy.permits(ip) && is_internal(ip) {
            // The network contains the address in the form in which it was given, or one that it stands for.
            let forms = [Some(ip), Some(ip.to_canonical()), embedded(ip).map(IpAddr::V4)];
            let mapped = |ip: IpAddr| match ip {
                IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
                v6 @ IpAddr::V6(_) => v6,
            };
            let inside = |ip: IpAddr| network.contains(&ip) || network.contains(&mapped(ip));
            assert!(forms.into_iter().flatten().any(inside), "{ip} is not in {network}");
        }
    }
}

fn split_address(data: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (kind, rest) = data.split_first()?;
    if kind % 2 == 0 {
        let (ip, rest) = rest.split_first_chunk::<4>()?;
        Some((IpAddr::from(*ip), rest))
    } else {
        let (ip, rest) = rest.split_first_chunk::<16>()?;
        Some((IpAddr::from(*ip), rest))
    }
}

/// True for addresses that the standard library knows to be no public unicast address, or that stand for one.
fn is_internal(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || first == 0
                || first >= 240
                || (first, second & 0xc0) == (100, 64)
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || embedded(IpAddr::V6(ip)).is_some_and(|ip| is_internal(IpAddr::V4(ip)))
        }
    }
}

/// The IPv4 address behind NAT64 or 6to4, from the text of the address.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let bytes = ip.octets();
    let nat64 = "64:ff9b::".parse::<Ipv6Addr>().expect("an address").octets();
    let from = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    if bytes[..12] == nat64[..12] {
        Some(from(12))
    } else if bytes[..2] == [0x20, 0x02] {
        Some(from(2))
    } else {
        None
    }
}

/// The header `traceparent`.
pub fn traceparent(data: &[u8]) {
    let Ok(header) = str::from_utf8(data) else { return };
    if let Some(context) = TraceContext::parse(header) {
        let written = context.to_string();
        assert_eq!(TraceContext::parse(&written), Some(context));
        assert_eq!(header[3..52], written[3..52], "the ids are kept");
    }
    let stored = TraceContext::stored(data);
    assert!(stored.is_none_or(|context| context.to_bytes() == data), "{stored:?}");
}

/// JSON that another program wrote.
pub fn json(data: &[u8]) {
    let Ok(text) = nas_cron_protocol::json::check(data, &["job_id", "auth"]) else { return };
    let value: serde_json::Value = serde_json::from_str(text).expect("what is accepted is JSON");
    let written = value.to_string();
    let again = nas_cron_protocol::json::check(written.as_bytes(), &["job_id", "auth"]);
    assert!(again.is_ok(), "{text} is written as {written}, which is refused");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).ok(), Some(value));
}
