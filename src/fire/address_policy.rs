//! The addresses that fires may be sent to: public unicast addresses, and the operator's allow-list.
//!
//! An agent chooses its own callback URL, so that URL is hostile input. Without this check it could make the service call
//! its own network (server-side request forgery), above all the cloud metadata service.
//!
//! The rules follow the IANA registries. In doubt an address is refused: only known public unicast addresses are allowed.
//! - [IPv4 special-purpose addresses](https://www.iana.org/assignments/iana-ipv4-special-registry)
//! - [IPv4 multicast](https://www.iana.org/assignments/multicast-addresses)
//! - [IPv6 special-purpose addresses](https://www.iana.org/assignments/iana-ipv6-special-registry)
//! - [IPv6 address space](https://www.iana.org/assignments/ipv6-address-space): only `2000::/3` is global unicast
//!
//! A host name is checked where it is resolved (`fire::resolver`), so that the checked address is the dialled one. A
//! literal address never reaches a resolver; [`AddressPolicy::check_url`] checks it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use url::{Host, Url};

/// IPv4 blocks that are never dialled, with their names in the registry.
///
/// The list includes blocks that the registry calls globally reachable but that contain no agents (anycast sinks and
/// relays), and one platform address that is in no registry.
const REFUSED_V4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::UNSPECIFIED, 8, "\"this network\", RFC 791"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private use, RFC 1918"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared address space (CGNAT), RFC 6598"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback, RFC 1122"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "the host agent of Azure, seen by its machines only"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link local, RFC 3927; cloud metadata"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private use, RFC 1918"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "IETF protocol assignments, RFC 6890"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation (TEST-NET-1), RFC 5737"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "AS112-v4, RFC 7535"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "AMT, RFC 7450"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "deprecated 6to4 relay anycast, RFC 7526"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private use, RFC 1918"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "direct delegation AS112 service, RFC 7534"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking, RFC 2544"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation (TEST-NET-2), RFC 5737"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation (TEST-NET-3), RFC 5737"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast, RFC 5771"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved, RFC 1112, with the limited broadcast, RFC 8190"),
];

/// IPv6 blocks inside `2000::/3` that are never dialled. Addresses outside of it are refused anyway: unspecified, loopback,
/// IPv4-compatible, local-use NAT64, discard-only, unique local, link local, site local, multicast.
const REFUSED_V6: &[(Ipv6Addr, u8, &str)] = &[
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        23,
        "IETF protocol assignments (Teredo, ORCHID, …), RFC 2928",
    ),
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32, "documentation, RFC 3849"),
    (Ipv6Addr::new(0x2620, 0x004f, 0x8000, 0, 0, 0, 0, 0), 48, "direct delegation AS112 service, RFC 7534"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation, RFC 9637"),
];

/// The rules for addresses that the service connects to.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allow: Vec<IpNet>,
}

/// Reasons for which a URL is refused. The texts are for operators and agents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The scheme is neither https nor http.
    #[error("unsupported scheme `{0}`: use an https URL")]
    Scheme(String),
    /// The scheme is http, and the address is not in the allow-list.
    #[error("plain http is only allowed for addresses in the allow-list: use an https URL")]
    PlainHttp,
    /// The URL contains a user name or a password, which would be sent instead of the fire token.
    #[error("the URL must not contain credentials")]
    Credentials,
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
    /// The host is a literal address that must not be dialled.
    #[error("the address {0} is neither public nor in the allow-list")]
    NotPermitted(IpAddr),
    /// The host name resolves only to addresses that must not be dialled. The text does not name the addresses: agents see
    /// it, and must not learn the addresses of the service's own network from it.
    #[error("the host name resolves to no address that is public or in the allow-list")]
    NameNotPermitted,
}

impl AddressPolicy {
    /// Permits public unicast addresses, and every address in `allow`.
    pub fn new(allow: Vec<IpNet>) -> Self {
        // Addresses are compared in their IPv4 form if they have one, so networks must be in this form, too.
        Self { allow: allow.into_iter().map(unmapped).collect() }
    }

    /// Returns true if `ip` may be dialled over https.
    ///
    /// An address that embeds an IPv4 address (IPv4-mapped, NAT64 `64:ff9b::/96`, 6to4 `2002::/16`) is judged by the
    /// embedded one, because packets are delivered there. The other embeddings, IPv4-compatible (`::/96`) and Teredo
    /// (`2001::/32`), are always refused: both are obsolete, and no agent is reachable through them.
    pub fn permits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if self.allow_lists(ip) {
            return true;
        }
        match ip {
            IpAddr::V4(v4) => is_public_v4(v4),
            IpAddr::V6(v6) => match embedded_v4(v6) {
                Some(v4) => self.permits(IpAddr::V4(v4)),
                None => is_public_v6(v6),
            },
        }
    }

    /// Returns true if `ip` is in the allow-list. Plain http requires it, see [`Self::check_url`].
    pub fn allow_lists(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.allow.iter().any(|network| network.contains(&ip))
    }

    /// Checks the URL itself: the scheme, credentials, and a host that is a literal address.
    ///
    /// Plain http is for networks that the operator trusts. It requires an allow-list that contains the dialled address: a
    /// literal host is checked here, a host name by the resolver.
    ///
    /// `Url` has already converted unusual spellings of IPv4 addresses (`0x7f.1`, `2130706433`, `127.1.`).
    pub fn check_url(&self, url: &Url) -> Result<(), AddressError> {
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            other => return Err(AddressError::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        let literal = match url.host() {
            None | Some(Host::Domain("")) => return Err(AddressError::NoHost),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
        };
        match literal {
            Some(ip) if !self.permits(ip) => Err(AddressError::NotPermitted(ip)),
            Some(ip) if plain && !self.allow_lists(ip) => Err(AddressError::PlainHttp),
            None if plain && self.allow.is_empty() => Err(AddressError::PlainHttp),
            _ => Ok(()),
        }
    }
}

/// Returns the IPv4 form of an IPv4-mapped network: `10.0.0.0/8` for `::ffff:10.0.0.0/104`.
fn unmapped(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && let Some(address) = v6.addr().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(address, prefix)
    {
        return IpNet::V4(v4);
    }
    network
}

/// Returns the IPv4 address behind a translator or tunnel: NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let inside = |network: Ipv4Addr, prefix: u8| (ip.to_bits() ^ network.to_bits()) >> (32 - prefix) == 0;
    !REFUSED_V4.iter().any(|&(network, prefix, _)| inside(network, prefix))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let inside = |network: Ipv6Addr, prefix: u8| (ip.to_bits() ^ network.to_bits()) >> (128 - prefix) == 0;
    let global_unicast = ip.segments()[0] >> 13 == 0b001;
    global_unicast && !REFUSED_V6.iter().any(|&(network, prefix, _)| inside(network, prefix))
}

#[cfg(test)]
mod tests;
