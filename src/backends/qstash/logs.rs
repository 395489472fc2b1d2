//! QStash's log: the only place that tells how a direct call ended.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde::{Deserialize, Deserializer};
use url::form_urlencoded;

use super::{Qstash, message_path};
use crate::backends::BackendError;

/// How much is read of one page, in bytes.
const MAX_PAGE: usize = 1 << 20;
/// How many messages are asked for at once: with two retries they have about ten entries each.
const MESSAGES_PER_CALL: usize = 20;
/// How many entries are asked for at once: more than 100 are not promised.
const ENTRIES_PER_PAGE: usize = 100;
/// How many pages are read for the messages of one call.
const PAGES: usize = 5;

/// How a direct call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectEnd {
    /// The agent answered 2xx.
    Delivered {
        /// When, by QStash's clock.
        at: DateTime<Utc>,
    },
    /// All tries are used up, or the agent answered that another one is pointless.
    Failed {
        /// When, by QStash's clock.
        at: DateTime<Utc>,
        /// The last status of the agent, where it answered.
        status: Option<u16>,
    },
    /// It was taken back in time.
    Cancelled {
        /// When, by QStash's clock.
        at: DateTime<Utc>,
    },
}

#[derive(Deserialize)]
struct Page {
    cursor: Option<String>,
    /// One name in the SDKs, the other in the documentation.
    #[serde(alias = "logs")]
    events: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(deserialize_with = "milliseconds")]
    time: DateTime<Utc>,
    message_id: String,
    state: String,
    response_status: Option<u16>,
}

impl Qstash {
    /// How the direct calls with these names ended, as far as QStash's log knows it; who is not in the answer is still
    /// under way, or older than the log (a few days, and 10,000 entries of the whole account on small plans).
    ///
    /// Entries before `since` are not looked at. A call per 20 messages and page, one after the other, each with its own deadline.
    pub async fn direct_ends(
        &self,
        message_ids: &[String],
        since: DateTime<Utc>,
    ) -> Result<HashMap<String, DirectEnd>, BackendError> {
        let mut ends = HashMap::new();
        // A name that is none would ask for the log of everything.
        let named: Vec<&String> = message_ids.iter().filter(|id| message_path(id).is_some()).collect();
        for messages in named.chunks(MESSAGES_PER_CALL) {
            let wanted: HashSet<&str> = messages.iter().map(|id| id.as_str()).collect();
            let mut statuses: HashMap<String, (DateTime<Utc>, u16)> = HashMap::new();
            let mut cursor = None;
            for _ in 0..PAGES {
                let page = self.page(messages, since, cursor.as_deref()).await?;
                for entry in page.events.iter().filter(|entry| wanted.contains(entry.message_id.as_str())) {
                    note(entry, since, &mut ends, &mut statuses);
                }
                let all = messages.iter().all(|id| ends.contains_key(*id));
                // A cursor that stands still would show the same page for ever.
                if all || page.cursor.as_deref().is_none_or(str::is_empty) || page.cursor == cursor {
                    break;
                }
                cursor = page.cursor;
            }
            for (message_id, (_, last)) in statuses {
                if let Some(DirectEnd::Failed { status, .. }) = ends.get_mut(&message_id) {
                    status.get_or_insert(last);
                }
            }
        }
        Ok(ends)
    }

    async fn page(
        &self,
        messages: &[&String],
        since: DateTime<Utc>,
        cursor: Option<&str>,
    ) -> Result<Page, BackendError> {
        let path = page_path(messages, since, cursor);
        self.call(self.request(Method::GET, &path), MAX_PAGE).await?.json()
    }
}

fn page_path(messages: &[&String], since: DateTime<Utc>, cursor: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(messages.iter().map(|id| ("messageIds", id.as_str())));
    query.append_pair("fromDate", &since.timestamp_millis().to_string());
    query.append_pair("count", &ENTRIES_PER_PAGE.to_string());
    query.extend_pairs(cursor.map(|cursor| ("cursor", cursor)));
    format!("/v2/events?{}", query.finish())
}

fn note(
    entry: &Entry,
    since: DateTime<Utc>,
    ends: &mut HashMap<String, DirectEnd>,
    statuses: &mut HashMap<String, (DateTime<Utc>, u16)>,
) {
    let at = entry.time;
    if at < since {
        return;
    }
    let end = match entry.state.to_ascii_uppercase().as_str() {
        "DELIVERED" => DirectEnd::Delivered { at },
        "FAILED" => DirectEnd::Failed { at, status: entry.response_status },
        // The documentation spells it with two Ls, the SDKs with one.
        "CANCELLED" | "CANCELED" => DirectEnd::Cancelled { at },
        // The status of an agent is in the entry of the try, not in that of the end. The last try's counts.
        _ => {
            if let Some(status) = entry.response_status {
                let last = statuses.entry(entry.message_id.clone()).or_insert((at, status));
                if at >= last.0 {
                    *last = (at, status);
                }
            }
            return;
        }
    };
    // A call that was both delivered and something else was delivered.
    let slot = ends.entry(entry.message_id.clone()).or_insert(end);
    if matches!(end, DirectEnd::Delivered { .. }) {
        *slot = end;
    }
}

/// Milliseconds since 1970: a number, or (in older answers) its text.
fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Number(i64),
        Text(String),
    }
    let millis = match Time::deserialize(deserializer)? {
        Time::Number(millis) => Some(millis),
        Time::Text(text) => text.parse().ok(),
    };
    millis.and_then(DateTime::from_timestamp_millis).ok_or_else(|| serde::de::Error::custom("no instant"))
}
