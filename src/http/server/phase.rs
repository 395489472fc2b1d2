//! The phase of one connection: what it waits for, since when, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Closed;

/// Deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the first byte of a request (of the first one: from the accept) to its last, whatever arrives between.
    pub request: Duration,
    /// From the last byte of a response to the first byte of the next request.
    pub idle: Duration,
    /// The time in which something of a response must be taken.
    pub stall: Duration,
    /// From the first byte of a response to its last.
    pub response: Duration,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waits {
    /// For the caller to send the rest of a request.
    Request,
    /// For the caller to send another request.
    Idle,
    /// For the caller to take a response.
    Response,
    /// For a handler of ours.
    Handler,
}

/// What a connection is waiting for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) waits: Waits,
    pub(super) since: Instant,
}

/// The number of a request of a connection.
pub(super) type Number = u64;

/// How far the body of the request under way has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// More of it may come, and no handler waits for it now.
    Open,
    /// A handler waits for more of it.
    Wanted,
    /// It is complete, or not wanted any more: what arrives then belongs to the next request.
    Ended,
}

/// See the module. Pure: it is told what happens, and when.
#[derive(Debug)]
pub(super) struct Phase {
    /// Several requests at once: bytes tell nothing of where one begins.
    is_http2: bool,
    next: Number,
    /// The requests under way, with the instant at which their response began.
    requests: BTreeMap<Number, Option<Instant>>,
    /// Of the request that is not complete.
    began: Option<Instant>,
    body: Arrival,
    /// The next request has begun before the response to this one is sent.
    is_ahead: bool,
    /// The last response is not yet handed to the system; it began at this instant.
    unsent: Option<Instant>,
    progress: Instant,
    idle_since: Instant,
}

impl Phase {
    /// A connection that was accepted at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_http2: false,
            next: 0,
            requests: BTreeMap::new(),
            began: Some(now),
            body: Arrival::Open,
            is_ahead: false,
            unsent: None,
            progress: now,
            idle_since: now,
        }
    }

    /// Bytes arrived.
    pub(super) fn received(&mut self, now: Instant) {
        if self.is_http2 {
            return;
        }
        if !self.requests.is_empty() || self.unsent.is_some() {
            self.is_ahead |= self.body == Arrival::Ended;
        } else if self.began.is_none() {
            self.began = Some(now);
        }
    }

    /// Bytes were taken over by the system for sending.
    pub(super) fn sent(&mut self, now: Instant) {
        self.progress = now;
    }

    /// Everything there was to send has been taken over.
    pub(super) fn flushed(&mut self, now: Instant) {
        if self.unsent.take().is_some() {
            self.rest(now);
        }
    }

    /// The head of a request is complete. Returns the request's number.
    pub(super) fn request(&mut self, is_http2: bool, has_body: bool, now: Instant) -> Number {
        self.is_http2 = is_http2;
        self.unsent = None;
        if is_http2 {
            self.began = None;
        } else {
            self.began.get_or_insert(now);
            self.body = if has_body { Arrival::Open } else { Arrival::Ended };
            self.is_ahead = false;
        }
        let number = self.next;
        self.next += 1;
        self.requests.insert(number, None);
        number
    }

    /// A handler waits for more of its request's body, or does not wait any more.
    pub(super) fn wants_body(&mut self, wants: bool) {
        // Several bodies at once are bounded by their routes.
        if !self.is_http2 && self.body != Arrival::Ended {
            self.body = if wants { Arrival::Wanted } else { Arrival::Open };
        }
    }

    /// The body is complete, or not wanted any more.
    pub(super) fn body_ended(&mut self) {
        self.body = Arrival::Ended;
    }

    /// The response to a request begins.
    pub(super) fn response(&mut self, number: Number, now: Instant) {
        if let Some(began) = self.requests.get_mut(&number) {
            *began = Some(now);
        }
    }

    /// A request is over: its response is written, or there will be none.
    pub(super) fn ended(&mut self, number: Number, now: Instant) {
        let began = self.requests.remove(&number).flatten();
        if !self.requests.is_empty() {
            return;
        }
        self.began = None;
        self.unsent = began.filter(|_| !self.is_http2);
        if self.unsent.is_none() {
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) {
        self.idle_since = now;
        if self.requests.is_empty() {
            self.began = self.is_ahead.then_some(now);
            self.is_ahead = false;
        }
    }

    /// A request arrived in the last moment: the connection is not idle any more.
    pub(super) fn not_idle(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// The instant at which the oldest response that is being sent began.
    fn oldest_response(&self) -> Option<Instant> {
        self.requests.values().flatten().copied().chain(self.unsent).min()
    }

    /// What it is waiting for.
    pub(super) fn place(&self) -> Place {
        let place = |waits, since| Place { waits, since };
        match (self.oldest_response(), self.began) {
            (Some(since), _) => place(Waits::Response, since),
            (None, Some(began)) if self.requests.is_empty() || self.body == Arrival::Wanted => {
                place(Waits::Request, began)
            }
            (None, None) if self.requests.is_empty() => place(Waits::Idle, self.idle_since),
            // Not told by its time: it is nobody's turn to be closed.
            _ => place(Waits::Handler, self.idle_since),
        }
    }

    /// When it is to be closed, and why, if nothing happens until then.
    pub(super) fn deadline(&self, times: &Times) -> Option<(Instant, Closed)> {
        let Place { waits, since } = self.place();
        match waits {
            Waits::Request => Some((since + times.request, Closed::Unfinished)),
            Waits::Idle => Some((since + times.idle, Closed::Idle)),
            Waits::Response => {
                let stalled = self.progress.max(since) + times.stall;
                Some((stalled.min(since + times.response), Closed::SlowReader))
            }
            Waits::Handler => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        request: Duration::from_secs(30),
        idle: Duration::from_secs(75),
        stall: Duration::from_secs(30),
        response: Duration::from_mins(2),
    };

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }

        /// The deadline in seconds since the beginning, and its reason.
        fn deadline(&self, phase: &Phase) -> Option<(u64, Closed)> {
            phase.deadline(&TIMES).map(|(at, reason)| ((at - self.0).as_secs(), reason))
        }
    }

    fn accepted() -> (Clock, Phase) {
        let clock = Clock(Instant::now());
        let phase = Phase::new(clock.0);
        (clock, phase)
    }

    #[test]
    fn bytes_of_a_first_head_do_not_move_its_deadline() {
        let (clock, mut phase) = accepted();
        assert_eq!(clock.deadline(&phase), Some((30, Closed::Unfinished)));
        phase.received(clock.at(29));
        assert_eq!(clock.deadline(&phase), Some((30, Closed::Unfinished)));
    }

    #[test]
    fn a_body_has_the_deadline_of_its_head_while_a_handler_waits_for_it() {
        let (clock, mut phase) = accepted();
        phase.request(false, true, clock.at(5));
        assert_eq!(clock.deadline(&phase), None, "the time of a handler is not the caller's");
        phase.wants_body(true);
        phase.received(clock.at(20));
        assert_eq!(clock.deadline(&phase), Some((30, Closed::Unfinished)));
        phase.body_ended();
        assert_eq!(clock.deadline(&phase), None);
    }

    #[test]
    fn a_connection_is_idle_from_its_last_response_on() {
        let (clock, mut phase) = accepted();
        let number = phase.request(false, false, clock.at(1));
        phase.response(number, clock.at(2));
        phase.ended(number, clock.at(3));
        assert_eq!(clock.deadline(&phase), Some((32, Closed::SlowReader)), "it is not sent yet");
        phase.flushed(clock.at(4));
        assert_eq!(clock.deadline(&phase), Some((79, Closed::Idle)));
        phase.received(clock.at(70));
        assert_eq!(clock.deadline(&phase), Some((100, Closed::Unfinished)), "the next request's first byte");
        phase.received(clock.at(99));
        assert_eq!(clock.deadline(&phase), Some((100, Closed::Unfinished)));
    }

    #[test]
    fn a_response_must_make_progress_and_end() {
        let (clock, mut phase) = accepted();
        let number = phase.request(false, false, clock.at(0));
        phase.response(number, clock.at(10));
        assert_eq!(clock.deadline(&phase), Some((40, Closed::SlowReader)));
        phase.sent(clock.at(39));
        assert_eq!(clock.deadline(&phase), Some((69, Closed::SlowReader)));
        phase.sent(clock.at(129));
        assert_eq!(clock.deadline(&phase), Some((130, Closed::SlowReader)), "dripping does not help");
    }

    #[test]
    fn a_request_that_begins_before_the_response_to_the_last_is_not_idle() {
        let (clock, mut phase) = accepted();
        let number = phase.request(false, false, clock.at(0));
        phase.received(clock.at(1));
        phase.response(number, clock.at(2));
        phase.ended(number, clock.at(2));
        phase.flushed(clock.at(2));
        assert_eq!(clock.deadline(&phase), Some((32, Closed::Unfinished)));
    }

    #[test]
    fn more_of_a_body_is_not_the_next_request() {
        let (clock, mut phase) = accepted();
        let number = phase.request(false, true, clock.at(0));
        phase.received(clock.at(1));
        phase.body_ended();
        phase.response(number, clock.at(2));
        phase.ended(number, clock.at(2));
        phase.flushed(clock.at(2));
        assert_eq!(clock.deadline(&phase), Some((77, Closed::Idle)));
    }

    #[test]
    fn http2_is_idle_only_without_streams_whatever_arrives() {
        let (clock, mut phase) = accepted();
        let one = phase.request(true, true, clock.at(1));
        let other = phase.request(true, false, clock.at(2));
        phase.response(one, clock.at(3));
        phase.ended(one, clock.at(4));
        assert_eq!(clock.deadline(&phase), None);
        phase.ended(other, clock.at(5));
        phase.received(clock.at(60));
        assert_eq!(clock.deadline(&phase), Some((80, Closed::Idle)));
    }
}
