//! A TCP proxy that breaks as networks do: cut, black-holed in part or as a whole, slow, paused, or led elsewhere.
//!
//! In a black hole bytes are swallowed. Nothing is closed and nothing is reset, so that neither end notices. A
//! connection that has lost bytes carries none any more, not even after [`Proxy::heal`]: its two ends no longer agree
//! on what was said. It closes once its client has given it up and the fault is over; one that was lost by
//! [`Proxy::black_hole_existing`] never does, so that the server keeps its session.

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

/// A running proxy to one address. Ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    running: Mutex<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one on a free port.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let faults = watch::Sender::new(Faults::none(to));
        let running = Mutex::new(run(listener, faults.clone()));
        Self { address, faults, running }
    }

    /// Where it listens.
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

    /// Swallows what the connections of this moment carry from now on, for good. New ones work.
    pub fn black_hole_existing(&self) {
        self.faults.send_modify(|faults| faults.lost_before = faults.connections);
    }

    /// Swallows everything, also of new connections, which are accepted and never answered.
    pub fn black_hole(&self) {
        self.faults.send_modify(|faults| {
            faults.swallow_requests = true;
            faults.swallow_replies = true;
        });
    }

    /// Swallows what comes from the server, and passes on what goes to it.
    pub fn drop_replies(&self) {
        self.faults.send_modify(|faults| faults.swallow_replies = true);
    }

    /// Holds everything back, losing nothing, until [`Self::heal`].
    pub fn pause(&self) {
        self.faults.send_modify(|faults| faults.paused = true);
    }

    /// Holds back what the connections of this moment carry, losing nothing, until [`Self::heal`]: also what was sent on
    /// one that its client has closed by then. New ones work.
    pub fn hold_existing(&self) {
        self.faults.send_modify(|faults| faults.held_before = faults.connections);
    }

    /// Adds a round-trip time: half of it on each way, without reordering and without a limit on throughput.
    pub fn delay(&self, round_trip: Duration) {
        self.faults.send_modify(|faults| faults.one_way = round_trip / 2);
    }

    /// Leads new connections to another server. Those of this moment stay where they are.
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
        // Dropped with the task, and all connections with it.
        let mut connections = JoinSet::new();
        while let Ok((from, _)) = listener.accept().await {
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
