//! Reads QStash's log, the only source of the results of direct calls.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use url::form_urlencoded;

use super::Qstash;
use super::account::{Account, message_path};
use crate::backends::BackendError;

/// Maximum length of one page, in bytes.
const MAX_PAGE: usize = 1 << 20;
/// Messages in one call. With two retries, each has about ten entries.
const MESSAGES_PER_CALL: usize = 20;
/// Entries in one page. More than 100 are not guaranteed.
const ENTRIES_PER_PAGE: usize = 100;
/// Maximum pages that are read for the messages of one call.
const PAGES: usize = 5;

/// The result of a direct call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectEnd {
    /// The agent answered 2xx.
    Delivered {
        /// Time of the end, by QStash's clock.
        at: DateTime<Utc>,
    },
    /// All tries have failed, or the agent answered that a retry is pointless.
    Failed {
        /// Time of the end, by QStash's clock.
        at: DateTime<Utc>,
        /// The last HTTP status of the agent, if it answered.
        status: Option<u16>,
    },
    /// The call was cancelled in time.
    Cancelled {
        /// Time of the end, by QStash's clock.
        at: DateTime<Utc>,
    },
}

#[derive(Deserialize)]
struct Page {
    cursor: Option<String>,
    /// The SDKs use one name, the documentation the other.
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
    /// Returns the results of the direct calls with these names, from the logs of the accounts that may hold them. See
    /// [`Account::direct_ends`].
    pub async fn direct_ends(
        &self,
        names: &[String],
        since: DateTime<Utc>,
    ) -> Result<HashMap<String, DirectEnd>, BackendError> {
        let mut ends = HashMap::new();
        for account in self.accounts() {
            let held: HashMap<&str, &String> = names
                .iter()
                .filter_map(|name| {
                    let (holders, id) = self.holders(name);
                    holders.iter().any(|holder| std::ptr::eq(*holder, account)).then_some((id, name))
                })
                .collect();
            let ids: Vec<String> = held.keys().map(|id| (*id).to_owned()).collect();
            let found = account.direct_ends(&ids, since).await?;
            ends.extend(
                found.into_iter().filter_map(|(id, end)| Some(((*held.get(id.as_str())?).clone(), end))),
            );
        }
        Ok(ends)
    }
}

impl Account {
    /// Returns the results of the direct calls with these message ids, from the entries of QStash's log since `since`.
    /// A call without a result is still in flight, or older than the log (a few days, and 10,000 entries of the whole
    /// account on small plans).
    ///
    /// Makes one call to QStash per 20 messages and page, one after the other, each with its own timeout.
    async fn direct_ends(
        &self,
        message_ids: &[String],
        since: DateTime<Utc>,
    ) -> Result<HashMap<String, DirectEnd>, BackendError> {
        let mut ends = HashMap::new();
        // An empty id would select the log of all messages.
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
                // An unchanged cursor would return the same page forever.
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
        self.get(&path, MAX_PAGE).await?.log()
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
        // The agent's status is in the entry of each try, not in that of the end. The last try counts.
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
    // "Delivered" takes precedence over any other end.
    let slot = ends.entry(entry.message_id.clone()).or_insert(end);
    if matches!(end, DirectEnd::Delivered { .. }) {
        *slot = end;
    }
}

/// Parses milliseconds since 1970 from a number or, in older responses, a string.
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
    millis
        .and_then(DateTime::from_timestamp_millis)
        .ok_or_else(|| serde::de::Error::custom("invalid timestamp"))
}
