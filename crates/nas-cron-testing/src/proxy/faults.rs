//! What is wrong with the network at the moment.

use std::net::SocketAddr;
use std::time::Duration;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

/// What is wrong with the network at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// Where new connections lead.
    pub(super) to: SocketAddr,
    /// How many connections there have been: the number of the next one.
    pub(super) connections: u64,
    /// Connections with a smaller number carry nothing any more.
    pub(super) lost_before: u64,
    /// Connections with a smaller number hold back what they carry.
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

    /// Whether bytes of a connection are held back, to be passed on later.
    pub(super) fn holds(&self, connection: u64) -> bool {
        self.paused || connection < self.held_before
    }

    /// Whether bytes of a connection are swallowed on this way.
    pub(super) fn swallow(&self, connection: u64, way: Way) -> bool {
        connection < self.lost_before
            || match way {
                Way::Request => self.swallow_requests,
                Way::Reply => self.swallow_replies,
            }
    }

    /// Whether new bytes of any connection are swallowed on some way.
    pub(super) fn black_hole(&self) -> bool {
        self.swallow_requests || self.swallow_replies
    }
}
