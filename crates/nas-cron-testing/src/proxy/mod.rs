//! A TCP proxy with the faults of networks: cut, black-holed in part or completely, slow, paused, or redirected.
//!
//! A black hole drops bytes. It closes or resets no connection, so that neither end notices. A connection that has lost
//! bytes carries no more, not even after [`Proxy::heal`], because its ends are out of step. It closes when its client has
//! closed it and the fault is over. A connection that was lost by [`Proxy::black_hole_existing`] never closes, so that
//! the server keeps its session.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

mod connection;
mod faults;

use connection::Connection;
use faults::Faults;

/// A running proxy to one address. Dropping it stops it.
pub struct Proxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    running: Mutex<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy on a free port.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let faults = watch::Sender::new(Faults::none(to));
        let running = Mutex::new(run(listener, faults.clone()));
        Self { address, faults, running }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection, and refuses new ones when this returns.
    pub async fn cut(&self) {
        let running = std::mem::replace(&mut *self.running.lock().unwrap(), tokio::spawn(async {}));
        running.abort();
        let _ = running.await;
    }

    /// Listens again after [`Self::cut`].
    pub async fn restore(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.running.lock().unwrap() = run(listener, self.faults.clone());
    }

    /// Drops all data of the existing connections from now on, permanently. New connections work.
    pub fn black_hole_existing(&self) {
        self.faults.send_modify(|faults| faults.lost_before = faults.connections);
    }

    /// Drops all data, also of new connections, which are accepted but get no response.
    pub fn black_hole(&self) {
        self.faults.send_modify(|faults| {
            faults.swallow_requests = true;
            faults.swallow_replies = true;
        });
    }

    /// Drops data from the server, and passes on data to it.
    pub fn drop_replies(&self) {
        self.faults.send_modify(|faults| faults.swallow_replies = true);
    }

    /// Holds all data back, without loss, until [`Self::heal`].
    pub fn pause(&self) {
        self.faults.send_modify(|faults| faults.paused = true);
    }

    /// Holds back the data of the existing connections, without loss, until [`Self::heal`], also for those that their
    /// client closes meanwhile. New connections work.
    pub fn hold_existing(&self) {
        self.faults.send_modify(|faults| faults.held_before = faults.connections);
    }

    /// Adds a round-trip time, half in each direction, without reordering and without a limit on throughput.
    pub fn delay(&self, round_trip: Duration) {
        self.faults.send_modify(|faults| faults.one_way = round_trip / 2);
    }

    /// Redirects new connections to another server. Existing connections are not affected.
    pub fn switch(&self, to: SocketAddr) {
        self.faults.send_modify(|faults| faults.to = to);
    }

    /// Ends black holes, pauses and delays.
    pub fn heal(&self) {
        self.faults.send_modify(|faults| {
            let Faults { to, connections, lost_before, .. } = *faults;
            *faults = Faults { connections, lost_before, ..Faults::none(to) };
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.get_mut().unwrap().abort();
    }
}

fn run(listener: TcpListener, faults: watch::Sender<Faults>) -> JoinHandle<()> {
    tokio::spawn(async move {
        // Dropping the task closes all connections.
        let mut connections = JoinSet::new();
        loop {
            // An error concerns one connection, or the descriptors of this process, and ends.
            let Ok((from, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let mut number = 0;
            faults.send_modify(|faults| {
                number = faults.connections;
                faults.connections += 1;
            });
            connections.spawn(Connection::new(number, faults.subscribe()).carry(from));
            while connections.try_join_next().is_some() {}
        }
    })
}
