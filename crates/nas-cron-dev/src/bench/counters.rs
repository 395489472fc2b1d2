//! The service's counter of deliveries: it shows when the last outcome of a burst is durable.
//!
//! The service counts a delivery when its outcome is durable. Nothing is read while fires are on their way: only before
//! the burst, and from its last arrival on.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use nas_cron_base::{duration, http_client};
use reqwest::{Client, Url};

const DELIVERED: &str = "nas_cron_fires_total{outcome=\"delivered\"} ";
const TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between two looks at the counter.
const POLL: Duration = Duration::from_millis(1);

/// The counters of all replicas of a service.
#[derive(Debug)]
pub(super) struct Counters(Vec<(Client, Url)>);

impl Counters {
    /// Creates a client of the metrics at these URLs, one for each replica. `None` without a URL.
    pub(super) fn new(urls: &[Url]) -> anyhow::Result<Option<Self>> {
        let client = |url: &Url| Ok((http_client::builder(url).timeout(TIMEOUT).build()?, url.clone()));
        let clients = urls.iter().map(client).collect::<anyhow::Result<Vec<_>>>()?;
        Ok((!clients.is_empty()).then_some(Self(clients)))
    }

    /// Returns the number of deliveries whose outcome is durable, over all replicas since their starts.
    pub(super) async fn delivered(&self) -> anyhow::Result<u64> {
        let counts = try_join_all(self.0.iter().map(|(http, url)| read(http, url))).await?;
        Ok(counts.into_iter().sum())
    }
}

/// The deliveries since a moment. Errors are reasons why they are unknown.
#[derive(Debug)]
pub(super) struct Deliveries<'a> {
    counters: &'a Counters,
    /// The count at that moment.
    before: u64,
}

impl<'a> Deliveries<'a> {
    /// Counts from now on.
    pub(super) async fn from_now(counters: Option<&'a Counters>) -> Result<Self, String> {
        let counters = counters.ok_or("name the metrics of each replica with --metrics-url")?;
        let before = counters.delivered().await.map_err(|error| format!("{error:#}"))?;
        Ok(Self { counters, before })
    }

    async fn count(&self) -> Result<u64, String> {
        let now = self.counters.delivered().await.map_err(|error| format!("{error:#}"))?;
        now.checked_sub(self.before).ok_or_else(|| "the service was restarted".to_owned())
    }

    /// Waits until there are so many. Fails after the time limit.
    pub(super) async fn reach(&self, expected: usize, limit: Duration) -> Result<(), String> {
        let reached = async {
            while self.count().await? < expected as u64 {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        let late =
            || Err(format!("not all outcomes were durable {} after the last fire", duration::format(limit)));
        tokio::time::timeout(limit, reached).await.unwrap_or_else(|_| late())
    }

    /// Fails if there are more or fewer.
    pub(super) async fn are(&self, expected: usize) -> Result<(), String> {
        match self.count().await? {
            count if count == expected as u64 => Ok(()),
            count => Err(format!(
                "the service counted {count} deliveries of {expected} fires; does it fire for other agents, too?"
            )),
        }
    }
}

async fn read(http: &Client, url: &Url) -> anyhow::Result<u64> {
    let page = async { http.get(url.clone()).send().await?.error_for_status()?.text().await };
    let page = match page.await {
        Ok(page) => page,
        Err(error) => bail!("reading the metrics at {url} failed: {}", http_client::causes(error)),
    };
    delivered(&page)
        .with_context(|| format!("{url} has no counter of fires; is it a nas-cron's metrics_listen?"))
}

fn delivered(page: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(DELIVERED)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_read_from_the_page() {
        let page = "# TYPE nas_cron_fires_total counter\nnas_cron_fires_total{outcome=\"gone\"} 1\n\
                    nas_cron_fires_total{outcome=\"delivered\"} 5000\n";
        assert_eq!(delivered(page), Some(5000));
        assert_eq!(delivered("nas_cron_fires_total{outcome=\"gone\"} 1\n"), None);
    }

    #[tokio::test]
    async fn dead_metrics_are_reported_with_their_url() {
        let url: Url = "http://127.0.0.1:1/metrics".parse().unwrap();
        let counters = Counters::new(std::slice::from_ref(&url)).unwrap().unwrap();
        let error = format!("{:#}", counters.delivered().await.unwrap_err());
        assert!(error.contains("http://127.0.0.1:1/metrics failed") && error.contains("refused"), "{error}");
        assert!(Counters::new(&[]).unwrap().is_none());
    }
}
