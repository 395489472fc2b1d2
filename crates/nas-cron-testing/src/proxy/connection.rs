//! One connection: two ways, each a reader that stamps what it reads and a writer that passes it on when it is time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::faults::{Faults, Way};

const CHUNK: usize = 16 * 1024;

/// Bytes under way, and when they arrive. An empty one is the end of the stream.
struct Parcel {
    arrives: Instant,
    bytes: Vec<u8>,
}

/// One connection through the proxy.
pub(super) struct Connection {
    number: u64,
    faults: watch::Receiver<Faults>,
    /// Set when bytes were swallowed: what follows them would make no sense.
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
            // A SYN into a black hole: the server never hears of it.
            self.broken.store(true, Ordering::Relaxed);
            let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
            return self.fault_over().await;
        }
        // Opening a connection takes a round trip, too.
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
            // One end has broken the connection. The other must not notice while its bytes are swallowed.
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
        // A shorter delay must not let later bytes overtake: one queue keeps the order.
        while let Some(Parcel { arrives, bytes }) = under_way.recv().await {
            sleep_until(arrives).await;
            let swallowed = {
                let current = faults.wait_for(|faults| !faults.holds(self.number)).await;
                current.map_or(true, |faults| faults.swallow(self.number, way))
            };
            if bytes.is_empty() {
                if swallowed || self.broken.load(Ordering::Relaxed) {
                    // An end that nobody may see. Once the fault is over the whole connection goes.
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

    /// Waits until a closing connection would be seen by its other end: never, for one that was lost.
    async fn fault_over(&self) {
        let visible = |faults: &Faults| faults.lost_before <= self.number && !faults.black_hole();
        // The sender goes with the proxy, and this task with it.
        let _ = self.faults.clone().wait_for(visible).await;
    }
}
