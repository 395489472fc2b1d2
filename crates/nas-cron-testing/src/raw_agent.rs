//! A TCP listener that counts connections, and responds with the bytes and pauses that the test specifies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A step on a connection. The connection closes after the last one.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Reads until the request is complete.
    Read,
    /// Sends.
    Send(&'static str),
    /// Waits for a time, or until the other end closes.
    Pause(Duration),
    /// Sends a text at an interval until the other end closes.
    Drip(&'static str, Duration),
}

/// A running listener.
pub struct RawAgent {
    /// Address that it listens on.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl RawAgent {
    /// Listens on `address` and runs `steps` on every connection.
    pub async fn start(address: &str, steps: &'static [Step]) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // An error means that the other end has closed the connection.
                    let _ = play(stream, steps).await;
                });
            }
        });
        Ok(Self { address, connections })
    }

    /// Returns its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn play(mut stream: TcpStream, steps: &[Step]) -> std::io::Result<()> {
    for step in steps {
        match *step {
            Step::Read => {
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    if stream.read_buf(&mut request).await? == 0 {
                        return Ok(());
                    }
                }
            }
            Step::Send(text) => stream.write_all(text.as_bytes()).await?,
            Step::Pause(pause) => {
                let mut more = [0];
                if let Ok(Ok(0)) = tokio::time::timeout(pause, stream.read(&mut more)).await {
                    return Ok(());
                }
            }
            Step::Drip(text, every) => loop {
                tokio::time::sleep(every).await;
                stream.write_all(text.as_bytes()).await?;
            },
        }
    }
    Ok(())
}
