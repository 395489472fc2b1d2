//! POST/s to the sink without an HTTP library: the upper limit of every scheduler on this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use url::Url;

use super::{print, rate};

/// Length of a fire token, in bytes.
const TOKEN_LEN: usize = 540;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Posts for the period and prints the rate.
pub(super) async fn run(url: &Url, connections: usize, period: Duration) -> anyhow::Result<()> {
    print(&json!({ "posts_per_s": measure(url, connections, period).await? }))
}

async fn measure(url: &Url, connections: usize, period: Duration) -> anyhow::Result<f64> {
    let (host, port) = url.host_str().zip(url.port()).context("--url must have a host and a port")?;
    let address = format!("{host}:{port}");
    let body = r#"{"job_id":"c0","fire_at":"2026-01-01T00:00:00+00:00"}"#;
    let request = format!(
        "POST /a/0/api/cron/fire HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        "x".repeat(TOKEN_LEN),
        body.len()
    );
    let start = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..connections {
        running.spawn(post(address.clone(), request.clone(), start + period));
    }
    let mut count = 0;
    while let Some(ended) = running.join_next().await {
        count += ended.context("a connection panicked")??;
    }
    Ok(rate(count, start.elapsed()))
}

/// Posts over one connection and returns the number of responses.
async fn post(address: String, request: String, until: Instant) -> anyhow::Result<u64> {
    let mut stream =
        TcpStream::connect(&address).await.with_context(|| format!("{address} is unreachable"))?;
    stream.set_nodelay(true)?;
    let (mut response, mut count) = (Vec::with_capacity(1024), 0);
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await?;
        response.clear();
        // The sink's responses have no body.
        while !response.ends_with(END_OF_HEAD) {
            if stream.read_buf(&mut response).await? == 0 {
                bail!("the sink closed the connection");
            }
        }
        if !response.starts_with(b"HTTP/1.1 202") {
            bail!("the sink returned {}", String::from_utf8_lossy(&response));
        }
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use nas_cron_base::clock::SystemClock;

    use super::super::super::sink::Sink;
    use super::super::super::stage::Stage;
    use super::*;

    #[tokio::test]
    async fn posts_are_fires_of_the_expected_one_shot() {
        let (sink, _) = Sink::start(Arc::new(SystemClock)).unwrap();
        let url = sink.base_url().parse().unwrap();
        let error = measure(&url, 2, Duration::from_mins(1)).await.unwrap_err();
        assert!(format!("{error:#}").contains("the sink returned HTTP/1.1 404"), "{error:#}");
        let stage = Arc::new(Stage::new("c".to_owned(), 1, vec![DateTime::UNIX_EPOCH]));
        sink.expect(Arc::clone(&stage));
        assert!(measure(&url, 2, Duration::from_millis(50)).await.unwrap() > 0.0);
        assert_eq!(stage.left(), 0);
    }
}
