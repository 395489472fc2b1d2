//! What it remembers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::faults::{ApiFault, DeliveryFault};
use super::{Settings, now};

/// What it has seen and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections to its API.
    pub connections: u64,
    /// Calls that were answered wrongly on purpose.
    pub faults: u64,
    /// Calls with a wrong token.
    pub unauthorized: u64,
    /// Messages that were taken.
    pub published: u64,
    /// Publishes of what was there already.
    pub deduplicated: u64,
    /// Messages that were taken back.
    pub cancelled: u64,
    /// Cancels of what was not there.
    pub cancelled_nothing: u64,
    /// Tries to deliver that were begun.
    pub tries: u64,
    /// Messages that were delivered, each once.
    pub delivered: u64,
    /// Messages that were given up.
    pub failed: u64,
}

/// Something that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Its name.
    pub message_id: String,
    /// Where it goes.
    pub url: String,
    /// When it is to be delivered (again).
    pub due: DateTime<Utc>,
    /// How often it was tried again.
    pub retried: u32,
    /// Its deduplication id.
    pub deduplication_id: Option<String>,
}

/// A message that is not delivered yet.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub url: String,
    pub method: Method,
    /// What is sent along.
    pub headers: HeaderMap,
    pub body: Bytes,
    pub not_before: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub max_retries: u32,
    pub retry_delay: Option<Duration>,
    pub timeout: Duration,
    pub retried: u32,
    pub deduplication_id: Option<String>,
    /// Lower-case names of headers that logs do not show; `None`: all.
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
    /// By instant, then in the order of their arrival.
    due: BTreeMap<(DateTime<Utc>, u64), String>,
    /// Where a message is in there.
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

    /// The message that has this deduplication id, within the window.
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

    /// Takes a message back; whether it was there.
    pub fn cancel(&mut self, id: &str) -> bool {
        let Some(message) = self.messages.remove(id) else { return false };
        if let Some(place) = self.places.remove(id) {
            self.due.remove(&place);
        }
        self.note("CANCEL_REQUESTED", &message, |_| ());
        self.note("CANCELLED", &message, |_| ());
        true
    }

    /// When the next one is due, and the name of what is due by now, which is not due any more.
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

/// What is to be done next.
pub enum Next {
    /// Nothing until something changes.
    Nothing,
    /// Something after this time.
    In(Duration),
    /// This one; and whether twice.
    Now(String, bool),
}
