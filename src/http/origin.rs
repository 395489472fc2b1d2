//! The origin of an operator's call, for the audit log and for limits.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::peer::Peer;

/// Maximum length of the origin that a caller's proxy names, in bytes.
const MAX_FORWARDED: usize = 64;

/// Returns the address at the other end of the connection.
pub(super) fn address(parts: &Parts) -> IpAddr {
    parts.extensions.get::<Peer>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0)
}

/// Returns where a call came from: the address of the connection, and the one that its proxy names. The latter is not
/// verified.
pub(super) fn origin(parts: &Parts) -> String {
    let address = address(parts);
    match forwarded_for(&parts.headers) {
        Some(client) => format!("{address}, forwarded for {client}"),
        None => address.to_string(),
    }
}

/// Returns the last address in `X-Forwarded-For`: the one that the nearest proxy has added.
fn forwarded_for(headers: &HeaderMap) -> Option<&str> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let client = last.rsplit(',').next()?.trim();
    let is_address = (1..=MAX_FORWARDED).contains(&client.len())
        && client.bytes().all(|b| b.is_ascii_alphanumeric() || b".:[]-_%".contains(&b));
    is_address.then_some(client)
}
