use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn policy(allow: &[&str]) -> AddressPolicy {
    AddressPolicy::new(allow.iter().map(|network| network.parse().expect(network)).collect())
}

/// Every block of the registries that must not be dialled, independent of the tables in the code. Public neighbours of a
/// block are checked, too.
const REFUSED: &[(&str, bool)] = &[
    // IPv4: network, and true if the addresses right before and after it are public.
    ("0.0.0.0/8", false),
    ("10.0.0.0/8", true),
    ("100.64.0.0/10", true),
    ("127.0.0.0/8", true),
    ("168.63.129.16/32", true),
    ("169.254.0.0/16", true),
    ("172.16.0.0/12", true),
    ("192.0.0.0/24", false),
    ("192.0.0.0/29", false),
    ("192.0.0.8/32", false),
    ("192.0.0.9/32", false),
    ("192.0.0.10/32", false),
    ("192.0.0.170/31", false),
    ("192.0.2.0/24", true),
    ("192.31.196.0/24", true),
    ("192.52.193.0/24", true),
    ("192.88.99.0/24", true),
    ("192.168.0.0/16", true),
    ("192.175.48.0/24", true),
    ("198.18.0.0/15", true),
    ("198.51.100.0/24", true),
    ("203.0.113.0/24", true),
    ("224.0.0.0/4", false),
    ("240.0.0.0/4", false),
    ("255.255.255.255/32", false),
    // IPv6
    ("::/128", false),
    ("::1/128", false),
    ("::/96", false),
    ("::ffff:0:0:0/96", false),
    ("64:ff9b:1::/48", false),
    ("100::/64", false),
    ("100:0:0:1::/64", false),
    ("2001::/23", false),
    ("2001::/32", false),
    ("2001:1::1/128", false),
    ("2001:1::2/128", false),
    ("2001:1::3/128", false),
    ("2001:2::/48", false),
    ("2001:3::/32", false),
    ("2001:4:112::/48", false),
    ("2001:10::/28", false),
    ("2001:20::/28", false),
    ("2001:30::/28", false),
    ("2001:db8::/32", true),
    ("2620:4f:8000::/48", true),
    ("3fff::/20", false),
    ("4000::/2", false),
    ("5f00::/16", false),
    ("8000::/1", false),
    ("fc00::/7", false),
    ("fd00:ec2::254/128", false),
    ("fe80::/10", false),
    ("fec0::/10", false),
    ("ff00::/8", false),
];

/// Returns the first and the last address of a network, and the addresses right before and after it.
fn edges(network: IpNet) -> (Vec<IpAddr>, Vec<IpAddr>) {
    match network {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let outside = [first.checked_sub(1), last.checked_add(1)];
            (
                [first, last].map(|bits| Ipv4Addr::from_bits(bits).into()).to_vec(),
                outside.into_iter().flatten().map(|bits| Ipv4Addr::from_bits(bits).into()).collect(),
            )
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let outside = [first.checked_sub(1), last.checked_add(1)];
            (
                [first, last].map(|bits| Ipv6Addr::from_bits(bits).into()).to_vec(),
                outside.into_iter().flatten().map(|bits| Ipv6Addr::from_bits(bits).into()).collect(),
            )
        }
    }
}

#[test]
fn every_special_block_is_refused_from_its_first_to_its_last_address() {
    let policy = AddressPolicy::default();
    for &(text, public_around) in REFUSED {
        let (inside, outside) = edges(text.parse().expect(text));
        for ip in inside {
            assert!(!policy.permits(ip), "{ip} of {text}");
        }
        for ip in outside.into_iter().filter(|_| public_around) {
            assert!(policy.permits(ip), "{ip} next to {text}");
        }
    }
}

#[test]
fn tables_in_the_code_contain_only_blocks_of_the_registries() {
    let known: Vec<IpNet> = REFUSED.iter().map(|(text, _)| text.parse().expect(text)).collect();
    let v4 = REFUSED_V4.iter().map(|&(ip, prefix, _)| IpNet::new(ip.into(), prefix));
    let v6 = REFUSED_V6.iter().map(|&(ip, prefix, _)| IpNet::new(ip.into(), prefix));
    for network in v4.chain(v6) {
        let network = network.expect("a prefix that fits");
        assert_eq!(network, network.trunc(), "a table names a block by its first address");
        assert!(known.contains(&network), "{network}");
    }
}

#[test]
fn public_unicast_addresses_are_permitted() {
    let policy = AddressPolicy::default();
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2001:200::1",
        "2a00:1450:4001:81b::200e",
        "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert!(policy.permits(ip(text)), "{text}");
    }
}

#[test]
fn embedded_ipv4_address_decides() {
    let policy = AddressPolicy::default();
    for (text, permitted) in [
        ("::ffff:8.8.8.8", true),
        ("::ffff:127.0.0.1", false),
        ("::ffff:169.254.169.254", false),
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b::10.0.0.1", false),
        ("64:ff9b::169.254.169.254", false),
        ("2002:808:808::1", true),
        ("2002:7f00:1::", false),
        ("2002:a9fe:a9fe::1", false),
        // Obsolete embeddings are always refused: IPv4-compatible and Teredo (here of 8.8.8.8).
        ("::8.8.8.8", false),
        ("::127.0.0.1", false),
        ("2001:0:808:808:0:ffff:f7f7:f7f7", false),
    ] {
        assert_eq!(policy.permits(ip(text)), permitted, "{text}");
    }
}

#[test]
fn allow_list_permits_exactly_its_networks() {
    let policy = policy(&["127.0.0.0/8", "fd12::/16", "::ffff:10.1.0.0/112"]);
    for text in ["127.0.0.1", "::ffff:127.9.9.9", "fd12::1", "10.1.2.3", "::ffff:10.1.2.3"] {
        assert!(policy.permits(ip(text)) && policy.allow_lists(ip(text)), "{text}");
    }
    for text in ["::1", "10.2.0.1", "::ffff:10.2.0.1", "fd13::1"] {
        assert!(!policy.permits(ip(text)) && !policy.allow_lists(ip(text)), "{text}");
    }
    // Public addresses stay permitted, but are not allow-listed.
    assert!(policy.permits(ip("8.8.8.8")) && !policy.allow_lists(ip("8.8.8.8")));
}

#[test]
fn urls_are_checked_by_scheme_and_literal_host() {
    use AddressError as E;
    let open = AddressPolicy::default();
    let local = policy(&["127.0.0.0/8", "::1/128"]);
    let loopback = || Some(E::NotPermitted(ip("127.0.0.1")));
    for (policy, url, wrong) in [
        (&open, "https://agent.example/base", None),
        (&open, "https://8.8.8.8/", None),
        (&open, "https://[2606:4700:4700::1111]:8443/", None),
        (&open, "http://agent.example/", Some(E::PlainHttp)),
        (&open, "http://8.8.8.8/", Some(E::PlainHttp)),
        (&open, "ftp://agent.example/", Some(E::Scheme("ftp".to_owned()))),
        (&open, "file:///etc/passwd", Some(E::Scheme("file".to_owned()))),
        (&open, "https://user@agent.example/", Some(E::Credentials)),
        (&open, "https://:secret@agent.example/", Some(E::Credentials)),
        // All the ways to write 127.0.0.1.
        (&open, "https://127.0.0.1/", loopback()),
        (&open, "https://127.1/", loopback()),
        (&open, "https://127.0.0.1./", loopback()),
        (&open, "https://0x7f.1/", loopback()),
        (&open, "https://0177.0.0.1/", loopback()),
        (&open, "https://2130706433/", loopback()),
        (&open, "https://2130706433./", loopback()),
        (&open, "https://0x7f.1./", loopback()),
        (&open, "https://0177.0.0.1./", loopback()),
        (&open, "https://127.0.0.1%2e/", loopback()),
        (&open, "https://127.0.0.1\u{3002}/", loopback()),
        (&open, "https://0x7f000001/", loopback()),
        (&open, "https://①②⑦.0.0.1/", loopback()),
        (&open, "https://%31%32%37.0.0.1/", loopback()),
        (&open, "https://[::1]/", Some(E::NotPermitted(ip("::1")))),
        (&open, "https://[::ffff:127.0.0.1]/", Some(E::NotPermitted(ip("::ffff:127.0.0.1")))),
        (&open, "https://169.254.169.254/latest", Some(E::NotPermitted(ip("169.254.169.254")))),
        (&open, "https://[fd00:ec2::254]/latest", Some(E::NotPermitted(ip("fd00:ec2::254")))),
        (&local, "http://127.0.0.1:9119/", None),
        (&local, "http://[::1]/", None),
        (&local, "https://127.0.0.1/", None),
        (&local, "https://8.8.8.8/", None),
        // An allow-list does not permit plain http to public addresses.
        (&local, "http://8.8.8.8/", Some(E::PlainHttp)),
        (&local, "http://10.0.0.1/", Some(E::NotPermitted(ip("10.0.0.1")))),
        // The resolver checks names over http: it returns allow-listed addresses only.
        (&local, "http://agent.example/", None),
    ] {
        assert_eq!(policy.check_url(&url.parse().expect(url)).err(), wrong, "{url}");
    }
}

proptest! {
    #[test]
    fn mapped_address_is_permitted_iff_its_ipv4_address_is(bits: u32, allowed: u32, prefix in 0u8..=32) {
        let v4 = Ipv4Addr::from_bits(bits);
        let network = Ipv4Net::new(Ipv4Addr::from_bits(allowed), prefix).unwrap();
        for policy in [AddressPolicy::default(), AddressPolicy::new(vec![network.into()])] {
            prop_assert_eq!(policy.permits(v4.to_ipv6_mapped().into()), policy.permits(v4.into()));
            prop_assert_eq!(policy.allow_lists(v4.to_ipv6_mapped().into()), policy.allow_lists(v4.into()));
        }
    }

    #[test]
    fn addresses_that_the_standard_library_calls_special_are_refused(bits: u32) {
        let v4 = Ipv4Addr::from_bits(bits);
        let special = v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(!(special && AddressPolicy::default().permits(v4.into())));
    }

    #[test]
    fn only_global_unicast_is_permitted_among_ipv6(bits: u128) {
        let v6 = Ipv6Addr::from_bits(bits);
        let special = v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
            || v6.is_multicast() || v6.is_unspecified();
        prop_assert!(!(special && AddressPolicy::default().permits(v6.into())));
    }

    #[test]
    fn allow_listed_address_is_permitted(bits: u128, prefix in 0u8..=128) {
        let v6 = Ipv6Addr::from_bits(bits);
        let network = IpNet::new(v6.into(), prefix).unwrap();
        prop_assume!(v6.to_ipv4_mapped().is_none());
        prop_assert!(AddressPolicy::new(vec![network]).permits(v6.into()));
    }
}
