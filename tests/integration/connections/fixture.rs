//! One connection, on the level of bytes.

use std::time::{Duration, Instant};

use nas_cron_testing::time::PATIENCE;
use nas_cron_testing::world::World;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A raw connection to a listener.
pub struct Connection(pub TcpStream);

impl Connection {
    /// Connects to the host of a URL.
    pub async fn open(url: &str) -> Self {
        let host = url.trim_start_matches("http://").split('/').next().unwrap();
        Self(TcpStream::connect(host).await.unwrap())
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads the next response and returns its status; `None` if the connection is closed instead.
    pub async fn status(&mut self) -> Option<u16> {
        timeout(PATIENCE, self.response()).await.expect("a response or a close")
    }

    async fn response(&mut self) -> Option<u16> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.expect("a length").parse().unwrap()];
        self.0.read_exact(&mut body).await.ok()?;
        Some(head[9..12].parse().unwrap())
    }

    /// Waits until the server closes the connection, and returns the time that this took. Ignores received bytes.
    pub async fn closed(&mut self) -> Duration {
        let began = Instant::now();
        let mut bytes = vec![0; 1 << 16];
        let closing = async { while !matches!(self.0.read(&mut bytes).await, Ok(0) | Err(_)) {} };
        timeout(PATIENCE, closing).await.expect("it is closed");
        began.elapsed()
    }
}

/// Returns the bytes of a request that provisions a job of `inst-1` far in the future.
pub fn provision(world: &World, job: &str) -> Vec<u8> {
    let body = json!({
        "job_id": job, "fire_at": "2099-01-01T00:00:00+00:00", "agent_callback_url": world.callback(), "dedup_key": job,
    })
    .to_string();
    format!(
        "POST /api/agent-cron/provision HTTP/1.1\r\nHost: nas\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        world.token,
        body.len()
    )
    .into_bytes()
}

/// Returns the number of connections that were closed for this reason.
pub async fn closed_for(world: &World, listener: &str, reason: &str) -> u64 {
    let series = format!("nas_cron_connections_closed_total{{listener=\"{listener}\",reason=\"{reason}\"}} ");
    let page = world.service.metrics().await;
    let line = page.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series} in:\n{page}")).parse().unwrap()
}
