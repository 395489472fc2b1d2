//! The state of the emulator.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::faults::{ApiFault, DeliveryFault};
use super::{Settings, now};

/// Counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections to its API.
    pub connections: u64,
    /// Calls with an injected fault.
    pub faults: u64,
    /// Calls with a wrong token.
    pub unauthorized: u64,
    /// Messages that were accepted.
    pub published: u64,
    /// Publish calls that were duplicates.
    pub deduplicated: u64,
    /// Messages that were cancelled.
    pub cancelled: u64,
    /// Cancel calls for unknown messages.
    pub cancelled_nothing: u64,
    /// Delivery tries that were started.
    pub tries: u64,
    /// Messages that were delivered, each counted once.
    pub delivered: u64,
    /// Messages that failed after the last retry.
    pub failed: u64,
}

/// A message that waits for a delivery or a retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Message id.
    pub message_id: String,
    /// Destination.
    pub url: String,
    /// Time of the next try.
    pub due: DateTime<Utc>,
    /// Number of retries so far.
    pub retried: u32,
    /// Deduplication id.
    pub deduplication_id: Option<String>,
}

/// A message that has not been delivered.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub url: String,
    pub method: Method,
    /// Headers for the destination.
    pub headers: HeaderMap,
    pub body: Bytes,
    pub not_before: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub max_retries: u32,
    pub retry_delay: Option<Duration>,
    pub timeout: Duration,
    pub retried: u32,
    pub deduplication_id: Option<String>,
    /// Lower-case names of headers that the log redacts; `None` for all.
    pub redacted_headers: Option<Vec<String>>,
    pub redacted_body: bool,
    pub caller: String,
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub sequence: u64,
    pub time: DateTime<Utc>,
    pub state: &'static str,
    pub message: Message,
    pub next: Option<DateTime<Utc>>,
    pub error: Option<String>,
    pub response: Option<(u16, Bytes)>,
}

pub struct Store {
    pub current_key: String,
    pub next_key: String,
    pub api_fault: Option<(ApiFault, Option<u32>)>,
    pub delivery_fault: Option<DeliveryFault>,
    pub messages: HashMap<String, Message>,
    /// Message ids by due time, then in the order of their arrival.
    due: BTreeMap<(DateTime<Utc>, u64), String>,
    /// Positions of the messages in `due`.
    places: HashMap<String, (DateTime<Utc>, u64)>,
    deduplicated: HashMap<String, (String, DateTime<Utc>)>,
    pub log: VecDeque<Entry>,
    log_entries: usize,
    sequence: u64,
}

impl Store {
    pub fn new(settings: &Settings) -> Self {
        Self {
            current_key: settings.current_key.clone(),
            next_key: settings.next_key.clone(),
            api_fault: None,
            delivery_fault: None,
            messages: HashMap::new(),
            due: BTreeMap::new(),
            places: HashMap::new(),
            deduplicated: HashMap::new(),
            log: VecDeque::new(),
            log_entries: settings.log_entries,
            sequence: 0,
        }
    }

    fn sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub fn take_api_fault(&mut self) -> Option<ApiFault> {
        let (fault, times) = self.api_fault.as_mut()?;
        let fault = *fault;
        match times {
            None => {}
            Some(0) => {
                self.api_fault = None;
                return None;
            }
            Some(left) => *left -= 1,
        }
        Some(fault)
    }

    pub fn rotate_keys(&mut self) -> (String, String) {
        let fresh = format!("sig_{}", uuid::Uuid::new_v4().simple());
        self.current_key = std::mem::replace(&mut self.next_key, fresh);
        (self.current_key.clone(), self.next_key.clone())
    }

    /// Returns the message with this deduplication id, within the window.
    pub fn duplicate_of(&mut self, id: &str, window: Duration) -> Option<String> {
        let (message_id, at) = self.deduplicated.get(id)?;
        ((now() - *at).to_std().unwrap_or_default() < window).then(|| message_id.clone())
    }

    pub fn take(&mut self, message: Message) {
        if let Some(id) = &message.deduplication_id {
            self.deduplicated.insert(id.clone(), (message.id.clone(), message.created_at));
        }
        self.note("CREATED", &message, |entry| entry.next = Some(message.not_before));
        self.schedule(&message.id, message.not_before);
        self.messages.insert(message.id.clone(), message);
    }

    pub fn schedule(&mut self, id: &str, at: DateTime<Utc>) {
        let place = (at, self.sequence());
        self.due.insert(place, id.to_owned());
        if let Some(before) = self.places.insert(id.to_owned(), place) {
            self.due.remove(&before);
        }
    }

    /// Cancels a message. Returns true if it existed.
    pub fn cancel(&mut self, id: &str) -> bool {
        let Some(message) = self.messages.remove(id) else { return false };
        if let Some(place) = self.places.remove(id) {
            self.due.remove(&place);
        }
        self.note("CANCEL_REQUESTED", &message, |_| ());
        self.note("CANCELLED", &message, |_| ());
        true
    }

    /// Removes and returns the message that is due, or returns the time until the next one.
    pub fn next(&mut self) -> Next {
        let early = match self.delivery_fault {
            Some(DeliveryFault::Never) => return Next::Nothing,
            Some(DeliveryFault::Early(millis)) => TimeDelta::milliseconds(millis.into()),
            Some(DeliveryFault::Twice) | None => TimeDelta::zero(),
        };
        let Some((&(at, sequence), _)) = self.due.first_key_value() else { return Next::Nothing };
        let wait = at - early - now();
        if wait > TimeDelta::zero() {
            return Next::In(wait.to_std().unwrap_or_default());
        }
        let id = self.due.remove(&(at, sequence)).expect("it was just seen");
        self.places.remove(&id);
        Next::Now(id, self.delivery_fault == Some(DeliveryFault::Twice))
    }

    pub fn pending(&self) -> Vec<Pending> {
        let pending = self.due.iter().filter_map(|((due, _), id)| {
            let message = self.messages.get(id)?;
            Some(Pending {
                message_id: id.clone(),
                url: message.url.clone(),
                due: *due,
                retried: message.retried,
                deduplication_id: message.deduplication_id.clone(),
            })
        });
        pending.collect()
    }

    pub fn note(&mut self, state: &'static str, message: &Message, more: impl FnOnce(&mut Entry)) {
        let mut entry = Entry {
            sequence: self.sequence(),
            time: now(),
            state,
            message: message.clone(),
            next: None,
            error: None,
            response: None,
        };
        more(&mut entry);
        self.log.push_back(entry);
        if self.log.len() > self.log_entries {
            self.log.pop_front();
        }
    }
}

/// The next step of the delivery loop.
pub enum Next {
    /// Wait until something changes.
    Nothing,
    /// Wait this long.
    In(Duration),
    /// Deliver this message; twice if the flag is true.
    Now(String, bool),
}
