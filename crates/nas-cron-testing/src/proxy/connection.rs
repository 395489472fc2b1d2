//! A connection through the proxy. Each direction has a reader, which timestamps bytes, and a writer, which passes them
//! on after the delay.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::faults::{Faults, Way};

const CHUNK: usize = 16 * 1024;

/// Bytes in transit and their arrival time. Without bytes it is the end of the stream.
struct Parcel {
    arrives: Instant,
    bytes: Vec<u8>,
}

/// A connection through the proxy.
pub(super) struct Connection {
    number: u64,
    faults: watch::Receiver<Faults>,
    /// True if bytes were dropped. Later bytes are then dropped, too.
    broken: AtomicBool,
}

impl Connection {
    pub(super) fn new(number: u64, faults: watch::Receiver<Faults>) -> Self {
        Self { number, faults, broken: AtomicBool::new(false) }
    }

    /// Carries bytes between `client` and the server until both have ended, or one end breaks.
    pub(super) async fn carry(self, mut client: TcpStream) {
        let faults = *self.faults.borrow();
        if faults.swallow(self.number, Way::Request) {
            // The SYN is lost in the black hole: the server does not see the connection.
            self.broken.store(true, Ordering::Relaxed);
            let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
            return self.fault_over().await;
        }
        // Opening a connection takes a round trip.
        tokio::time::sleep(faults.one_way * 2).await;
        let Ok(mut server) = TcpStream::connect(faults.to).await else { return };
        let _ = client.set_nodelay(true).and(server.set_nodelay(true));
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let ways = async {
            tokio::try_join!(
                self.way(Way::Request, client_reads, server_writes),
                self.way(Way::Reply, server_reads, client_writes),
            )
        };
        tokio::pin!(ways);
        if (&mut ways).await.is_err() {
            // One end has broken the connection. The other end must not notice while its bytes are dropped.
            self.fault_over().await;
        }
    }

    async fn way(
        &self,
        way: Way,
        reads: impl AsyncRead + Unpin,
        writes: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let (parcels, under_way) = mpsc::unbounded_channel();
        tokio::try_join!(self.read(reads, parcels), self.write(way, under_way, writes))?;
        Ok(())
    }

    async fn read(
        &self,
        mut reads: impl AsyncRead + Unpin,
        parcels: mpsc::UnboundedSender<Parcel>,
    ) -> io::Result<()> {
        loop {
            let mut bytes = vec![0; CHUNK];
            let count = reads.read(&mut bytes).await?;
            bytes.truncate(count);
            let arrives = Instant::now() + self.faults.borrow().one_way;
            if parcels.send(Parcel { arrives, bytes }).is_err() || count == 0 {
                return Ok(());
            }
        }
    }

    async fn write(
        &self,
        way: Way,
        mut under_way: mpsc::UnboundedReceiver<Parcel>,
        mut writes: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut faults = self.faults.clone();
        // One queue keeps the order when the delay becomes shorter.
        while let Some(Parcel { arrives, bytes }) = under_way.recv().await {
            sleep_until(arrives).await;
            let swallowed = {
                let current = faults.wait_for(|faults| !faults.holds(self.number)).await;
                current.map_or(true, |faults| faults.swallow(self.number, way))
            };
            if bytes.is_empty() {
                if swallowed || self.broken.load(Ordering::Relaxed) {
                    // The other end must not see this end of stream. After the fault, the whole connection closes.
                    self.fault_over().await;
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                return writes.shutdown().await;
            }
            if swallowed {
                self.broken.store(true, Ordering::Relaxed);
            }
            if !self.broken.load(Ordering::Relaxed) {
                writes.write_all(&bytes).await?;
            }
        }
        Ok(())
    }

    /// Waits until the other end can notice a closed connection. Never returns for a connection that was lost.
    async fn fault_over(&self) {
        let visible = |faults: &Faults| faults.lost_before <= self.number && !faults.black_hole();
        // An error means that the proxy was dropped; this task ends with it.
        let _ = self.faults.clone().wait_for(visible).await;
    }
}
