//! The faults of the network.

use std::net::SocketAddr;
use std::time::Duration;

/// A direction of transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

/// The current faults of the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// Destination of new connections.
    pub(super) to: SocketAddr,
    /// Number of connections so far, which is the number of the next one.
    pub(super) connections: u64,
    /// Connections with a smaller number lose all data.
    pub(super) lost_before: u64,
    /// Connections with a smaller number hold data back.
    pub(super) held_before: u64,
    pub(super) swallow_requests: bool,
    pub(super) swallow_replies: bool,
    pub(super) paused: bool,
    pub(super) one_way: Duration,
}

impl Faults {
    pub(super) fn none(to: SocketAddr) -> Self {
        Self {
            to,
            connections: 0,
            lost_before: 0,
            held_before: 0,
            swallow_requests: false,
            swallow_replies: false,
            paused: false,
            one_way: Duration::ZERO,
        }
    }

    /// True if bytes of a connection are held back and passed on later.
    pub(super) fn holds(&self, connection: u64) -> bool {
        self.paused || connection < self.held_before
    }

    /// True if bytes of a connection are dropped in this direction.
    pub(super) fn swallow(&self, connection: u64, way: Way) -> bool {
        connection < self.lost_before
            || match way {
                Way::Request => self.swallow_requests,
                Way::Reply => self.swallow_replies,
            }
    }

    /// True if bytes of new connections are dropped in any direction.
    pub(super) fn black_hole(&self) -> bool {
        self.swallow_requests || self.swallow_replies
    }
}
