//! The other end of a connection.

use std::net::IpAddr;

/// The address at the other end of the connection, in the extensions of each request. Behind a proxy it is the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);
